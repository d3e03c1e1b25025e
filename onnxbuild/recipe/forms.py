"""The forms of a recipe's scalars: names, numbers, dtypes, each with what it may look like in plain words."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta


def _form(pattern: str, expected: str) -> Meta:
    """A pattern, and in plain words what it asks for. Python's `$` alone would let a last line break through."""
    return Meta(pattern=rf"^{pattern}$(?!\n)", max_length=200, extra_json_schema={"x-expected": expected})


Name = Annotated[
    str, _form(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '.', '_' and '-', not starting with a sign")
]
Identifier = Annotated[str, _form(r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and '_', not starting with a digit")]
Axis = Annotated[str, _form(r"(0|[1-9][0-9]{0,2})", "an axis number, counted from 0")]
# A device's name is a device in every folder of Windows, whatever follows its first dot, and a dot at the end is lost there.
RecipeName = Annotated[
    str,
    _form(
        r"(?!([Cc][Oo][Nn]|[Pp][Rr][Nn]|[Aa][Uu][Xx]|[Nn][Uu][Ll]|[Cc][Oo][Mm][0-9]|[Ll][Pp][Tt][0-9])([.]|$))"
        r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?",
        "letters, digits, '.', '_' and '-', not starting with a sign or ending with a dot, and no device of Windows",
    ),
]
TensorName = Annotated[str, Meta(min_length=1)]
Operator = Annotated[str, _form(r"[A-Za-z_]\w*::[A-Za-z_]\w*(\.\w+)?", "namespace::name, as in torch.ops")]
OpType = Annotated[str, _form(r"[^:\s]*::[^:\s]+", "domain::op_type")]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
DType = Literal[
    "float16", "float32", "float64", "bfloat16",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string",
]  # fmt: skip
