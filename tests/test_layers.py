"""The ranks of the design: a folder may import only from its own rank or lower ones, and the light path stays light."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import onnxbuild
from onnxbuild.sources import SOURCES
from onnxbuild.stages import STAGES

PACKAGE = Path(onnxbuild.__file__).parent

# Lower may not know higher. A module or folder that is not listed fails the test: decide where it belongs.
RANKS = [
    ["contracts", "errors", "system", "text"],
    ["store", "discovery", "parity", "report"],
    ["graphs", "executors"],
    ["runtimes", "passes", "steps"],
    ["sources", "targets"],
    ["recipe", "stages"],
    ["plan"],
    ["queries"],
    ["review"],
    ["engine", "reproducibility"],
    ["commands"],
    ["cli", "__main__"],
]
HEAVY = (
    "torch",
    "onnx",
    "numpy",
    "onnxruntime",
    "onnxscript",
    "onnx_ir",
    "onnxsim",
    "onnxoptimizer",
    "jinja2",
    "rich",
    "jsonschema",
    "openvino",
    "coremltools",
    "onnx2coreml",
    "tensorrt_rtx",
    "tensorrt",
    "flatbuffers",
    "transformers",
    "keras",
    "tensorflow",
    "sklearn",
)


def imported(path: Path) -> set[tuple[str, str]]:
    """What a file imports of onnxbuild, inside functions too: the folder or module, and what of it ("" for all)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "onnxbuild":
            found |= {(alias.name, "") for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("onnxbuild."):
            _, folder, *rest = node.module.split(".")
            found |= {(folder, rest[0] if rest else alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names if alias.name.startswith("onnxbuild."))
            found |= {(name[1], name[2] if name[2:] else "") for name in names}
    return found


def place_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def edges() -> dict[tuple[str, str], set[tuple[Path, str]]]:
    """The imports between folders: from one to another, by which file and of what."""
    found: dict[tuple[str, str], set[tuple[Path, str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        here = place_of(path)
        for there, what in imported(path):
            if here not in ("__init__", there):
                found.setdefault((here, there), set()).add((path.relative_to(PACKAGE), what))
    return found


def test_every_folder_has_a_rank():
    listed = {name for names in RANKS for name in names}
    there = {place_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}

    assert there == listed


def test_no_folder_imports_from_a_higher_rank():
    rank = {name: index for index, names in enumerate(RANKS) for name in names}
    wrong = [
        f"{path} imports {there}" for (here, there), by in edges().items() if rank[here] < rank[there] for path, _ in by
    ]

    assert wrong == []


def test_no_circle_between_folders():
    sorter = graphlib.TopologicalSorter()
    for here, there in edges():
        sorter.add(here, there)

    sorter.prepare()  # raises CycleError, which names the circle


def test_what_others_use_of_a_folder_is_on_its_face():
    """`__all__` of a folder lists the modules and names that it offers; all else is its own business."""
    wrong = []
    for (_, folder), uses in edges().items():
        face = importlib.import_module(f"onnxbuild.{folder}")
        offered = getattr(face, "__all__", None)
        if offered is not None:
            wrong += [f"{path} imports {what} of {folder}" for path, what in uses if what and what not in offered]

    assert wrong == []


def test_each_folder_says_what_it_is_for_and_has_a_face():
    for folder in sorted({path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}):
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert len(text.split(".")) > 2, f"{folder.name}: a sentence on what it is for, one on what it does not know"
        if folder.parent == PACKAGE:
            assert hasattr(importlib.import_module(f"onnxbuild.{folder.name}"), "__all__"), folder.name


def test_public_functions_and_modules_have_docstrings():
    bare = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree, name = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(PACKAGE)
        bare += [] if ast.get_docstring(tree) else [f"{name}"]
        scopes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")]
        functions = [node for scope in scopes for node in scope.body if isinstance(node, ast.FunctionDef)]
        public = [node for node in functions if node.name[0] != "_"]
        bare += [f"{name}: {node.name}" for node in public if not ast.get_docstring(node) and not is_stub(node)]

    assert bare == []


def is_stub(node: ast.FunctionDef) -> bool:
    """Whether a function is a protocol's: its body is `...`, and the protocol's docstring speaks of it."""
    return isinstance(node.body[-1], ast.Expr) and isinstance(node.body[-1].value, ast.Constant)


# Who may name a kind of stage or of source by its name as a string: those whose kinds they are, and who makes the DAG.
KINDS = {
    "stages": (STAGES, {"stages", "plan"}),
    "sources": (SOURCES, {"sources", "plan"}),
}


@pytest.mark.parametrize("kinds", KINDS)
def test_nobody_else_knows_a_kind_by_its_name(kinds):
    """No comparison with a kind's name, and no look-up by it, outside its own folder."""
    table, allowed = KINDS[kinds]
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if place_of(path) in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            inner = [one for side in sides for one in ast.walk(side)]
            asked = {one.attr for one in inner if isinstance(one, ast.Attribute)}
            asked |= {one.id for one in inner if isinstance(one, ast.Name)}
            if asked & {"kind", "source"} and {one.value for one in inner if isinstance(one, ast.Constant)} & set(
                table
            ):
                wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")

    assert wrong == []


def test_modules_and_functions_stay_small():
    long = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 330:
            long.append(f"{path.relative_to(PACKAGE)}: {text.count(chr(10))} lines")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        long += [f"{path.relative_to(PACKAGE)}: {f.name}" for f in functions if (f.end_lineno or 0) - f.lineno > 60]

    assert long == []


def test_the_command_line_imports_nothing_heavy():
    modules = "onnxbuild.cli, onnxbuild.engine.session, onnxbuild.stages"
    code = f"import sys, {modules}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
