"""What a recipe for a model could say, found out by running it: a proposal, which the build proves or refuses.

Here the parts are put in order: an example that the model takes (`examples`), the axes that may change (`sizing`), their
names (`proposal`) and ranges (`ranges`), whether torch.export agrees (`proving`), and how much is rounding (`rounding`).
Imports torch at module level.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode  # what PyTorch's own documentation imports it from

from onnxbuild.contracts import Inspection, Interface, Json, Task
from onnxbuild.errors import StageError
from onnxbuild.sources import failures
from onnxbuild.sources.pytorch import (
    examples,
    loading,
    pretrained,
    programs,
    proposal,
    proving,
    ranges,
    rounding,
    sizing,
)
from onnxbuild.sources.pytorch.trials import Example, Place, Trials, tensors

DRAFT = {"integers": {"low": 0, "high": 2}}  # what any table of two rows takes
MASK = [1, 1, 0]
SHOWN = 12  # sizes told of one dimension


def inspect(task: Task) -> Inspection:
    """Run the model of `options["source"]["pytorch"]` at several sizes. Raises StageError.

    `options["given"]` are inputs by name, with dtype and shape, `options["example"]` names a function that gives some; where
    both are empty, inputs are made by what the model says of itself.
    """
    root = Path(task.root)
    with _quiet():
        with torch.no_grad():
            model, notes, program = loading.build(task.options["source"]["pytorch"], task.inputs, root)
        if program is not None:
            return _of_program(model, program, root, notes)
        given, example = task.options.get("given", {}), task.options.get("example", "")
        trials = _first(model, given, example, root)
        return _inspected(trials, root, [*notes, *trials.example.looked])


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no log records: those of a model at sizes that nobody asked for say nothing."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _of_program(model: torch.nn.Module, program: Any, root: Path, looked: list[str]) -> Inspection:
    """What an exported program says of itself, and how much of what it gives is rounding."""
    interface = programs.interface(program)
    inputs = {
        value.name: {"dtype": value.dtype, "shape": [interface.sizes.get(str(one), one) for one in value.shape or ()]}
        for value in interface.inputs
    }
    looked.append("the inputs and outputs, their axes and ranges are those of the exported program")
    example = Example(inputs, interface.arguments)
    try:
        trials = Trials(model, _with_data(model, example, root), root)
    except Exception as error:  # noqa: BLE001  # a program may ask more of its inputs than it says
        looked.append(f"it was not run: {failures.essence(error, root)}")
        return Inspection(interface, looked=looked)
    rtol, atol, told = rounding.tolerances(trials)
    data = {name: spec["data"] for name, spec in trials.example.inputs.items() if "data" in spec}
    return Inspection(interface, data, rtol, atol, looked=[*looked, *_of_data(data), told])


def _inspected(trials: Trials, root: Path, looked: list[str]) -> Inspection:
    names = proposal.output_names(trials)
    looked.append(f"gives {', '.join(f'{name} {[*trials.base[own].shape]}' for own, name in names.items())}")
    looked += [f"{name} of what it returns is no tensor, and left out" for name in trials.left_out]
    found = sizing.search(trials)
    made = proposal.proposal(trials, found)
    looked += _of_axes(made, found)
    looked += ranges.find(made)
    exporter, operators, more = proving.prove(made, list(names.values()), root)
    looked += more
    rtol, atol, told = rounding.tolerances(trials)
    data = {name: spec["data"] for name, spec in trials.example.inputs.items() if "data" in spec}
    looked += [*_of_data(data), told]
    interface: Interface = proposal.interface(made, names)
    return Inspection(interface, data, rtol, atol, exporter, operators, looked)


def _first(model: torch.nn.Module, given: Mapping[str, Json], example: str, root: Path) -> Trials:
    """The first example that the model takes, its values described. Raises StageError where it takes none."""
    failed: Exception | None = None
    for one in examples.candidates(model, given, example, root):
        try:
            return _cacheless(Trials(model, _with_data(model, one, root), root), root)
        except StageError as error:
            failed = failed if isinstance(failed, StageError) else error
        except Exception as error:  # noqa: BLE001  # a model's code may raise anything
            failed = failed or error
    if isinstance(failed, StageError):
        raise failed
    told = failures.explain(
        failed or ValueError("there is none"), "the model takes no example that could be made", root
    )
    raise StageError(told.fact, told.hint if given or example else examples.to_say(model))


def _cacheless(trials: Trials, root: Path) -> Trials:
    """The same without the cache that a decoder of transformers returns, where it can be left out."""
    if not trials.left_out and not any(name.startswith("past_key_values") for name in trials.base):
        return trials
    example = trials.example
    arguments = pretrained.without_cache(trials.model, list(example.inputs))
    if arguments is None:
        return trials
    looked = (*example.looked, "its cache is left out, use_cache: false")
    return Trials(trials.model, example._replace(arguments=arguments, looked=looked), root)


def _with_data(model: torch.nn.Module, example: Example, root: Path) -> Example:
    """The example with the values that its integers may have: below the length of the table that they go into."""
    plain = [name for name, spec in example.inputs.items() if "int" in spec["dtype"] and "data" not in spec]
    if not plain:
        return example
    draft = {name: {**spec, "data": DRAFT} if name in plain else spec for name, spec in example.inputs.items()}
    with _Tables() as tables:
        trials = Trials(model, example._replace(inputs=draft), root)
    inputs = trials.drawn(trials.sizes)
    for number, (name, spec) in enumerate(draft.items()):
        if name not in plain:
            continue
        if high := tables.length(inputs[number]):
            spec["data"] = {"integers": {"low": 0, "high": high}}
        elif spec["dtype"] == "uint8" and len(spec["shape"]) > 2:
            spec["data"] = {"integers": {"low": 0, "high": 256}}
        elif "mask" not in name:
            del spec["data"]
    for name in (name for name in plain if "mask" in name):
        draft[name]["data"] = {"constant": 1} if _hides_all(trials, draft, name) else {"values": MASK}
    return example._replace(inputs=draft)


class _Tables(TorchDispatchMode):  # type: ignore[misc]  # torch is Any to mypy here
    """Notes the length of every table that is looked up in, with what it was looked up by."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[torch.Tensor, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # torch's
        if func is torch.ops.aten.embedding.default and not args[1].is_floating_point():
            self._seen.append((args[1].detach().clone(), args[0].shape[0]))
        return func(*args, **(kwargs or {}))

    def length(self, values: torch.Tensor) -> int:
        """The length of the shortest table that these very values went into; 0 for none."""
        flat = values.reshape(-1)
        lengths = [
            length
            for seen, length in self._seen
            if seen.numel() == flat.numel() and bool((seen.reshape(-1) == flat).all())
        ]
        return min(lengths, default=0)


def _hides_all(trials: Trials, inputs: Mapping[str, Json], mask: str) -> bool:
    """Whether zeros in a mask may hide all that some place looks at, for which each runtime has a value of its own.

    They can't where there is no two of them in a row, and each place looks at all others of a sequence as long as the mask.
    """
    shape = inputs[mask]["shape"]
    alike = any(spec["shape"] == shape for name, spec in inputs.items() if "mask" not in name)
    return not alike or _is_causal(trials, inputs, mask)


def _is_causal(trials: Trials, inputs: Mapping[str, Json], mask: str) -> bool:
    """Whether what comes out for a token under a mask rests on the tokens before it alone."""
    for number, (name, spec) in enumerate(inputs.items()):
        if "integers" not in spec.get("data", {}) or spec["shape"] != inputs[mask]["shape"] or "mask" in name:
            continue
        if len(spec["shape"]) != 2 or spec["shape"][1] < 3 or sizing.family(name) != sizing.family(mask):
            continue
        drawn = zip(inputs, trials.drawn(trials.sizes), strict=True)
        given = [torch.ones_like(one) if "mask" in other else one for other, one in drawn]
        changed = [one.clone() for one in given]
        changed[number][:, -1] = 1 - changed[number][:, -1].clamp(0, 1)
        with torch.no_grad():
            before, after = (tensors(trials.adapter.result(*one)) for one in (given, changed))
        alike = [key for key, one in before.items() if [*one.shape[:2]] == spec["shape"] and key in after]
        if any(_differ_at_the_end(before[key], after[key]) for key in alike):
            return True
    return False


def _differ_at_the_end(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two results for tokens are equal but for the last token's."""
    same = one.shape == other.shape and torch.equal(one[:, :-1], other[:, :-1])
    return same and not torch.equal(one[:, -1], other[:, -1])


def _of_axes(made: proposal.Proposal, found: sizing.Axes) -> Iterator[str]:
    """Which axes move, at which sizes that was seen, and why the others don't."""
    for name, group in made.free.items():
        seen = {sizes[group.places[0]] for sizes, _ in made.trials.ran()}
        told = ", ".join(map(str, sorted(seen)[:SHOWN]))
        yield f"{name}: {_places(group.places)} can change{' together' if group.places[1:] else ''}, ran at {told}"
    for name, (text, places) in made.related.items():
        yield f"{name} = {text}: {_places(places)}"
    for (name, axis), why in found.fixed.items():
        size = made.trials.sizes[name, axis]
        yield f"axis {axis} of {name} stays {size}" + (f": at {size + 1}, {why}" if why else "")


def _places(places: tuple[Place, ...]) -> str:
    return ", ".join(f"axis {axis} of {name}" for name, axis in places)


def _of_data(data: Mapping[str, Json]) -> Iterator[str]:
    for name, described in data.items():
        if "integers" in described:
            yield f"{name}: integers from {described['integers']['low']} to {described['integers']['high'] - 1}"
        elif "mask" in name and "constant" in described:
            yield f"{name}: all {described['constant']}, since zeros could hide all that a place looks at"
        elif "mask" in name and "values" in described:
            yield f"{name}: {described['values']} over and over, so that no row of 2 or more hides everything"
