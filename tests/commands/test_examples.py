"""What `--help` shows: examples that do what they say, each of them run in a small project, in 80 columns."""

from __future__ import annotations

import shlex
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import small
from workspace import Workspace

from onnxbuild import cli, commands

EXAMPLES = [(name, line) for name in commands.COMMANDS for line in commands.command(name).EXAMPLES]
# Too dear for what they show, and tried in their own tests; of these the line is parsed, and no more.
PARSED = (
    "onnxbuild init ",
    "onnxbuild view ",
    "onnxbuild tune ",
    "onnxbuild verify --rebuild",
    "onnxbuild canary --python ../canary/bin/python --",
    "onnxbuild canary recipes/resnet.yaml",
    "onnxbuild doctor --json",
    "onnxbuild tune ",
)
CODES = {"onnxbuild diff classifier.onnx build/resnet50 --html diff.html": 1}  # they are different


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Workspace, dict[str, str]]:
    """A project as the examples have it: recipes, a model's file, a lock, git, another environment; the command on PATH."""
    base = tmp_path_factory.mktemp("examples")
    made = Workspace.make(base / "project")
    (made.root / "classifier.onnx").write_bytes(small.model(1))
    made.write("recipes/resnet.yaml", small.recipe("resnet50", "classifier.onnx"))
    made.write("recipes/vision/.keep", "")
    made.write(".gitignore", "build/\n.onnxbuild/\nhome/\nbin/\n")
    made.run("lock", "recipes/resnet.yaml")
    own = ("-c", "user.name=T", "-c", "user.email=t@example.org")
    for arguments in (
        ["init", "-qb", "main"],
        ["add", "-A"],
        ["commit", "-qm", "1"],
        ["commit", "-qm", "2", "--allow-empty"],
    ):
        subprocess.run(["git", *own, *arguments], cwd=made.root, check=True)
    venv.EnvBuilder(with_pip=False, symlinks=True).create(base / "canary")
    (site,) = (base / "canary").glob("lib/python*/site-packages")
    (site / "base.pth").write_text(f"{Path(np.__file__).parent.parent}\n")
    command, environment = made.command()
    (base / "bin").mkdir()
    (base / "bin/onnxbuild").write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    (base / "bin/onnxbuild").chmod(0o700)
    return made, environment | {"PATH": f"{base / 'bin'}:{environment['PATH']}", "GITHUB_OUTPUT": str(base / "output")}


@pytest.mark.skipif(sys.platform == "win32", reason="the examples are lines for bash")
@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_an_example_runs(project, name, line):
    assert f"onnxbuild {name}" in line
    if line.startswith(PARSED):
        options = cli._parser(name).parse_args(shlex.split(line)[1:])
        assert options.command is commands.command(name).run
        return
    workspace, environment = project
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=workspace.root, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.returncode == CODES.get(line, 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_ends_with_examples_and_fits(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([name, "--help"]) == 0

    shown = capsys.readouterr().out.splitlines()
    examples = commands.command(name).EXAMPLES
    assert 2 <= len(examples) <= 4
    assert shown[-len(examples) - 1 :] == ["examples:", *(f"  {line}" for line in examples)]
    assert [line for line in shown if len(line) > 80] == []


def test_paragraphs_are_wrapped_and_tables_left_alone(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert cli.main(["plan", "--help"]) == 0
    narrow = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main(["check", "--help"]) == 0

    assert "\nstates:\n  up to date  the store has its result, for exactly these inputs\n  run  " in narrow
    assert "\n--deep also builds each source model and runs it at the sizes that a build would try: a keyword\n" in (
        capsys.readouterr().out
    )
