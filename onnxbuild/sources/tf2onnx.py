"""From a TensorFlow function to an ONNX model, by tf2onnx: what sources that have such functions share.

Here too is how TensorFlow runs in a stage: on one thread, on the CPU, the same arithmetic each time. Knows no recipes and
no source. Light to import; TensorFlow is imported where it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onnxbuild.errors import StageError

if TYPE_CHECKING:
    from onnx import ModelProto

# tf2onnx 1.17 refuses 19 and above. Below 9 what it gives for a loop or a branch is no valid model.
OPSETS = (9, 18)
DISTRIBUTIONS = ("tensorflow", "tf2onnx")
# What both libraries say of themselves, whatever the model.
NOISE = (
    r"shape mismatch between caller and function|"  # it takes the function's own shapes then
    r"Could not search for non-variable resources|"
    r"From \S+: \S+ \(from [\w.]+\) is deprecated and will be removed|"
    r"^(?:Instructions for updating:|Use |Failed to convert node |Unsupported ops: )|"  # the last two are the error's
    r"Could not initialize table with shared_name|Cannot infer shape for |missing output shape for |"
    r"Unable to create a python object for variable |triggered tf\.function retracing|"  # each size is a case of its own
    r"Issue encountered when serializing |"  # a copy of the graph is made; its lists of tables are not needed
    r"Unable to (?:initialize|register|open)|This TensorFlow binary is optimized"
)
NUMBERED = r"unk__\d+"  # what tf2onnx calls an axis without a size
LARGEST = (1 << 31) - 1  # bytes of a protobuf message, which a graph with its weights becomes


def tensorflow() -> Any:
    """TensorFlow, set up for a stage: on the CPU, one thread, deterministic operators. To be called before it is used."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")
    tf.config.experimental.enable_op_determinism()
    return tf


def seed(value: int) -> None:
    """Seed every generator that a model's initialisation may draw from."""
    import random

    import numpy as np
    import tensorflow as tf

    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002  # model code draws from the global generator
    tf.random.set_seed(value)


def convert(  # noqa: PLR0913  # tf2onnx's own
    function: Any,
    signature: Sequence[Any],
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int,
    *,
    holder: Any = None,
    tables: Mapping[Any, tuple[Any, Any]] | None = None,
    inputs_as_nchw: Sequence[str] = (),
    outputs_as_nchw: Sequence[str] = (),
) -> ModelProto:
    """The ONNX model of a TensorFlow function, the same bytes in every process.

    `function` is a callable or a tf.function that takes one tensor for each tf.TensorSpec of `signature` and returns
    tensors, nested as it likes. `inputs` and `outputs` are the names that they get in the graph, in order: the outputs as
    tf.nest.flatten gives them, which sorts mappings by key. A size of None in a spec is a dynamic axis. `holder` is the
    object that owns lookup tables which the function uses, `tables` are keys and values of others by shared name.
    `inputs_as_nchw` and `outputs_as_nchw` are names of these
    whose tensors have their channels last in TensorFlow, and second in the graph. Raises StageError for what tf2onnx
    can't convert.
    """
    import tensorflow as tf
    from tf2onnx import tf_loader

    concrete = tf.function(function, autograph=False).get_concrete_function(*signature)
    require_small(concrete.variables)
    given = [tensor.name for tensor in concrete.inputs[: len(concrete.inputs) - len(concrete.captured_inputs)]]
    made = [tensor.name for tensor in concrete.outputs]
    with _heard() as unsupported:
        shapes = [tensor.shape for tensor in concrete.outputs]
        frozen, own = tf_loader.from_trackable(holder, concrete, given, made, False)
        filled = _sorted({**own, **(tables or {})})
        model = _converted(frozen, filled, given, made, opset, (inputs, inputs_as_nchw), (outputs, outputs_as_nchw))
    return _finished(model, inputs, outputs, shapes, unsupported)


def require_small(variables: Iterable[Any]) -> None:
    """Raises StageError where a model's variables are more than tf2onnx can hold; it would run for minutes, and fail."""
    size = sum(one.shape.num_elements() * one.dtype.base_dtype.size for one in variables)
    if size > LARGEST:
        fact = f"the model's variables have {size:,} bytes, and tf2onnx holds a graph in one message of {LARGEST:,}"
        raise StageError(fact, "convert the model in parts, or keep its large tables out of it")


def name_axes(model: ModelProto, export: Mapping[str, Any]) -> list[str]:
    """Give a converted model's dynamic axes the names of a recipe's `export` section; notes on what is otherwise."""
    from onnxbuild.graphs import canonical
    from onnxbuild.sources import naming

    related = {name: dim for name, dim in export.get("dims", {}).items() if isinstance(dim, str)}
    notes = naming.name_axes(model, export.get("dynamic_axes", {}), related)
    canonical.forget_dimensions(model, NUMBERED)
    return notes


def _converted(
    frozen: Any,
    tables: Any,
    given: Sequence[str],
    made: Sequence[str],
    opset: int,
    inputs: tuple[Sequence[str], Sequence[str]],
    outputs: tuple[Sequence[str], Sequence[str]],
) -> ModelProto:
    """What tf2onnx makes of a frozen graph, under its own names; `inputs` and `outputs` are names, and those as NCHW."""
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx

    from onnxbuild.sources import in_order

    own = [dict(zip(names, tensors, strict=True)) for names, tensors in ((inputs[0], given), (outputs[0], made))]
    # its optimizers go through sets, and how many nodes they leave depends on which they come to first
    with in_order.sets_of("tf2onnx"), tf.device("/cpu:0"), tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
        converted = tfonnx.process_tf_graph(
            graph,
            continue_on_error=False,
            opset=opset,
            input_names=[*given],
            output_names=[*made],
            inputs_as_nchw=[own[0][name] for name in inputs[1]],
            outputs_as_nchw=[own[1][name] for name in outputs[1]],
            initialized_tables=tables,
        )
        model: ModelProto = optimizer.optimize_graph(converted).make_model("tf2onnx")
    return model


def _sorted(tables: Mapping[Any, tuple[Any, Any]]) -> dict[Any, tuple[Any, Any]]:
    """The keys and values of lookup tables in the order of the keys: TensorFlow's own is that of a hash table."""
    ordered = {}
    for name, (keys, values) in tables.items():
        order = keys.argsort()
        ordered[name] = (keys[order], values[order])
    return ordered


@contextmanager
def _heard() -> Iterator[dict[str, str]]:
    """The operators that tf2onnx has no translation of, each with a node of it: it leaves them in and goes on."""
    found: dict[str, str] = {}

    def listen(record: logging.LogRecord) -> bool:
        if "is not supported" not in record.msg or not isinstance(record.args, tuple):
            return True
        node, operator = record.args
        found.setdefault(str(operator), str(node))
        return False

    logger = logging.getLogger("tf2onnx.tfonnx")
    logger.addFilter(listen)
    try:
        yield found
    finally:
        logger.removeFilter(listen)


def _finished(
    model: ModelProto,
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Sequence[Any],
    unsupported: Mapping[str, str],
) -> ModelProto:
    """The model in canonical form, under the given names. Raises StageError where an operator of TensorFlow is left.

    `shapes` are the outputs' in TensorFlow, which tf2onnx loses behind operators that it can't follow.
    """
    from onnxbuild.graphs import canonical, tensors

    for value, shape in zip(model.graph.output, shapes, strict=True):
        if not value.type.tensor_type.HasField("shape") and shape.rank is not None:
            value.type.tensor_type.shape.SetInParent()
            for size in shape:
                value.type.tensor_type.shape.dim.add(dim_value=size)
    canonical.canonicalise(model, inputs, outputs)
    kinds = {node.op_type for body in tensors.bodies(model) for node in body.node}
    if left := {operator: node for operator, node in unsupported.items() if operator in kinds}:
        named = ", ".join(f"{operator} (in {node})" for operator, node in left.items())
        hint = "write that part of the model with other operators, or try a higher opset"
        raise StageError(f"tf2onnx has no translation of {named}", hint)
    return model
