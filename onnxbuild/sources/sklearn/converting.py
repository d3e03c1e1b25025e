"""An estimator to ONNX by skl2onnx or onnxmltools, and the result brought to what a recipe says of it.

Names, shapes and element types are the recipe's and the estimator's own; what is computed is the converter's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, opsets, renaming
from onnxbuild.parity import samples
from onnxbuild.sources.sklearn import boosters, results, settings
from onnxbuild.sources.sklearn.feeding import TYPES, Feed
from onnxbuild.sources.sklearn.parts import Part, first, last, parts, require_known

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

    from onnxbuild.contracts import Arrays

ML = 3  # of ai.onnx.ml, unless the recipe says another: what skl2onnx 1.20 writes its trees in
FEATURES = "features"  # the converter's one input, where the recipe has a column for each
ONNX_TYPES = {"float32": "FLOAT", "float64": "DOUBLE", "int64": "INT64", "object": "STRING"}  # of onnx.TensorProto


def convert(
    model: Any, section: Mapping[str, Any], asked: Mapping[str, Any], root: Path
) -> tuple[ModelProto, list[str]]:
    """The model with the inputs, outputs and opset of `asked`, the recipe's `export`, and notes. Raises StageError."""
    feed = Feed(model, asked["inputs"])
    notes: list[str] = []
    proto = BY[asked["exporter"]](model, section, feed, asked["opset"])
    given = samples.make(asked["inputs"], _example(asked), 0, root)
    made = results.computed(model, feed.data(given), settings.of_last(section, model))
    wanted = results.named(list(made), asked["outputs"])
    opsets.merge_imports(proto)
    if len(proto.graph.output) != len(made):
        gives = f"{asked['exporter']} gives {len(proto.graph.output)} outputs"
        raise StageError(
            f"{gives} ({', '.join(one.name for one in proto.graph.output)}), and {Part('', last(model))} {len(made)}"
        )
    _keep(proto, [list(made).index(own) for own in wanted.values()])
    _drop_initial_inputs(proto)
    if [value.name for value in proto.graph.input] == [FEATURES] and not feed.matrix:
        _join(proto, feed)
    renaming.number(proto, (*asked["inputs"], *asked["outputs"]))
    _name(proto, feed.order, list(asked["inputs"]), list(wanted))
    _type(proto, asked, {name: made[own] for name, own in wanted.items()})
    own = interface.opset(proto)
    if own is None:
        opsets.stamp(proto, asked["opset"])
    elif own != asked["opset"]:
        if opsets.changed((node for node in proto.graph.node), own, asked["opset"]):
            notes.append(f"{asked['exporter']} gave opset {own}: brought to {asked['opset']} by ONNX's own converter")
        proto = opsets.convert(proto, asked["opset"])
    return proto, notes


def _by_skl2onnx(model: Any, section: Mapping[str, Any], feed: Feed, opset: int) -> ModelProto:
    from skl2onnx import convert_sklearn

    if isinstance(model, boosters.Boosted):
        raise StageError("skl2onnx converts estimators, and this is a booster", "use exporter: onnxmltools")
    boosters.register(part.estimator for part in parts(model))
    require_known(model)
    for part in parts(model):
        boosters.forget_names(part.estimator)
    target = {"": opset, "ai.onnx.ml": section.get("target_opset", {}).get("ai.onnx.ml", ML)}
    with _whole_numbers():
        proto: ModelProto = convert_sklearn(
            model,
            "graph",
            _types("skl2onnx.common.data_types", model, feed),
            target_opset=target,
            options=settings.of_all(section, model) or None,
            white_op=set(section.get("white_op", ())) or None,
            black_op=set(section.get("black_op", ())) or None,
        )
    return proto


def _by_onnxmltools(model: Any, section: Mapping[str, Any], feed: Feed, opset: int) -> ModelProto:
    if unused := [name for name in ("options", "target_opset", "white_op", "black_op", "zipmap") if section.get(name)]:
        raise StageError(f"'{unused[0]}' is skl2onnx's, and the exporter is onnxmltools", "use exporter: skl2onnx")
    inner = model.model if isinstance(model, boosters.Boosted) else model
    library = boosters.library(inner)
    if not library:
        fact = f"onnxmltools converts models of LightGBM and XGBoost, and {Part('', model)}"
        raise StageError(fact, "use exporter: skl2onnx")
    boosters.register([inner])
    boosters.forget_names(inner)
    import onnxmltools

    types = _types("onnxmltools.convert.common.data_types", model, feed)
    if library == "lightgbm":
        proto: ModelProto = onnxmltools.convert_lightgbm(inner, "graph", types, target_opset=opset, zipmap=False)
    else:
        proto = onnxmltools.convert_xgboost(inner, "graph", types, target_opset=opset)
    return proto


BY = {"skl2onnx": _by_skl2onnx, "onnxmltools": _by_onnxmltools}


@contextmanager
def _whole_numbers() -> Iterator[None]:
    """Let attributes that are lists of booleans, as skl2onnx 1.20 writes, be lists of integers: protobuf 7 wants those."""
    import numpy as np
    from onnx import helper

    make = helper.make_attribute

    def made(key: str, value: Any, *more: Any, **named: Any) -> Any:
        if isinstance(value, (list, tuple)) and any(isinstance(one, (bool, np.bool_)) for one in value):
            value = [int(one) for one in value]
        return make(key, value, *more, **named)

    helper.make_attribute = made
    try:
        yield
    finally:
        helper.make_attribute = make


def _types(module: str, model: Any, feed: Feed) -> list[tuple[str, Any]]:
    """The inputs that the converter is told of: one matrix, or a column each where a ColumnTransformer picks them."""
    import importlib

    types = importlib.import_module(module)
    kinds = [feed.inputs[name]["dtype"] for name in feed.order]
    if feed.matrix:
        return [(feed.order[0], getattr(types, TYPES[kinds[0]])([None, feed.features]))]
    mixed = "string" in kinds and len(set(kinds)) > 1
    if hasattr(first(model), "transformers_") or mixed:
        return [(name, getattr(types, TYPES[kind])([None, 1])) for name, kind in zip(feed.order, kinds, strict=True)]
    joined = kinds[0] if len(set(kinds)) == 1 else feed.precision
    return [(FEATURES, getattr(types, TYPES[joined])([None, feed.features]))]


def _example(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The case of the shapes that the recipe's inputs state."""
    axes = asked.get("dynamic_axes", {})
    return {
        "name": "example",
        "data": {},
        "shapes": {name: spec["shape"] for name, spec in asked["inputs"].items()},
        "dynamic": {name: [int(axis) for axis in axes[name]] for name in asked["inputs"] if name in axes},
    }


def _keep(proto: ModelProto, numbers: Sequence[int]) -> None:
    """Give the graph these of its outputs, in this order, and no node that none of them needs."""
    kept = [proto.graph.output[number] for number in numbers]
    copies = [type(one).FromString(one.SerializeToString()) for one in kept]
    del proto.graph.output[:]
    proto.graph.output.extend(copies)
    live = interface.values_read(proto)
    nodes = [node for node in proto.graph.node if live.intersection(node.output)]
    needed = live | {name for node in nodes for name in node.input}  # a Shape reads no values of what it takes
    weights = [tensor for tensor in proto.graph.initializer if tensor.name in needed]
    for field, left in ((proto.graph.node, nodes), (proto.graph.initializer, weights)):
        whole = [type(one).FromString(one.SerializeToString()) for one in left]
        del field[:]
        field.extend(whole)


def _drop_initial_inputs(proto: ModelProto) -> None:
    """Initializers that are listed as inputs too, as old IR versions had it, are no inputs."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    for value in [value for value in proto.graph.input if value.name in weights]:
        proto.graph.input.remove(value)


def _join(proto: ModelProto, feed: Feed) -> None:
    """Put the columns together into the matrix that the converter was told of, each cast to its type."""
    from onnx import TensorProto, helper

    (matrix,) = proto.graph.input
    wanted = matrix.type.tensor_type.elem_type
    nodes, names = [], []
    for name in feed.order:
        kind = getattr(TensorProto, ONNX_TYPES.get(feed.inputs[name]["dtype"], feed.inputs[name]["dtype"].upper()))
        proto.graph.input.append(helper.make_tensor_value_info(name, kind, [None, 1]))
        names.append(name)
        if kind != wanted:
            names[-1] = f"{name}, cast"
            nodes.append(helper.make_node("Cast", [name], [names[-1]], to=wanted))
    nodes.append(helper.make_node("Concat", names, [FEATURES], axis=1))
    proto.graph.input.remove(matrix)
    later = list(proto.graph.node)
    for position, node in enumerate(nodes):
        proto.graph.node.insert(position, node)
    if interface.opset(proto) is None and later:
        opsets.stamp(proto, 13)  # of Concat and Cast


def _name(proto: ModelProto, order: Sequence[str], inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """The recipe's names and order: the converter spells some otherwise, and has inputs in the order of the features."""
    given = [value.name for value in proto.graph.input]
    new = dict(zip(given, order, strict=True))
    new |= dict(zip((value.name for value in proto.graph.output), outputs, strict=True))
    renaming.rename(proto, new)
    values = {value.name: type(value).FromString(value.SerializeToString()) for value in proto.graph.input}
    del proto.graph.input[:]
    proto.graph.input.extend(values[name] for name in inputs)


def _type(proto: ModelProto, asked: Mapping[str, Any], made: Arrays) -> None:
    """Say of inputs and outputs what is true of them: the axes' names, sizes and element types as the model gives them."""
    axes = asked.get("dynamic_axes", {})
    rows = next((axes[name]["0"] for name in asked["inputs"] if "0" in axes.get(name, {})), None)
    for value in proto.graph.input:
        _shape(value, asked["inputs"][value.name]["shape"], axes.get(value.name, {}).get("0"))
    for value in proto.graph.output:
        array = made[value.name]
        _cast(proto, value, ONNX_TYPES[str(array.dtype)])
        _shape(value, array.shape, axes.get(value.name, {}).get("0", rows))


def _shape(value: ValueInfoProto, shape: Sequence[int], rows: str | None) -> None:
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    for axis, size in enumerate(shape):
        dim = tensor.shape.dim.add()
        if axis == 0 and rows:
            dim.dim_param = rows
        else:
            dim.dim_value = size


def _cast(proto: ModelProto, value: ValueInfoProto, wanted: str) -> None:
    """A number of another type than the estimator's own, at the end, is brought to that."""
    from onnx import TensorProto, helper

    kind, own = getattr(TensorProto, wanted), value.type.tensor_type.elem_type
    if own == kind or TensorProto.STRING in (own, kind):
        return
    inner = f"{value.name}, before the cast"
    renaming.rename_made(proto.graph, value.name, inner)
    proto.graph.node.append(helper.make_node("Cast", [inner], [value.name], to=kind))
    value.type.tensor_type.elem_type = kind
