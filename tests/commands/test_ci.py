"""The README's workflow, the action and the hooks: their own commands, run by bash in a project.

What GitHub does between them is done here as it documents it: expressions by a table, outputs, summaries, the cache as a
folder. Only installing is left out, since what would be installed is under test.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import small
import yaml
from workspace import REPOSITORY, Workspace

ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
HOOKS = {
    hook["id"]: hook for hook in yaml.safe_load((REPOSITORY / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
}
USES = {"actions/checkout@v4", "actions/setup-python@v5"}


def blocks() -> Iterator[str]:
    """The README's YAML."""
    yield from re.findall(r"(?ms)^```yaml\n(.*?)^```$", (REPOSITORY / "README.md").read_text(encoding="utf-8"))


WORKFLOW = next(yaml.safe_load(text) for text in blocks() if "workflows/" in text)


def filled(text: str, values: dict[str, str]) -> str:
    """A text with its expressions evaluated, each of which the table must have."""
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: values[found[1]], text)


class Runner:
    """A machine of the CI system: a clone of the project, a home of its own, and the cache that all share."""

    def __init__(self, origin: Path, folder: Path, cache: Path, values: dict[str, str]) -> None:
        subprocess.run(["git", "clone", "-q", origin, folder], check=True)
        self.workspace = Workspace(folder)
        self.values, self.cache, self.outputs = values, cache, dict[str, str]()
        self.summary = folder.parent / f"{folder.name}-summary.md"
        programs = folder.parent / f"{folder.name}-bin"
        programs.mkdir()
        command, self.environment = self.workspace.command()
        self.environment["HOME"] = self.environment["XDG_STATE_HOME"] = str(programs)
        self.environment["PATH"] = f"{programs}:{self.environment['PATH']}"
        self.program(programs / "onnxbuild", f'exec {shlex.join(command)} "$@"')
        self.program(programs / "pip", '[ "$1" = install ]')

    @staticmethod
    def program(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)

    def run(self, steps: list[dict], values: dict[str, str]) -> int:
        """Run steps as GitHub does; gives the first exit code that is not 0, after which only those that always run do."""
        failed = 0
        for step in steps:
            if (failed and "always()" not in step.get("if", "")) or (
                "inputs.keep" in step.get("if", "") and values["inputs.keep"] != "true"
            ):
                continue
            if "run" in step:
                failed = self.shell(step, values) or failed
            elif step["uses"].startswith("actions/cache/"):
                self.of_cache(step, values)
            elif step["uses"] == "OWNER/onnxbuild@main":
                failed = self.action(step["with"], values) or failed
            else:
                assert step["uses"] in USES
        return failed

    def action(self, given: dict[str, str], values: dict[str, str]) -> int:
        """Run the action itself."""
        assert given.keys() <= ACTION["inputs"].keys()
        inputs = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()} | given
        own = {f"inputs.{name}": filled(text, values) for name, text in inputs.items()}
        assert all(step["shell"] == "bash" for step in ACTION["runs"]["steps"] if "run" in step)
        return self.run(ACTION["runs"]["steps"], values | own)

    def shell(self, step: dict, values: dict[str, str]) -> int:
        told = self.summary.with_suffix(".out")
        environment = self.environment | {name: filled(text, values) for name, text in step.get("env", {}).items()}
        environment |= {"GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_OUTPUT": str(told)}
        text = filled(step["run"], values)
        script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
        done = subprocess.run(
            script, cwd=self.workspace.root, env=environment, capture_output=True, text=True, check=False
        )
        for line in told.read_text().splitlines() if told.exists() else ():
            name, _, value = line.partition("=")
            self.outputs[f"steps.{step['id']}.outputs.{name}"] = value
        self.said = done.stdout + done.stderr
        return done.returncode

    def of_cache(self, step: dict, values: dict[str, str]) -> None:
        path, key = step["with"]["path"], filled(step["with"]["key"], values)
        if step["uses"] == "actions/cache/save@v4":
            shutil.copytree(self.workspace.root / path, self.cache / key)
            return
        assert step["uses"] == "actions/cache/restore@v4"
        prefix = filled(step["with"]["restore-keys"], values)
        kept = sorted(self.cache.glob(f"{prefix}*"), key=lambda one: (one.name == key, one.stat().st_mtime_ns))
        if kept:
            shutil.copytree(kept[-1], self.workspace.root / path)


class Project:
    """A project with two locked recipes, as its origin, and what its workflow does for a commit."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace.make(root / "origin")
        self.cache, self.folder, self.runs = root / "cache", root, 0
        self.cache.mkdir()
        for number, name in enumerate(("one", "two's")):
            (self.workspace.root / f"{number}.onnx").write_bytes(small.model(number))
            self.workspace.write(f"recipes/{name}.yaml", small.recipe(name[:3], f"{number}.onnx", optimize=""))
        self.workspace.write(".gitignore", ".onnxbuild/\nbuild/\nhome/\n")
        self.workspace.run("lock", "recipes/one.yaml", "recipes/two's.yaml")
        self.git("init", "-q", "--initial-branch=main")
        self.commit("all")

    def git(self, *arguments: str) -> str:
        own = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        done = subprocess.run(
            ["git", *own, *arguments], cwd=self.workspace.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def workflow(self, base: str, *, push: bool) -> tuple[dict, list[Runner], list[int]]:
        """What the workflow does for the last commit: the matrix, the machines of its jobs, and their exit codes."""
        values = {
            "github.event.pull_request.base.sha || github.event.before": base,
            "github.event_name == 'push' && 1 || 4": "1" if push else "4",
            "github.ref_name == github.event.repository.default_branch": str(push).lower(),
            "github.sha": self.git("rev-parse", "HEAD"),
            "runner.os": "Linux",
        }
        jobs = WORKFLOW["jobs"]
        first = self.runner(values)
        assert first.run(jobs["affected"]["steps"], values) == 0, first.said
        matrix = filled(jobs["affected"]["outputs"]["matrix"], first.outputs)
        assert jobs["build"]["if"] == "contains(needs.affected.outputs.matrix, 'shard')"
        assert ("shard" in matrix) == bool(json.loads(matrix)["include"])  # CI refuses a matrix of nothing
        runners, codes = [first], []
        for shard in json.loads(matrix)["include"]:
            runners.append(self.runner(values))
            codes.append(runners[-1].run(jobs["build"]["steps"], values | {"matrix.recipes": shard["recipes"]}))
        return json.loads(matrix), runners, codes

    def runner(self, values: dict[str, str]) -> Runner:
        self.runs += 1
        return Runner(self.workspace.root, self.folder / f"machine-{self.runs}", self.cache, values)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("ci"))


def test_the_workflow_builds_what_is_affected_and_posts_what_came_of_it(project):
    first = project.git("rev-parse", "HEAD")
    project.workspace.write("README.md", "words")
    project.commit("words")
    matrix, runners, codes = project.workflow("0" * 40, push=True)  # the first push has nothing before it
    assert [shlex.split(shard["recipes"]) for shard in matrix["include"]] == [
        ["recipes/one.yaml", "recipes/two's.yaml"]
    ]
    assert codes == [0]
    assert "never built here" in runners[0].summary.read_text()
    assert re.findall(r"(?m)^## ✅ (\S+)$", runners[1].summary.read_text()) == ["one", "two"]
    assert len(list(project.cache.iterdir())) == 1

    matrix, runners, codes = project.workflow(first, push=False)  # by the store of the push
    assert (matrix, codes) == ({"include": []}, [])

    project.git("switch", "-qc", "change")
    (project.workspace.root / "0.onnx").write_bytes(small.model(7))
    project.commit("other weights")
    matrix, runners, codes = project.workflow("main", push=False)
    assert [shard["recipes"] for shard in matrix["include"]] == ["recipes/one.yaml"]
    assert "recipes/one.yaml  0.onnx changed" in runners[0].summary.read_text()
    assert codes != [0]  # the lock says other weights
    assert "one.lock.yaml" in runners[1].summary.read_text() + runners[1].said

    project.workspace.run("lock", "recipes/one.yaml")
    project.commit("and their lock")
    matrix, runners, codes = project.workflow("main", push=False)
    assert codes == [0]
    assert re.findall(r"(?m)^## ✅ (\S+)$", runners[1].summary.read_text()) == ["one"]
    assert len(list(project.cache.iterdir())) == 1  # a branch of its own keeps nothing


def test_the_hooks_of_the_readme_refuse_what_they_are_for(project, tmp_path):
    config = next(yaml.safe_load(text) for text in blocks() if "pre-commit-config" in text)
    wanted = [hook["id"] for repo in config["repos"] for hook in repo["hooks"]]
    assert wanted == list(HOOKS)
    workspace = project.workspace.copy(tmp_path / "project")

    def codes() -> list[int]:
        """What pre-commit gets of each hook for all files."""
        files = [path.relative_to(workspace.root).as_posix() for path in workspace.root.glob("recipes/*")]
        found = []
        for name in wanted:
            hook = HOOKS[name]
            passed = []
            if hook.get("pass_filenames", True):
                passed = [f for f in files if re.search(hook["files"], f) and not re.search(hook["exclude"], f)]
                assert passed == [f for f in files if f.endswith(("one.yaml", "two's.yaml"))]
            program, *rest = [*shlex.split(hook["entry"]), *hook.get("args", [])]
            assert (program, hook["language"]) == ("onnxbuild", "system")
            found.append(workspace.run(*rest, *passed, code=None).code)
        return found

    assert codes() == [0, 0]
    workspace.replace("recipes/one.yaml", "min: 1, max: 3", "min: 1, max: 4")
    assert codes() == [0, 1]
    workspace.replace("recipes/one.yaml", "outputs: [y]", "outputs: [z]")
    assert codes()[0] == 2


def test_the_action_says_what_its_inputs_are_for():
    assert all(one["description"] for one in ACTION["inputs"].values())
    used = set(re.findall(r"inputs\.([a-z-]+)", (REPOSITORY / "action.yml").read_text(encoding="utf-8")))
    assert used == ACTION["inputs"].keys()
