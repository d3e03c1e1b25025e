"""Whether torch.export takes a model with the dimensions that are proposed, and which of them it fixes.

Its own trace knows what runs at a few sizes don't tell: a loop that is unrolled, a branch on a size. Imports torch at
module level.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from onnxbuild.sources import failures
from onnxbuild.sources.pytorch import dynamo
from onnxbuild.sources.pytorch.adapter import Adapter
from onnxbuild.sources.pytorch.proposal import Proposal
from onnxbuild.sources.pytorch.trials import LONGEST, shape_of

DYNAMO, TORCHSCRIPT = "dynamo", "torchscript"
OWN = ("aten", "prim", "prims", "higher_order", "_operator", "torch", "math")  # namespaces that both exporters know
NEAR = 1e-2  # of the largest value: what is further off is another result, not rounding


def prove(made: Proposal, outputs: Sequence[str], root: Path) -> tuple[str, list[str], list[str]]:
    """The exporter that takes the model, operators that are not torch's own, and sentences.

    Dimensions that torch.export fixes are made static, and ranges that it narrows are narrowed.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in made.trials.model.modules()):
        return TORCHSCRIPT, [], ["compiled by torch.jit.script, which the torchscript exporter alone takes"]
    looked: list[str] = []
    free, related, limits = dict(made.free), dict(made.related), copy.deepcopy(made.limits)
    adapter = Adapter(made.trials.model, list(made.trials.example.inputs), outputs, made.trials.example.arguments)
    program, refused = _export(made, adapter, root)
    if program is None and made.free:
        looked += [f"torch.export refuses it: {refused}", *_learn(made, adapter, root)]
        program, refused = _export(made, adapter, root)
    if program is None and (raised := _raised(made, refused)):
        looked.append(f"{', '.join(raised)}: from the example's size on, since torch.export refuses it: {refused}")
        program, refused = _export(made, adapter, root)
    while program is None and (gone := _fixed_by(made, refused)):
        looked.append(f"{', '.join(gone)}: made static, since torch.export refuses it: {refused}")
        program, refused = _export(made, adapter, root)
    looked.append(f"torch.export {f'refuses it: {refused}' if program is None else _takes(made)}")
    if program is None:
        made.free, made.related, made.limits = free, related, limits
        looked.append("so the torchscript exporter is proposed, with all of these dimensions; it was not tried")
        return TORCHSCRIPT, [], looked
    looked += _require_same(made, adapter, program)
    return DYNAMO, _foreign(program), looked


def _takes(made: Proposal) -> str:
    return f"takes it with {', '.join([*made.free, *made.related])} dynamic" if made.free else "takes it at one size"


def _named(made: Proposal, refused: str) -> list[str]:
    """The dimensions that a refusal names."""
    named = re.search(r"Constraints violated \(([\w, ]+)\)", refused)
    return [name for name in made.free if named and name in named[1].split(", ")]


def _raised(made: Proposal, refused: str) -> list[str]:
    """Let the dimensions that a refusal names start at the example's size: it is small ones that are often special."""
    base = made.base()
    raised = [name for name in _named(made, refused) if name != "batch" and made.limits[name]["min"] < base[name]]
    for name in raised:
        made.limits[name]["min"] = base[name]
    return raised


def _fixed_by(made: Proposal, refused: str) -> list[str]:
    """Make static the dimensions that a refusal names, else all but the batch, else that; gives their names."""
    culprits = _named(made, refused) or [name for name in made.free if name != "batch"] or list(made.free)
    return made.fix([made.free[name].places[0] for name in culprits])


def _export(made: Proposal, adapter: Adapter, root: Path) -> tuple[Any, str]:
    """The program by torch.export, with the proposed dimensions; None where it refuses, and why."""
    options = {
        "inputs": made.trials.example.inputs,
        "dynamic_axes": {name: {str(at): dim for at, dim in axes.items()} for name, axes in made.axes().items()},
        "dims": made.dims(),
    }
    shapes = dynamo.dynamic_shapes(options)
    try:
        return _program(adapter, made.trials.drawn(made.trials.sizes), shapes), ""
    except Exception as error:  # noqa: BLE001  # torch has many
        return None, _said(error, made, root)


def _said(error: Exception, made: Proposal, root: Path) -> str:
    text = failures.essence(error, root)
    for number, name in enumerate(made.trials.example.inputs):
        text = text.replace(f"L['flat'][{number}]", name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _program(adapter: Adapter, example: tuple[torch.Tensor, ...], shapes: Sequence[Any]) -> Any:
    dynamo.make_traceable()
    dynamic = {"flat": tuple(shapes)} if any(shapes) else None
    with torch.no_grad():
        return torch.export.export(adapter, example, dynamic_shapes=dynamic, strict=False)


def _learn(made: Proposal, adapter: Adapter, root: Path) -> Iterator[str]:
    """Let torch.export choose, and keep what it chose."""
    shapes = [
        dict.fromkeys(made.axes().get(name, {}), torch.export.Dim.AUTO) or None for name in made.trials.example.inputs
    ]
    try:
        program = _program(adapter, made.trials.drawn(made.trials.sizes), shapes)
    except Exception as error:  # noqa: BLE001  # see above
        yield f"torch.export refuses it whatever the dimensions: {_said(error, made, root)}"
        return
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    taken = [shape_of(nodes[name].meta["val"]) for name in program.graph_signature.user_inputs]
    by_name = dict(zip(made.trials.example.inputs, taken, strict=True))
    fixed = [
        (name, axis) for name, axes in made.axes().items() for axis in axes if isinstance(by_name[name][axis], int)
    ]
    for name, axis in fixed:
        yield f"axis {axis} of {name} stays {by_name[name][axis]}: torch.export fixes it while it traces"
    if fixed:
        made.fix(fixed)
    for dim, group in list(made.free.items()):
        name, axis = group.places[0]
        yield from _narrowed(made, dim, by_name[name][axis], program.range_constraints)


def _narrowed(made: Proposal, dim: str, size: Any, ranges: Any) -> Iterator[str]:
    """Take over a range that torch.export found narrower than the proposed one."""
    found = ranges.get(getattr(size.node, "expr", None))
    limits = made.limits[dim]
    if found is None:
        return
    for key, value, narrower in (("min", found.lower, max), ("max", found.upper, min)):
        if not getattr(value, "is_Integer", isinstance(value, int)) or (key == "min" and int(value) <= 2):
            continue  # no bound, or the 2 that torch takes every size for
        if (new := narrower(limits[key], int(value))) != limits[key]:
            limits[key] = new
            yield f"{dim}: {key} {new}, as torch.export found while it traced"


def _require_same(made: Proposal, adapter: Adapter, program: Any) -> Iterator[str]:
    """Run the program at the smallest sizes, beside the model; a dimension of size 1 at which they differ starts at 2."""
    captured = program.module(check_guards=False)  # guards may be narrower than what is computed right
    for dim in list(made.free):
        low = made.limits[dim]["min"]
        changes = made.changes({dim: low})
        if (
            changes is None
            or (why := _apart(adapter, captured, made.trials.drawn({**made.trials.sizes, **changes}))) == ""
        ):
            continue
        step = made.free[dim].step
        made.limits[dim]["min"] = max(low, min(made.base()[dim], low + step))
        yield f"{dim}: starts at {made.limits[dim]['min']}, since at {low} what torch.export made differs: {why}"


def _apart(adapter: Adapter, captured: Any, inputs: tuple[torch.Tensor, ...]) -> str:
    """How the results of the model and of the captured program differ; "" where they don't."""
    try:
        with torch.no_grad():
            wanted, got = adapter(*inputs), captured(*inputs)
    except Exception as error:  # noqa: BLE001  # see above
        return type(error).__name__
    for name, one, other in zip(adapter.outputs, wanted, got, strict=True):
        if one.shape != other.shape:
            return f"{name} is {[*other.shape]}, not {[*one.shape]}"
        if one.is_floating_point() and one.numel():
            off, scale = (one.double() - other.double()).abs().max(), one.double().abs().max()
            if float(off) > NEAR * float(scale):
                return f"{name} is {float(off):.2g} off"
    return ""


def _foreign(program: Any) -> list[str]:
    """Operators that are not torch's own, "namespace::name"."""
    names = {
        node.target.name().partition(".")[0]
        for module in program.graph_module.modules()
        for node in getattr(getattr(module, "graph", None), "nodes", ())
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)  # noqa: SLF001  # no public name
    }
    return sorted(name for name in names if name.partition("::")[0] not in OWN)
