"""Sizes as expressions of dimensions: `past + sequence`, `height // 2`, `3*batch`. Pure and light.

A recipe relates dimensions so, and exporters write such text as the name of an axis. Sums, differences, products, floor
divisions, whole numbers and names; nothing else is read, and nothing is ever run. Knows no recipes and no models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

Expression: TypeAlias = "int | str | tuple[str, Expression, Expression]"  # a size, a dimension, or (sign, left, right)

LONGEST = 200  # characters
_SIGNS = {"Add": "+", "Sub": "-", "Mult": "*", "FloorDiv": "//"}
_WRITTEN = r"[\w\s+\-*/%(),]+"  # by exporters, as text of an axis
_NAME = r"\b[A-Za-z_]\w*\b(?!\s*\()"
_FORM = "write sums, differences, products and floor divisions (//) of dimensions and whole numbers"


class MalformedError(ValueError):
    """Text that is no such expression; `hint` says what is."""

    def __init__(self, fact: str, hint: str = _FORM) -> None:
        super().__init__(fact)
        self.fact, self.hint = fact, hint


def parse(text: str) -> Expression:
    """The expression that a text stands for. Raises MalformedError."""
    import ast
    import warnings

    if len(text) > LONGEST:
        raise MalformedError(f"the expression is longer than {LONGEST} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise MalformedError(f"'{text}' is no expression of dimensions") from None
    return _read(tree.body, text)


def known(text: str) -> Expression | None:
    """The expression that a text stands for, None where it is another text."""
    try:
        return parse(text)
    except MalformedError:
        return None


def names(expression: Expression) -> list[str]:
    """The dimensions in an expression, each once, in order."""
    if isinstance(expression, tuple):
        return list(dict.fromkeys([*names(expression[1]), *names(expression[2])]))
    return [expression] if isinstance(expression, str) else []


def renamed(text: str, new: Mapping[str, str]) -> str:
    """A name, or an expression, with other names of dimensions in it; text that is neither is left as it is.

    Exporters write more than is read here, such as Max(1, batch): what is called there is no dimension.
    """
    if text in new or not re.fullmatch(_WRITTEN, text):
        return new.get(text, text)
    return re.sub(_NAME, lambda found: new.get(found[0], found[0]), text)


def words(text: str) -> set[str]:
    """The names that `renamed` finds in a text."""
    return {*re.findall(_NAME, text)} if re.fullmatch(_WRITTEN, text) else {text}


def size(expression: Expression, sizes: Mapping[str, int]) -> int | None:
    """What an expression gives at these sizes; None where no axis can have it: below 0, or divided by 0."""
    try:
        found = _value(expression, sizes)
    except ZeroDivisionError:
        return None
    return found if found >= 0 else None


def resolve(relations: Mapping[str, Expression], sizes: Mapping[str, int]) -> dict[str, int | None]:
    """The sizes of related dimensions at the sizes of the free ones, in the order of `relations`.

    None where there is no such size, and where a relation rests on one that isn't known, or on itself.
    """
    found: dict[str, int | None] = dict(sizes)
    for _ in relations:
        for name, expression in relations.items():
            if found.get(name) is None and all(found.get(other) is not None for other in names(expression)):
                found[name] = size(expression, {other: found[other] or 0 for other in names(expression)})
    return {name: found.get(name) for name in relations}


def contradicts(text: str, dim: str, related: Mapping[str, str], dims: Iterable[str]) -> bool:
    """Whether an axis that is `text` (what an exporter or a file calls it) can't be the dimension `dim`.

    False where the text is a name of its own, which says nothing. Tried are sizes that every small number divides, so
    that `2*(n // 2)` is n.
    """
    relations = {name: expression for name, other in related.items() if (expression := known(other)) is not None}
    sizes: dict[str, int | None] = {name: 720_720 * (3 + 2 * n) for n, name in enumerate(dims) if name not in relations}
    sizes |= resolve(relations, {name: size for name, size in sizes.items() if size is not None})
    expression, wanted = known(text), sizes.get(dim)
    if expression is None or wanted is None or not names(expression):
        return False
    given = {name: sizes.get(name) for name in names(expression)}
    return all(given.values()) and size(expression, {name: one or 0 for name, one in given.items()}) != wanted


def linear(expression: Expression) -> tuple[int, str, int] | None:
    """(a, name, b) where an expression is a * name + b of one dimension, a being 1 or more; else None."""
    found = _coefficients(expression)
    if found is None:
        return None
    factors, constant = found
    ((name, factor),) = factors.items() if len(factors) == 1 else (("", 0),)
    return (factor, name, constant) if factor > 0 else None


def _read(node: object, text: str) -> Expression:
    import ast

    if isinstance(node, ast.BinOp):
        sign = _SIGNS.get(type(node.op).__name__)
        if sign is None:
            floor = "write // for a division" if isinstance(node.op, ast.Div) else _FORM
            raise MalformedError(f"'{text}' holds more than +, -, * and //", floor)
        left, right = _read(node.left, text), _read(node.right, text)
        if sign == "//" and right == 0:
            raise MalformedError(f"'{text}' divides by 0")
        return sign, left, right
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    raise MalformedError(f"'{text}' is no expression of dimensions")


def _value(expression: Expression, sizes: Mapping[str, int]) -> int:
    if isinstance(expression, int):
        return expression
    if isinstance(expression, str):
        return sizes[expression]
    sign, left, right = expression[0], _value(expression[1], sizes), _value(expression[2], sizes)
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    return left * right if sign == "*" else left // right


def _coefficients(expression: Expression) -> tuple[dict[str, int], int] | None:
    """The factor of each dimension and the constant of a linear expression; None for any other."""
    if isinstance(expression, int):
        return {}, expression
    if isinstance(expression, str):
        return {expression: 1}, 0
    sign, one, other = expression[0], _coefficients(expression[1]), _coefficients(expression[2])
    if one is None or other is None or sign == "//":
        return None
    if sign == "*":
        (factors, constant), by = (one, other[1]) if not other[0] else (other, one[1])
        return (
            ({name: by * factor for name, factor in factors.items()}, by * constant)
            if not (one[0] and other[0])
            else None
        )
    by = 1 if sign == "+" else -1
    factors = dict(one[0])
    for name, factor in other[0].items():
        factors[name] = factors.get(name, 0) + by * factor
    return {name: factor for name, factor in factors.items() if factor}, one[1] + by * other[1]
