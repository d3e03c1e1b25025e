"""The ranks of the design: a folder may import only from its own rank or lower ones, and the light path stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import onnxbuild

PACKAGE = Path(onnxbuild.__file__).parent

# Lower may not know higher. A module or folder that is not listed fails the test: decide where it belongs.
RANKS = [
    ["contracts", "errors", "system", "text"],
    ["store", "discovery", "parity", "report"],
    ["graphs", "executors"],
    ["runtimes", "passes"],
    ["sources"],
    ["recipe", "stages"],
    ["plan"],
    ["queries"],
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
)


def imported(path: Path) -> set[str]:
    """The first-level onnxbuild modules that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "onnxbuild":
            found |= {alias.name for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("onnxbuild."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("onnxbuild.")}
    return found


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_folder_has_a_rank():
    there = {module_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}

    assert there == {name for names in RANKS for name in names}


def test_no_folder_imports_from_a_higher_rank():
    rank = {name: index for index, names in enumerate(RANKS) for name in names}
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        here = module_of(path)
        if here == "__init__":
            continue
        too_high = [there for there in sorted(imported(path)) if rank[there] > rank[here]]
        wrong += [f"{path.relative_to(PACKAGE)} imports {there}" for there in too_high]

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
