"""What onnxbuild makes of a project's recipes, and what plain tools make of the same models, each in their own processes."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PROBLEM = re.compile(r"^recipes/(?P<name>.+)\.yaml:\d+:\d+: (?P<fact>.*)$")


class Outcome(NamedTuple):
    """What a recipe came to; `stage` is the one that failed, or "recipe" where it was refused before any ran."""

    built: bool
    stage: str = ""
    fact: str = ""
    hint: str = ""


def project(root: Path) -> Path:
    """An empty project, in which recipes lie in `recipes/`."""
    (root / "recipes").mkdir(parents=True, exist_ok=True)
    (root / "pyproject.toml").touch()
    return root


def build(root: Path, names: Sequence[str], *, batch: int = 100) -> Iterator[tuple[str, Outcome]]:
    """Run these recipes, a hundred with one command, and give what each came to."""
    for chunk in _batched(names, batch):
        for name in chunk:
            (root / "build" / name / "report.json").unlink(missing_ok=True)
        done = _onnxbuild(root, chunk)
        found = {name: _outcome(root, name, done.stderr) for name in chunk}
        lost = [name for name, outcome in found.items() if outcome is None]
        for name in lost:  # whatever ended the command, it is told of the recipe that did
            done = _onnxbuild(root, [name]) if len(chunk) > 1 else done
            said = f"exit code {done.returncode}: {done.stderr[-600:]}"
            found[name] = _outcome(root, name, done.stderr) or Outcome(built=False, stage="command", fact=said)
        yield from ((name, outcome) for name, outcome in found.items() if outcome is not None)


def _batched(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _onnxbuild(root: Path, names: Iterable[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onnxbuild", "run", "--keep-going", "--quiet"]
    recipes = [f"recipes/{name}.yaml" for name in names]
    return subprocess.run(
        [*command, *recipes], cwd=root, env=environment(root), capture_output=True, text=True, check=False
    )


def environment(root: Path) -> dict[str, str]:
    """The variables of a child process: this checkout's code, and a home folder of the project's own."""
    paths = filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    home = str(root / "home")
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "HOME": home, "XDG_STATE_HOME": home, "COLUMNS": "200"}


def _outcome(root: Path, name: str, said: str) -> Outcome | None:
    """By its report, or by what the command said of the recipe."""
    path = root / "build" / name / "report.json"
    if path.exists():
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["status"] == "done":
            return Outcome(built=True)
        failure = report["failures"][0]
        return Outcome(built=False, stage=failure["stage"], fact=failure["fact"], hint=failure["hint"])
    lines = iter(said.splitlines())
    for line in lines:
        if (problem := PROBLEM.match(line)) and problem["name"] == name:
            more = [one.strip() for one in itertools.takewhile(lambda one: one.startswith("    "), lines)]
            hint = " ".join(more).removeprefix("hint: ")
            return Outcome(built=False, stage="recipe", fact=problem["fact"], hint=hint)
    return None


def failing(root: Path, name: str) -> str:
    """The file of the first case at which a graph was found wrong, which holds its inputs; "" where none was."""
    folder = root / "build" / name
    report = folder / "report.json"
    failures = json.loads(report.read_text(encoding="utf-8"))["failures"] if report.exists() else []
    kept = [path for failure in failures for path in failure["kept"] if path.endswith(".npz")]
    return str(folder / kept[0]) if kept else ""


def plain(root: Path, names: Sequence[str], command: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a script says of each name, one line of JSON each; a name at which it dies is a `crash`."""
    left = list(names)
    while left:
        done = subprocess.run(
            [sys.executable, *command, *left],
            cwd=root,
            env=environment(root),
            capture_output=True,
            text=True,
            check=False,
        )
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        yield from ((one["name"], one) for one in found)
        left = left[len(found) :]
        if left:
            yield left[0], {"status": "crash", "said": f"exit code {done.returncode}: {done.stderr[-200:]}"}
            left = left[1:]
