"""SavedModels that only the loader of TensorFlow 1 takes: a graph and a session. Its state is the session's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from onnxbuild.contracts import Arrays, Interface
from onnxbuild.sources import tf2onnx
from onnxbuild.sources.tensorflow import layouts

if TYPE_CHECKING:
    from onnx import ModelProto

_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")


class Session:
    """A signature of a SavedModel in a session; `why` says what of it the present loader did not take."""

    def __init__(self, folder: Path, tags: Sequence[str], signature: Any, interface: Interface, why: str) -> None:
        self.notes = [f"loaded as TensorFlow 1 does, since {why}"]
        self._interface = interface
        self._inputs = {name: info.name for name, info in signature.inputs.items()}
        self._outputs = {name: info.name for name, info in signature.outputs.items()}
        self._graph = tf.Graph()
        one = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        self._session = tf.compat.v1.Session(graph=self._graph, config=one)
        with self._graph.as_default():
            tf.compat.v1.saved_model.load(self._session, [*tags], str(folder))
            self._variables = {op.name: _read(op) for op in self._graph.get_operations() if op.type in _VARIABLES}
        self._before: Mapping[str, Any] | None = None

    def interface(self) -> Interface:
        """What the file says."""
        return self._interface

    def accepts(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Raises StageError unless all inputs are declared, and no output that there is not."""
        layouts.accepts(self._interface, inputs, outputs)

    def run(self, arrays: Arrays, outputs: Sequence[str]) -> Arrays:
        """What the session gives."""
        if self._before is None:
            self._before = self._session.run(self._variables)
        feed = {self._inputs[name]: array for name, array in arrays.items()}
        made = self._session.run({name: self._outputs[name] for name in outputs}, feed)
        return {name: layouts.text_of(made[name]) for name in outputs}

    def changed(self) -> list[str]:
        """The variables whose value is other than before the first call."""
        now = self._session.run(self._variables)
        before = (self._before or {}).items()
        return [f"the variable '{name}'" for name, value in before if not np.array_equal(now[name], value)]

    def convert(
        self,
        specs: Mapping[str, Any],
        outputs: Sequence[str],
        opset: int,
        inputs_as_nchw: Sequence[str],
        outputs_as_nchw: Sequence[str],
    ) -> ModelProto:
        """The graph as tf2onnx converts it, its variables constants and its inputs of the shapes of `specs`."""
        taken = [self._outputs[name] for name in outputs]
        frozen = self._frozen(taken)
        tables = self._tables(frozen)

        def flat(*tensors: Any) -> list[Any]:
            places = {self._inputs[name]: tensor for name, tensor in zip(specs, tensors, strict=True)}
            made = tf.graph_util.import_graph_def(frozen, places, taken, name="")
            return [tf.identity(one) for one in made]

        return tf2onnx.convert(
            flat,
            [*specs.values()],
            [*specs],
            outputs,
            opset,
            tables=tables,
            inputs_as_nchw=inputs_as_nchw,
            outputs_as_nchw=outputs_as_nchw,
        )

    def _frozen(self, outputs: Sequence[str]) -> Any:
        """The graph with its variables as constants, for any processor, its loops and branches left whole."""
        tf2onnx.require_small(self._variables.values())
        graph = self._graph.as_graph_def(add_shapes=True)
        for node in (*graph.node, *(inner for function in graph.library.function for inner in function.node_def)):
            node.device = ""
            if "_lower_using_switch_merge" in node.attr:  # else they come out as jumps, which tf2onnx knows in part
                node.attr["_lower_using_switch_merge"].b = False
        needed = dict.fromkeys(name.partition(":")[0] for name in (*self._inputs.values(), *outputs))
        with self._graph.as_default():
            return tf.compat.v1.graph_util.convert_variables_to_constants(self._session, graph, [*needed])

    def _tables(self, graph: Any) -> dict[Any, Any]:
        """The keys and values of the lookup tables in a frozen graph, by the names that they then share there."""
        found = {}
        with self._graph.as_default():
            for node in (node for node in graph.node if node.op == "HashTableV2"):
                name = node.attr["shared_name"].s = node.attr["shared_name"].s or node.name.encode()
                kinds = node.attr["key_dtype"].type, node.attr["value_dtype"].type
                table = self._graph.get_tensor_by_name(f"{node.name}:0")
                content = tf.raw_ops.LookupTableExportV2(table_handle=table, Tkeys=kinds[0], Tvalues=kinds[1])
                found[name] = tuple(self._session.run([*content]))
        return found


def _read(variable: Any) -> Any:
    """What reads a variable, of either kind."""
    if variable.type == "VarHandleOp":
        return tf.raw_ops.ReadVariableOp(resource=variable.outputs[0], dtype=variable.get_attr("dtype"))
    return variable.outputs[0]
