"""A torch module behind an adapter: exported by either exporter, and called with arrays. Imports torch at module level.

Any source whose models are torch modules uses it. Knows nothing of where a module comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from onnxbuild.contracts import Arrays, Exported, Task
from onnxbuild.sources.pytorch import numbers

if TYPE_CHECKING:
    from onnxbuild.sources.pytorch.adapter import Adapter


def export(model: Adapter, notes: list[str], task: Task) -> Exported:
    """Export by the exporter that the recipe names; `notes` are facts about the model so far. Raises StageError."""
    from onnxbuild.sources import failures, naming
    from onnxbuild.sources.pytorch import dynamo, places, symbolics, torchscript

    root = Path(task.root)
    options = task.options["export"]
    example = _example(options, root)
    narrowed: dict[str, dict[str, int]] = {}
    customs = symbolics.resolve(task.options.get("symbolics", {}), options["opset"], root)
    folder = Path(task.objects)
    with places.watched(options["exporter"], root) as seen, torch.no_grad():
        try:
            if options["exporter"] == "dynamo":
                proto, more, narrowed = dynamo.export(model, example, options, customs.for_dynamo(), folder)
                notes += more
            else:
                customs.register_for_torchscript()
                proto, folder = torchscript.export(model, example, options, customs.opsets, Path(task.scratch))
        except Exception as error:
            what, inputs = f"the {options['exporter']} exporter failed", list(options["inputs"])
            raise failures.explain(error, what, root, inputs, seen.sizes, seen.operator) from error
    customs.require_used()
    naming.strip_prefix(proto)
    related = {name: dim for name, dim in options.get("dims", {}).items() if isinstance(dim, str)}
    notes += naming.name_axes(proto, options.get("dynamic_axes", {}), related)
    facts = {"exporter": options["exporter"], "notes": list(dict.fromkeys(notes)), "narrowed": narrowed}
    return Exported(proto, folder, facts)


def program(model: Adapter, task: Task) -> Any:
    """The model as torch.export has it, with the dynamic axes of `task.options["export"]`. Raises StageError."""
    from onnxbuild.sources import failures
    from onnxbuild.sources.pytorch import dynamo, places

    root, options = Path(task.root), task.options["export"]
    example = _example(options, root)
    shapes = dynamo.dynamic_shapes(options)
    with places.watched("dynamo", root) as seen, torch.no_grad():
        try:
            return torch.export.export(
                model, example, dynamic_shapes={"flat": shapes} if any(shapes) else None, strict=False
            )
        except Exception as error:
            inputs = list(options["inputs"])
            raise failures.explain(error, "torch.export failed", root, inputs, seen.sizes, seen.operator) from error


def caller(model: Adapter) -> Callable[[Arrays], Arrays]:
    """The model as a function of arrays by input name, without gradients."""

    def run(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            results = model(*(numbers.to_torch(arrays[name]) for name in model.names))
        return {name: numbers.to_numpy(tensor) for name, tensor in zip(model.outputs, results, strict=True)}

    return run


def _example(options: Mapping[str, Any], root: Path) -> tuple[torch.Tensor, ...]:
    """What the model is traced with: the inputs in order."""
    from onnxbuild.parity import samples

    arrays = samples.make(options["inputs"], _example_case(options), 0, root)
    return tuple(numbers.to_torch(arrays[name]) for name in options["inputs"])


def _example_case(options: Mapping[str, Any]) -> dict[str, Any]:
    """The case at which the exporter sees the model: the shapes that the recipe's inputs state."""
    axes = options.get("dynamic_axes", {})
    return {
        "name": "example",
        "data": {},
        "shapes": {name: spec["shape"] for name, spec in options["inputs"].items()},
        "dynamic": {name: [int(axis) for axis in axes[name]] for name in options["inputs"] if name in axes},
    }
