"""What onnxruntime has no implementation of in a graph that it refuses, and whether a recipe allows for that.

Reads the graph and onnxruntime's schemas; runs nothing.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from onnxbuild.errors import StageError
from onnxbuild.graphs import tensors

SHOWN = 4  # nodes named of those that onnxruntime can't run


class NotRunError(Exception):
    """A model can't be run here, for a reason that the recipe allows."""


def reason(graph: str | Path, error: str, allowed: list[str]) -> str:
    """Why onnxruntime, which said `error`, doesn't run a graph, where that is allowed; "" where no operator is to blame.

    Raises StageError where an operator is to blame that `allowed` does not name.
    """
    lacking = operators(graph, error)
    try:
        return _why_not_run(lacking, allowed, _lacking_dtypes(graph, error))
    except StageError as refused:
        raise StageError(f"{refused.fact}{_nodes(graph, lacking)}", refused.hint) from None


def _nodes(graph: str | Path, lacking: list[str]) -> str:
    """The first nodes of operators, in lines: a graph's author looks for those by name."""
    from onnxbuild.graphs import modelfile

    model = modelfile.structure(graph)
    names = [
        node.name
        for body in tensors.bodies(model)
        for node in body.node
        if node.name and f"{_domain(node.domain)}::{node.op_type}" in lacking
    ]
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return "".join(f"\n    {line}" for line in [*(f"node '{name}'" for name in names[:SHOWN]), *more])


def operators(path: str | Path, error: str = "") -> list[str]:
    """The operators of a graph, as "domain::op_type", that onnxruntime has no schema for.

    Functions that the model defines are known. `error`, what onnxruntime said when it refused the graph, adds an
    operator whose kernel is missing.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    from onnxbuild.graphs import modelfile
    from onnxbuild.runtimes import onnxruntime

    if onnxruntime.is_ort_format(path):
        return []
    model = modelfile.structure(path)
    known = {(schema.domain, schema.name) for schema in get_all_operator_schema()}
    known |= {(function.domain, function.name) for function in model.functions}
    used = {(node.domain, node.op_type) for body in tensors.bodies(model) for node in body.node}
    found = {f"{_domain(domain)}::{op_type}" for domain, op_type in used if (_domain(domain, ""), op_type) not in known}
    lacking = re.search(r"Could not find an implementation for (?:([\w.]+)[.:]+)?(\w+)\(", error)
    if lacking:
        found |= {f"{_domain(domain)}::{op_type}" for domain, op_type in used if op_type == lacking[2]}
    return sorted(found)


def _domain(domain: str, default: str = "ai.onnx") -> str:
    return default if tensors.is_standard(domain) else domain


def _why_not_run(unsupported: list[str], allowed: list[str], dtypes: tuple[str, list[str]]) -> str:
    """Why the graph isn't run, where the recipe allows it; "" where no operator is to blame.

    `dtypes` is the operator that is there, but not for the dtypes of its inputs, and those.
    """
    if not unsupported:
        return ""
    lacking, found = dtypes
    of = {f"ai.onnx::{lacking}": f" for {' or '.join(found)}"} if found else {}
    fact = f"onnxruntime has no implementation of {', '.join(name + of.get(name, '') for name in unsupported)}"
    if set(unsupported) <= set(allowed):
        return fact
    refused = [operator for operator in unsupported if operator not in allowed]
    unchecked = f"add {', '.join(refused)} to parity.allow_not_run to build unchecked"
    if refused == list(of):
        others = "onnxruntime has more operators in float32: convert the model and its inputs"
        unchecked = f"{'a newer onnxruntime may have it' if found == ['float32'] else others}, or {unchecked}"
    else:
        unchecked += ", or decompose the operator in symbolics"
    raise StageError(f"{fact}, so parity can't be checked", unchecked)


def _lacking_dtypes(graph: str | Path, error: str) -> tuple[str, list[str]]:
    """The standard operator that onnxruntime knows, but not for its inputs' dtypes, and those; ("", []) for none.

    Where onnxruntime does not name the node, the dtypes are those of every node of that operator.
    """
    import onnx

    from onnxbuild.graphs import interface, modelfile

    said = re.search(r"Could not find an implementation for (\w+)\(\d+\) node with name '(.*?)'", error)
    if not said:
        return "", []
    model = modelfile.structure(graph)
    with contextlib.suppress(Exception):  # without it the dtypes of some values are not known; there is no more to say
        model = onnx.shape_inference.infer_shapes(model)
    body = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*body.input, *body.value_info, *body.output)}
    types |= {tensor.name: tensor.data_type for tensor in body.initializer}
    nodes = [node for node in body.node if node.op_type == said[1] and said[2] in ("", node.name)]
    of_nodes = [
        dict.fromkeys(interface.dtype_name(types[name]) for name in node.input if types.get(name)) for node in nodes
    ]
    return said[1], list(dict.fromkeys(", ".join(dtypes) for dtypes in of_nodes if dtypes))
