"""Custom torch operators: one entry of the recipe's `symbolics` serves both exporters.

An entry either decomposes the operator into ONNX ones, by a function `f(op, *tensors, **attributes)`, or becomes one
node in a domain of its own. Tensors come in the torch operator's order; every other argument is a Python value by its
name. `op.Name(...)` makes the ONNX operator of that name in the recipe's opset, in the same way under both exporters:
inputs by position or by the schema's names, Python numbers where an input is a constant, attributes by name.

For TorchScript registration is global in torch; it never leaks, as each stage has its own process. Light to import.
"""

# ruff: noqa: SLF001  # an operator's schema, and the list of them, have no public names in torch

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxbuild.errors import StageError

Build = Callable[..., Any]  # (op, *tensors, **attributes) -> one value, or a sequence of them


@dataclass
class Symbolic:
    """One custom operator: torch's overload, what its arguments are called, and what it becomes."""

    name: str  # "acme::swish"
    overload: Any  # torch.ops.acme.swish.default
    decompose: Build | None
    node: Mapping[str, Any] | None
    uses: int = 0

    def split(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """A call's arguments, defaults filled in: tensors (None where left out) in order, the rest by name."""
        given = dict(zip((a.name for a in self.overload._schema.arguments), args, strict=False)) | dict(kwargs)
        tensors, attributes = [], {}
        for argument in self.overload._schema.arguments:
            value = given.get(argument.name, argument.default_value if argument.has_default_value() else None)
            if is_tensor(argument):
                tensors.append(value)
            else:
                attributes[argument.name] = value
        return tensors, attributes


@dataclass
class Symbolics:
    """All custom operators of a recipe."""

    opset: int
    entries: list[Symbolic] = field(default_factory=list)

    @property
    def opsets(self) -> dict[str, int]:
        """Versions of the custom domains, as torch.onnx.export's custom_opsets."""
        return {entry.node["domain"]: entry.node.get("version", 1) for entry in self.entries if entry.node}

    def for_dynamo(self) -> dict[Any, Callable[..., Any]]:
        """torch.onnx.export's custom_translation_table."""
        return {entry.overload: _translation(entry, self.opset) for entry in self.entries}

    def register_for_torchscript(self) -> None:
        """Register each operator in torch, for the rest of this process."""
        import torch.onnx

        for entry in self.entries:
            name = entry.name.partition(".")[0]
            torch.onnx.register_custom_op_symbolic(name, _symbolic(entry, self.opset), self.opset)

    def require_used(self) -> None:
        """Raises StageError for an entry whose operator the exported graph never called."""
        unused = [entry.name for entry in self.entries if not entry.uses]
        if unused:
            raise StageError(
                f"symbolics: the exported model never calls {', '.join(unused)}",
                "take the entry out, or look whether the model calls the operator under another name",
            )


def resolve(section: Mapping[str, Any], opset: int, root: Path) -> Symbolics:
    """The recipe's `symbolics` section, its operators found in torch and its functions imported. Raises StageError.

    The model must have been made before: importing its module is what defines its operators.
    """
    entries = []
    for name, spec in section.items():
        overload = _overload(name)
        build = None
        if "decompose" in spec:
            from onnxbuild.sources.factories import import_callable

            build = import_callable(spec["decompose"], root)
        entry = Symbolic(name, overload, build, spec.get("node"))
        _check_node(entry)
        entries.append(entry)
    return Symbolics(opset, entries)


def is_tensor(argument: Any) -> bool:
    """Whether a torch schema's argument is a tensor, or an optional one."""
    return str(argument.type) in {"Tensor", "Optional[Tensor]", "Tensor?"}


def _overload(name: str) -> Any:
    import torch

    namespace, _, rest = name.partition("::")
    op_name, _, overload_name = rest.partition(".")
    known = [s.name for s in torch._C._jit_get_all_schemas() if s.name.startswith(f"{namespace}::")]
    if f"{namespace}::{op_name}" not in known:
        near = difflib.get_close_matches(f"{namespace}::{op_name}", known, 1)
        defined = "it must be defined (torch.library) where the factory's module is imported"
        raise StageError(
            f"symbolics: torch has no operator '{name}'", f"did you mean '{near[0]}'?" if near else defined
        )
    packet = getattr(getattr(torch.ops, namespace), op_name)
    overload_name = overload_name or "default"
    if overload_name not in packet.overloads():
        fact = f"symbolics: '{namespace}::{op_name}' has no overload '{overload_name}'"
        raise StageError(fact, f"it has {', '.join(packet.overloads())}")
    return getattr(packet, overload_name)


def _check_node(entry: Symbolic) -> None:
    """A node's inputs and attributes must be arguments of the torch operator."""
    if entry.node is None:
        return
    arguments = {argument.name: argument for argument in entry.overload._schema.arguments}
    wanted = [(name, True) for name in entry.node["inputs"]]
    wanted += [(spec.get("argument") or name, False) for name, spec in entry.node.get("attributes", {}).items()]
    for name, tensor in wanted:
        if name not in arguments or is_tensor(arguments[name]) is not tensor:
            kind = "tensor" if tensor else "attribute"
            fit = [n for n, a in arguments.items() if is_tensor(a) is tensor]
            fact = f"symbolics: {entry.name} has no {kind} argument '{name}'"
            raise StageError(fact, f"it has {', '.join(fit) or 'none'}")
    results = len(entry.overload._schema.returns)
    if len(entry.node["outputs"]) != results:
        own = len(entry.node["outputs"])
        raise StageError(f"symbolics: {entry.name} returns {results} tensors, its node has {own} outputs")


def _node_call(entry: Symbolic, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The inputs and the attributes of a custom node for one call of its torch operator."""
    assert entry.node is not None
    tensors, attributes = entry.split(args, kwargs)
    by_name = dict(zip((a.name for a in entry.overload._schema.arguments if is_tensor(a)), tensors, strict=True))
    cast = {"float": float, "int": int, "string": str}
    chosen = {}
    for name, spec in entry.node.get("attributes", {}).items():
        value = attributes[spec.get("argument") or name]
        if value is None:
            continue
        kind = cast[spec["type"].removesuffix("s")]
        chosen[name] = [kind(item) for item in value] if spec["type"].endswith("s") else kind(value)
    return [by_name[name] for name in entry.node["inputs"]], chosen


def _translation(entry: Symbolic, opset: int) -> Callable[..., Any]:
    """The function that the dynamo exporter calls with onnxscript values and Python constants."""
    from onnxscript.values import Op, Opset

    def decomposed(*args: Any, **kwargs: Any) -> Any:
        entry.uses += 1
        tensors, attributes = entry.split(args, kwargs)
        assert entry.decompose is not None
        return entry.decompose(Opset("", opset), *tensors, **attributes)

    def node(*args: Any, **kwargs: Any) -> Any:
        entry.uses += 1
        assert entry.node is not None
        tensors, attributes = _node_call(entry, args, kwargs)
        schema = _schema(entry.node)
        return Op(Opset(schema.domain, schema.since_version), schema.name, schema)(*tensors, **attributes)

    return decomposed if entry.decompose else node


def _schema(node: Mapping[str, Any]) -> Any:
    """The onnx.defs.OpSchema of a custom node; its tensors may be of any type, and differ."""
    from onnx.defs import OpSchema, get_schema

    def values(role: str) -> list[Any]:
        return [OpSchema.FormalParameter(name, f"T_{role}_{i}") for i, name in enumerate(node[f"{role}s"])]

    identity = get_schema("Identity").type_constraints[0].allowed_type_strs
    every = [kind for kind in identity if kind.startswith("tensor(")]
    constraints = [
        (f"T_{role}_{i}", every, "any tensor") for role in ("input", "output") for i in range(len(node[f"{role}s"]))
    ]
    attributes = [
        OpSchema.Attribute(name, getattr(OpSchema.AttrType, spec["type"].upper()), required=False)
        for name, spec in node.get("attributes", {}).items()
    ]
    return OpSchema(
        node["op_type"],
        node["domain"],
        node.get("version", 1),
        inputs=values("input"),
        outputs=values("output"),
        type_constraints=constraints,
        attributes=attributes,
    )


def _symbolic(entry: Symbolic, opset: int) -> Callable[..., Any]:
    """The function that the TorchScript exporter calls with the graph under construction and its values."""
    from onnxbuild.sources.pytorch.graphops import GraphOps, constant, typed_like

    def symbolic(graph: Any, *args: Any) -> Any:
        entry.uses += 1
        arguments = entry.overload._schema.arguments
        plain = [value if is_tensor(a) else constant(value, a) for a, value in zip(arguments, args, strict=False)]
        ops = GraphOps(graph, opset)
        if entry.decompose:
            tensors, attributes = entry.split(plain, {})
            results = entry.decompose(ops, *map(ops.optional, tensors), **attributes)
        else:
            assert entry.node is not None
            inputs, attributes = _node_call(entry, plain, {})
            results = ops.custom(entry.node, inputs, attributes)
            typed_like(results, graph.original_node, entry.overload, plain)
        return results

    return symbolic
