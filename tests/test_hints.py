"""Every hint in the code is in some test: one that nothing ever showed may well say something false."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import onnxbuild

PACKAGE = Path(onnxbuild.__file__).parent
TESTS = Path(__file__).parent
# Who takes a hint, and as which of its arguments.
TAKES = {"StageError": 1, "UnfitError": 1, "UserError": 1, "usage": 1, "Finding": 2, "Problem": 5}
NAMES = re.compile(r"(?i)hints?$|remedy|advice|FORMS|KEPT_SHAPE")  # a pattern beside a hint is passed over
WORDS = 3  # in a row, of a text between two values, make it worth looking for


def texts(node: ast.AST) -> Iterator[str]:
    """The constant parts of the strings in an expression, longest first of each string."""
    parts_of = {part for inner in ast.walk(node) if isinstance(inner, ast.JoinedStr) for part in inner.values}
    for inner in ast.walk(node):
        if inner in parts_of:
            continue
        if isinstance(inner, ast.JoinedStr):
            parts = [part.value for part in inner.values if isinstance(part, ast.Constant)]
            yield max(map(str, parts), key=len, default="")
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def hints(path: Path) -> Iterator[tuple[int, str]]:
    """The hints of a module, each with its line: what is given as one, and what is called one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found: list[ast.AST] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            found += node.args[TAKES[name] : TAKES[name] + 1] if name in TAKES else []
            found += [keyword.value for keyword in node.keywords if keyword.arg == "hint"]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            pairs = [one.elts[-1] for one in node.value.elts if isinstance(one, ast.Tuple) and one.elts]
            found += pairs if any(NAMES.search(ast.unparse(target)) for target in node.targets) else []
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            found += node.value.values if any(NAMES.search(ast.unparse(target)) for target in node.targets) else []
        elif isinstance(node, ast.Assign) and any(NAMES.search(ast.unparse(target)) for target in node.targets):
            found.append(node.value)
        elif isinstance(node, ast.FunctionDef) and (NAMES.search(node.name) or path.name == "hints.py"):
            found += [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value]
        for one in found:
            yield from ((one.lineno, text) for text in texts(one) if len(text.split()) > WORDS)  # type: ignore[attr-defined]


def said() -> str:
    files = [*TESTS.rglob("*.py"), *TESTS.rglob("*.yaml"), *TESTS.rglob("*.txt")]
    joined = "\n".join(path.read_text(encoding="utf-8") for path in files if path != Path(__file__))
    return plain(re.sub(r'"\s*\n\s*f?"', "", joined))


def plain(text: str) -> str:
    return " ".join(re.sub(r"[\\\\`'\"]", "", text).split())


def words(text: str) -> list[str]:
    """Every few words in a row of a hint."""
    split = plain(text).split()
    return [" ".join(split[at : at + WORDS]) for at in range(len(split) - WORDS + 1)]


def test_every_hint_is_in_some_test():
    tested = said()
    missing = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in dict.fromkeys(hints(path))
        if not any(few in tested for few in words(text))
    ]

    assert missing == []
