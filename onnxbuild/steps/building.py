"""A piece of graph that steps are written into, under names that nothing else in the model has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from onnxbuild.graphs import renaming

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

    from onnxbuild.steps.interface import Array


class Builder:
    """Nodes and constants in the order they were added in. `stem` is what new names start with, `opset` the model's; none
    is given a name that is `taken`.
    """

    def __init__(self, model: ModelProto, opset: int, taken: Iterable[str] = ()) -> None:
        self.opset, self.stem = opset, ""
        self.made: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._taken = renaming.names(model) | set(taken)

    def taken_out(self) -> list[NodeProto]:
        """The nodes since the last time."""
        made, self.made = self.made, []
        return made

    def fresh(self, name: str) -> str:
        """The name, or the same with a number where it is taken."""
        return renaming.fresh(name, self._taken)

    def node(self, op_type: str, taken: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Add a node of ONNX's own operators, and give the names of its outputs."""
        import onnx

        name = self.fresh(f"{self.stem}/{op_type}")
        made = [name] if outputs == 1 else [self.fresh(f"{name}/{number}") for number in range(outputs)]
        self.made.append(onnx.helper.make_node(op_type, taken, made, name, **attributes))
        return made

    def constant(self, name: str, array: Array) -> str:
        """Add a constant, and give its name."""
        import onnx

        made = self.fresh(f"{self.stem}/{name}")
        self.constants.append(onnx.numpy_helper.from_array(array, made))
        return made

    def rename(self, old: str, new: str) -> None:
        """Give a value of these nodes the name that it is published by."""
        for node in self.made:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
