"""The default operator set of a graph: what its nodes mean in another one, and bringing it there by ONNX's own converter.

That converter passes over functions and over subgraphs of other domains' nodes without a word; what it can't do is
refused here by name. Knows no recipes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from onnxbuild.errors import StageError
from onnxbuild.graphs import interface, tensors

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

# Operators that mean something else from an opset on, though onnx 1.23's converter leaves their nodes as they are or makes
# others of them that compute something else; on the way up and on the way down. Tests show each against onnxruntime.
UPWARDS = {"Resize": 11, "Upsample": 11, "Hardmax": 13}
DOWNWARDS = {"Softmax": 13, "LogSoftmax": 13}
ALONG_LAST = ("Hardmax", "Softmax", "LogSoftmax")  # that mean the same in all opsets where their axis is the last one
HINT = "export it in an opset from which it need not be converted"
INLINE = "inline it first, with the pass onnxscript: {}"


def merge_imports(model: ModelProto) -> None:
    """List every domain once, in place, in its highest version: some converters list one twice."""
    found: dict[str, int] = {}
    for entry in model.opset_import:
        found[entry.domain] = max(entry.version, found.get(entry.domain, 0))
    del model.opset_import[:]
    for domain, version in found.items():
        model.opset_import.add(domain=domain, version=version)


def stamp(model: ModelProto, version: int) -> None:
    """Say that the model and its functions are of this default operator set, in place, and of an IR version that has it."""
    from onnx import helper

    for holder in (model, *model.functions):
        for entry in holder.opset_import:
            if tensors.is_standard(entry.domain):
                entry.version = version
    if interface.opset(model) is None:
        model.opset_import.add(domain="", version=version)
    needed = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    model.ir_version = max(model.ir_version, needed)


def changed(nodes: Iterable[NodeProto], old: int, new: int) -> list[str]:
    """The standard operators among nodes that are not defined alike in both opsets, or not at all in one, sorted."""
    names = {node.op_type for node in nodes if tensors.is_standard(node.domain)}
    return sorted(name for name in names if _since(name, old) is None or _since(name, old) != _since(name, new))


def convert(model: ModelProto, target: int) -> ModelProto:
    """The model in another default operator set; tensors may be external, and stay so. `model` is left as it is.

    Raises StageError, with the operator's name, where that can't be done or would change what it computes.
    """
    from onnx import version_converter

    now = interface.opset(model)
    if now is None:
        raise StageError("the graph has no default operator set to convert")
    made = type(model)()
    made.CopyFrom(model)
    if now == target:
        return made
    _require_reached(model, now, target)
    if changed([node for body in tensors.bodies(model) for node in body.node], now, target):
        try:
            made = version_converter.convert_version(made, target)
        except Exception as error:
            if target > now:
                raise _refused(str(error), now, target) from error
            made = _lowered(made, now, target)
        del made.functions[:]
        made.functions.extend(model.functions)
        made.metadata_props.extend(entry for entry in model.metadata_props if entry not in made.metadata_props)
    stamp(made, target)
    _require_converted(model, made, target)
    return made


def _lowered(model: ModelProto, now: int, target: int) -> ModelProto:
    """The model opset by opset, each time without the nodes that mean the same in both; else StageError."""
    from onnx import shape_inference, version_converter

    from onnxbuild.graphs import lowering

    made = shape_inference.infer_shapes(model)  # the converter asks for what it can't infer of what is kept from it
    for version in range(now - 1, target - 1, -1):
        names = changed([node for body in tensors.bodies(made) for node in body.node], version + 1, version)
        wider = [name for name in names if _is_wider(name, version, version + 1)]
        if lowering.set_aside(made, names, wider):
            try:
                made = version_converter.convert_version(made, version)
            except Exception as error:
                raise _refused(str(error), now, target) from error
        lowering.bring_back(made)
        stamp(made, version)
    made.graph.ClearField("value_info")
    made.graph.value_info.extend(model.graph.value_info)
    return made


def _since(name: str, opset: int) -> int | None:
    """The opset in which the definition of a standard operator that holds in `opset` was made; None where there is none."""
    import onnx

    try:
        schema = onnx.defs.get_schema(name, opset, "")
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated else schema.since_version


def _is_wider(name: str, old: int, new: int) -> bool:
    """Whether every node of a standard operator means in the newer opset what it does in the older one.

    So it is where only element types were added: it takes and gives the same, and its attributes have the same defaults.
    """
    import onnx

    if new < old or _since(name, old) is None or _since(name, new) is None:
        return False
    before, after = (onnx.defs.get_schema(name, opset, "") for opset in (old, new))
    return bool(_form(before) == _form(after))


def _form(schema: Any) -> Any:
    values = [[(one.name, one.option, one.is_homogeneous) for one in of] for of in (schema.inputs, schema.outputs)]
    attributes = {
        name: (str(one.type), one.required, one.default_value.SerializeToString())
        for name, one in schema.attributes.items()
    }
    return values, attributes


def _require_reached(model: ModelProto, now: int, target: int) -> None:
    """Raises StageError where an operator changes in a place that the converter doesn't look at, or is misread."""
    low, high = sorted((now, target))
    ranks = _ranks(model)
    for function in model.functions:
        own = next((one.version for one in function.opset_import if tensors.is_standard(one.domain)), now)
        if names := [name for name in changed(_all_nodes(function), own, target) if not _is_wider(name, own, target)]:
            fact = f"the function {function.domain}::{function.name} holds {names[0]}, which opset {target} reads otherwise"
            raise StageError(fact, INLINE)
    for node in _all_nodes(model.graph):
        inner = [graph for attribute in node.attribute for graph in tensors.graphs_of(attribute)]
        if inner and not tensors.is_standard(node.domain):
            names = changed([one for graph in inner for one in _all_nodes(graph)], now, target)
            if names := [name for name in names if not _is_wider(name, now, target)]:
                fact = f"a subgraph of {node.domain}::{node.op_type} holds {names[0]}, which opset {target} reads otherwise"
                raise StageError(fact, HINT)
    for node in _all_nodes(model.graph):
        since = (UPWARDS if now < target else DOWNWARDS).get(node.op_type, 0)
        if tensors.is_standard(node.domain) and low < since <= high and not _is_along_last(node, ranks, now):
            fact = (
                f"{node.op_type} means something else from opset {since} on, and ONNX's converter does not see to that"
            )
            raise StageError(fact, HINT)


def _is_along_last(node: NodeProto, ranks: Mapping[str, int], opset: int) -> bool:
    """Whether a node is one that works along an axis, and that is surely its input's last one."""
    default = -1 if opset >= 13 else 1
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), default)
    return node.op_type in ALONG_LAST and axis in (-1, ranks.get(node.input[0], 0) - 1)


def _ranks(model: ModelProto) -> dict[str, int]:
    """The ranks of values, as far as ONNX infers them."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # noqa: BLE001  # without it nothing is known of inner values
        inferred = model
    values = (value for graph in tensors.graphs(inferred) for value in (*graph.input, *graph.output, *graph.value_info))
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }


def _refused(said: str, now: int, target: int) -> StageError:
    """What the converter's own sentence means: it names the operator, and an opset on the way."""
    text = " ".join(said.split())
    named = re.search(r"No Previous Version of (\w+) exists", text)
    if named:
        return StageError(f"{named[1]} is not in opset {target}, and ONNX's converter has nothing in its place", HINT)
    named = re.search(r"No Adapter (?:(From|To) Version \D*(\d+) )?[Ff]or (\w+)", text)
    if named:
        fact = f"ONNX's converter can't bring {named[3]} from opset {now} to {target}"
        return StageError(f"{fact}: it has no step {named[1].lower()} opset {named[2]}" if named[1] else fact, HINT)
    said = text.rpartition("failed: ")[2] or text
    return StageError(f"ONNX's converter can't bring the graph from opset {now} to {target}: {said}", HINT)


def _require_converted(before: ModelProto, after: ModelProto, target: int) -> None:
    """Raises StageError unless the result is all in the opset, valid, and the same in other domains and functions."""
    import onnx

    found = interface.opset(after)
    if found != target:
        raise StageError(f"ONNX's converter gave opset {found}, asked for {target}", HINT)
    for node in (node for body in tensors.bodies(after) for node in body.node if tensors.is_standard(node.domain)):
        if _since(node.op_type, target) is None:
            raise StageError(f"ONNX's converter left {node.op_type}, which is not in opset {target}", HINT)
    if _others(before) != _others(after):
        raise StageError("ONNX's converter changed nodes of other domains", HINT)
    try:
        onnx.checker.check_model(_bare(after), full_check=True)
    except Exception as error:
        raise StageError(
            f"what ONNX's converter gave is no valid model: {' '.join(str(error).split())}", HINT
        ) from error


def _others(model: ModelProto) -> tuple[Counter[tuple[str, str]], dict[str, int], int]:
    """What is of other domains: nodes by operator, versions, and the number of functions."""
    nodes = (node for body in tensors.bodies(model) for node in body.node)
    imports = {one.domain: one.version for one in model.opset_import if not tensors.is_standard(one.domain)}
    counted = Counter((one.domain, one.op_type) for one in nodes if not tensors.is_standard(one.domain))
    return counted, imports, len(model.functions)


def _bare(model: ModelProto) -> ModelProto:
    """The model with inputs in the place of external initializers, whose files the checker would look for."""
    from onnx import helper

    bare = type(model)()
    bare.CopyFrom(model)
    for graph in tensors.graphs(bare):
        for tensor in [tensor for tensor in graph.initializer if tensors.is_external(tensor)]:
            if graph is bare.graph:
                graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
                graph.initializer.remove(tensor)
            else:
                tensors.set_inline(tensor, bytes(tensors.nbytes(tensor)))
    for tensor in tensors.large_candidates(bare):
        if tensors.is_external(tensor):
            tensors.set_inline(tensor, bytes(tensors.nbytes(tensor)))
    return bare


def _all_nodes(body: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    """The nodes of a body and of the subgraphs in it."""
    for node in body.node:
        yield node
        for attribute in node.attribute:
            for graph in tensors.graphs_of(attribute):
                yield from _all_nodes(graph)
