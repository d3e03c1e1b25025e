"""What the parts of this source agree on: a model of TensorFlow that can be called and converted. Types only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from onnxbuild.contracts import Arrays, Interface

if TYPE_CHECKING:
    from onnx import ModelProto


class Model(Protocol):
    """A model, its channels where TensorFlow has them. `interface` is what it says of itself, StageError where that is
    nothing; `accepts` raises StageError unless it can be called with inputs of these names. `run` computes outputs by
    name, `changed` says what of its variables is other than before the first call. `convert` takes a tf.TensorSpec for
    each input, and gives the graph with inputs and outputs of those names, in order.
    """

    notes: list[str]

    def interface(self) -> Interface: ...
    def accepts(self, inputs: Sequence[str], outputs: Sequence[str]) -> None: ...
    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays: ...
    def changed(self) -> list[str]: ...
    def convert(
        self,
        specs: Mapping[str, Any],
        outputs: Sequence[str],
        opset: int,
        inputs_as_nchw: Sequence[str],
        outputs_as_nchw: Sequence[str],
    ) -> ModelProto: ...
