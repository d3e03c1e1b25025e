"""What must hold of a recipe's tolerances, wherever they stand: at the top, beside a pass, in a target. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UNSET

from onnxbuild.parity.comparators import COMPARATORS
from onnxbuild.parity.tolerance import ATOL, RTOL, Tolerances
from onnxbuild.recipe.findings import Finding, Path
from onnxbuild.text.wording import did_you_mean

ANYTHING = 3.4e38  # about the largest float32
STRICT = ("exact",)  # comparators that allow nothing, and so need no reason


def check(path: Path, tolerances: Tolerances, outputs: Sequence[str] | None) -> Iterator[Finding]:
    """What is wrong with the tolerances at a path; `outputs` are the recipe's, None where those are not known."""
    yield from _of_all(path, tolerances)
    own_ones: dict[str, Any] = tolerances.outputs
    for name, own in own_ones.items():
        place = (*path, "outputs", name)
        if outputs is not None and name not in outputs:
            yield Finding(place, f"unknown output '{name}'", did_you_mean(name, outputs), key=True)
            continue
        yield from _allowing_anything(place, own)
        yield from _beside(place, own, outputs)
        if not _says(own.reason) and not _says(tolerances.reason):
            yield from _unreasoned(place, own)


def _of_all(path: Path, tolerances: Tolerances) -> Iterator[Finding]:
    yield from _allowing_anything(path, tolerances)
    if not _says(tolerances.reason):
        yield from _unreasoned(path, tolerances)


def _says(reason: str) -> bool:
    """Whether it says anything: a hint's dots are to be written over."""
    return any(character.isalnum() for character in reason)


def _allowing_anything(place: Path, own: Any) -> Iterator[Finding]:
    """Tolerances under which any graph would pass, or one of zeros."""
    if own.rtol is not UNSET and not own.rtol < 1:
        fact = f"rtol {own.rtol:g} allows anything: a graph that gives zeros would pass"
        yield Finding((*place, "rtol"), fact, "give less than 1; 1e-3 suits float32, 1e-2 float16")
    if own.atol is not UNSET and not own.atol < ANYTHING:
        fact = f"atol {own.atol:g} allows anything: no difference of float32 values is larger"
        yield Finding((*place, "atol"), fact, "give a small part of the output's own spread")


def _beside(place: Path, own: Any, outputs: Sequence[str] | None) -> Iterator[Finding]:
    """Comparators that name an output which there is not."""
    for name, module in COMPARATORS.items():
        options = getattr(own, name)
        if options is UNSET or not module.BESIDE or outputs is None:
            continue
        other = getattr(options, module.BESIDE)
        if other not in outputs:
            yield Finding((*place, name, module.BESIDE), f"unknown output '{other}'", did_you_mean(other, outputs))


def _unreasoned(place: Path, own: Any) -> Iterator[Finding]:
    """What is allowed beyond the default, and by what is not element by element, without saying why."""
    looser = [
        f"{name} {value:g} is looser than the default, {default:g}"
        for name, value, default, most in (("rtol", own.rtol, RTOL, 1), ("atol", own.atol, ATOL, ANYTHING))
        if value is not UNSET and default < value < most
    ]
    named = [name for name in COMPARATORS if name not in STRICT and getattr(own, name, UNSET) is not UNSET]
    whole = [f"{' and '.join(named)} {'do' if named[1:] else 'does'} not go element by element"] if named else []
    if found := [*looser, *whole]:
        hint = "say beside it why that is right, as reason: weights in float16; the report shows it"
        yield Finding(place, f"{' and '.join(found)}, and no reason is given", hint)
