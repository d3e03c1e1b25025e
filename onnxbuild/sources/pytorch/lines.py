"""Has the TorchScript exporter tell where its nodes come from: it knows, and would print it with `verbose` alone.

What is heard is noted on the model's nodes in the form of the dynamo exporter's notes. Imports torch at module level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from onnxbuild.graphs import lines, tensors

if TYPE_CHECKING:
    from onnx import ModelProto

# The last pass over the graph: names are those of the model after it.
_NAMING = "_jit_pass_onnx_assign_scoped_names_for_node_and_value"


@contextmanager
def listening() -> Iterator[dict[str, str]]:
    """The frames of Python of each node that is exported meanwhile, as TorchScript tells them, by the values it makes."""
    heard: dict[str, str] = {}
    naming: Callable[[Any], None] | None = getattr(torch._C, _NAMING, None)  # noqa: SLF001  # another torch may lack it
    if naming is None:
        yield heard
        return

    def named(graph: Any) -> None:
        naming(graph)
        _hear(graph, heard)

    setattr(torch._C, _NAMING, named)  # noqa: SLF001  # nothing public tells names
    try:
        yield heard
    finally:
        setattr(torch._C, _NAMING, naming)  # noqa: SLF001  # nothing public tells names


def _hear(block: Any, heard: dict[str, str]) -> None:
    for node in block.nodes():
        told = str(node.sourceRange())
        heard.update({value.debugName(): told for value in node.outputs()})
        for inner in node.blocks():
            _hear(inner, heard)


def note(model: ModelProto, heard: Mapping[str, str]) -> None:
    """Note on a model's nodes, in place, the scope that their names hold and the frames that were heard."""
    for body in tensors.bodies(model):
        for node in body.node:
            told = next((heard[name] for name in node.output if heard.get(name)), "")
            if told:
                node.metadata_props.add(key=lines.STACK, value=told)
            if node.name.startswith("/"):
                node.metadata_props.add(key=lines.SCOPES, value=repr(_scopes(node.name)))


def _scopes(name: str) -> list[str]:
    """The scopes that a node's name runs through, its own last: "/layers/layers.0/conv/Conv" is of layers.0.conv."""
    *modules, own = name.strip("/").split("/")
    found, outer = [""], ""
    for module in modules:
        # what a container holds is called after the container: "layers.0" in "layers"
        inner = module.removeprefix(f"{outer}.") if outer else module
        found.append(".".join(filter(None, (found[-1], inner))))
        outer = module
    return [*found, own]
