"""The comparators that a recipe names for an output: what they measure of two arrays, and what that comes to. All must pass.

What is measured stands in a row of a parity's facts under `measured`, by comparator. Judging is pure and needs no numpy.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from onnxbuild.parity.comparators import COMPARATORS
from onnxbuild.parity.verdict import Gate

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Arrays, Json

TENTH = 20  # elements from which it is worth asking what the largest tenth of them amounts to
NEARLY = 1e-4  # from 1: digits enough that it does not look like 1
TIGHTER = 0.1  # of how far the model's results for other data are off: a figure that tells them apart


def parameters(name: str, options: Any) -> dict[str, Json]:
    """The part of a comparator's options that measuring needs."""
    found = {key: getattr(options, key) for key in COMPARATORS[name].PARAMETERS}
    return {key: value for key, value in found.items() if value is not UNSET}


def may_vary(asked: Mapping[str, Json]) -> int | None:
    """The axis, from the end, that need not be as long as the reference's, by every comparator that is asked for."""
    axes = {COMPARATORS[name].VARIES for name in asked}
    return axes.pop() if len(axes) == 1 else None


def measure(
    got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any], asked: Mapping[str, Json], beside: Arrays
) -> dict[str, Json]:
    """By comparator: its `figure` (infinities as strings), and why there is none, or why it proves nothing, or not all.

    `asked` are the parameters by comparator, `beside` the reference's outputs of the same case by name.
    """
    found = {}
    for name, given in asked.items():
        module = COMPARATORS[name]
        own = {key: beside[value] if key == module.BESIDE else value for key, value in given.items()}
        said = module.look(got, reference, **own)
        figure = 0.0 if said.refused else module.figure(got, reference, **own)
        found[name] = {"figure": _plain(figure), **said._asdict()}
        if module.LEAST == "min" and not said.refused and reference.size >= TENTH:
            found[name]["largest"] = _plain(module.figure(_largest(reference), reference, **own))
    return found


def _plain(figure: float) -> float | str:
    return figure if isfinite(figure) else str(figure)


def _largest(reference: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The tenth of all elements that is largest in magnitude, zeros in place of all other finite ones."""
    import numpy as np

    size = np.abs(reference.astype(np.float64))
    size = np.where(np.isfinite(size), size, 0.0).reshape(-1)
    kept = np.zeros(size.shape, bool)
    kept[np.argpartition(size, -(size.size // 10))[-(size.size // 10) :]] = True
    kept |= ~np.isfinite(reference.astype(np.float64)).reshape(-1)
    return np.where(kept.reshape(reference.shape), reference, np.zeros((), reference.dtype))


def judge(name: str, facts: Json, options: Any) -> Gate:
    """What a comparator's facts come to under its options."""
    module = COMPARATORS[name]
    least = _least(name, options)
    given = {key: value for key, value in msgspec.to_builtins(options).items() if value is not None}
    if facts["refused"]:
        return Gate(name, None, least, facts["refused"], given, passed=False)
    figure = float(facts["figure"])
    off, allowed = loss(name, figure), loss(name, least)
    used = off / allowed if allowed else float("inf") if off else 0.0
    shown = f"{_shown(figure)}{module.UNIT}"
    asked = f"{_shown(least)}{module.UNIT}"
    spare = figure - least
    left = (
        f", {_shown(abs(spare))}{module.UNIT} {'to spare' if spare >= 0 else 'short'}"
        if isfinite(spare) and spare
        else ""
    )
    largest = float(facts.get("largest", "-inf"))
    few = f"zeros in place of all but its largest tenth would pass: {name} {_shown(largest)}{module.UNIT}"
    few = "" if largest < least or facts["hollow"] else few
    return Gate(
        name,
        figure if isfinite(figure) else None,
        least,
        f"{name} {shown}, at least {asked}{left}",
        given,
        loss=off if isfinite(off) else None,
        used=used if isfinite(used) else None,
        passed=figure >= least,
        hollow=facts["hollow"],
        unseen=facts["unseen"],
        few=few,
    )


def _shown(figure: float) -> str:
    """A figure to six digits, with three more than its nines where it is nearly 1."""
    if 0 < 1 - figure < NEARLY:
        return f"{figure:.{2 - floor(log10(1 - figure))}f}".rstrip("0")
    return "∞" if figure == float("inf") else "-∞" if figure == -float("inf") else f"{figure:.6g}"


def of_loss(name: str, off: float) -> str:
    """The figure that is so far off, in its unit."""
    if not COMPARATORS[name].UNIT:
        return _shown(1 - off)
    return f"{_shown(-20 * log10(off) if off else float('inf'))}{COMPARATORS[name].UNIT}"


def loss(name: str, figure: float) -> float:
    """How far off a figure is, 0 being not at all: 1 less a share; of decibels the noise's amplitude over the signal's."""
    if not COMPARATORS[name].UNIT:
        return 1 - figure
    return 10 ** (-figure / 20) if figure > -6000 else float("inf")


def remedy(name: str, apart: Json) -> str:
    """A tolerance, as the recipe has it, that tells results apart whose facts these are; "" where no number would."""
    if COMPARATORS[name].LEAST != "min" or apart["refused"]:
        return ""
    off = loss(name, float(apart["figure"]))
    if not off or not isfinite(off):
        return ""
    return (
        f"{name}: {{min: {float(apart['figure']) + 20:.3g}}}"
        if COMPARATORS[name].UNIT
        else f"{name}: {{min: {1 - TIGHTER * off:.6g}}}"
    )


def script(name: str, options: Any) -> tuple[str, str, float]:
    """What shows it without onnxbuild: a function's source, the arguments it takes after the arrays, and the least figure.

    The other output that a comparator is handed is read from the case's file as `case`.
    """
    module = COMPARATORS[name]
    source = inspect.getsource(module.figure).replace("def figure(", f"def {name}_figure(", 1)
    given = parameters(name, options)
    told = [
        f'{key}=case["reference/" + {value!r}]' if key == module.BESIDE else f"{key}={value!r}"
        for key, value in given.items()
    ]
    return source, ", ".join(told), _least(name, options)


def _least(name: str, options: Any) -> float:
    field = COMPARATORS[name].LEAST
    return float(getattr(options, field)) if field else 1.0
