"""A project of its own in an empty folder, on which tests run the real command: write, run, read."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest

STATE = tempfile.mkdtemp(prefix="onnxbuild-tests-")  # where the one user of all workspaces keeps a key
atexit.register(shutil.rmtree, STATE, ignore_errors=True)
REPOSITORY = Path(__file__).resolve().parent.parent


# The console script, but that a file is settled after 20 ms: the clock ticks a hundred times a second.
HASTY = """\
from onnxbuild.system import observed
observed.MINIMUM_AGE_NS = 20_000_000
from onnxbuild.cli import entry
entry()
"""


@dataclass
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass
class Workspace:
    """A project of its own in an empty folder: write, run, read."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    hasty: bool = False  # what was written a moment ago counts as settled, so that an answer is remembered at once
    repository: Path = REPOSITORY  # whose code is run

    @classmethod
    def make(cls, root: Path) -> Workspace:
        """An empty project in a new folder."""
        root.mkdir(parents=True)
        (root / "pyproject.toml").touch()
        return cls(root)

    def copy(self, root: Path) -> Workspace:
        """The project with all that was built in it, in another folder: nothing in it may depend on where it lies."""
        shutil.copytree(self.root, root)
        return Workspace(root, hasty=self.hasty)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def replace(self, name: str, old: str, new: str) -> None:
        """Edit a file in which `old` stands once."""
        text = self.read(name)
        assert text.count(old) == 1, (old, text)
        self.write(name, text.replace(old, new))

    def command(self, *arguments: str) -> tuple[list[str], dict[str, str]]:
        kept = {
            name: os.environ[name]
            for name in ("PATH", "PYTHONPATH", "SYSTEMROOT", "TEMP", "TMP", "LD_LIBRARY_PATH")
            if name in os.environ
        }
        environment = {**kept, "HOME": str(self.root / "home"), "XDG_STATE_HOME": STATE, "COLUMNS": "80"} | self.env
        folders = [str(self.repository), *filter(None, [environment.get("PYTHONPATH")])]  # the code beside these tests
        environment["PYTHONPATH"] = os.pathsep.join(folders)
        return [sys.executable, *(["-c", HASTY] if self.hasty else ["-m", "onnxbuild"]), *arguments], environment

    def run(self, *arguments: str, code: int | None = 0, timeout: float = 300) -> Ran:
        """Run `onnxbuild ARGUMENTS` in the workspace; `code` is what it must exit with (None: anything)."""
        command, environment = self.command(*arguments)
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        ran = Ran(done.returncode, done.stdout, done.stderr)
        if code is not None and ran.code != code:
            pytest.fail(f"exit code {ran.code}, expected {code}\n{ran.out}\n{ran.err}")
        return ran

    def both(self, *arguments: str) -> Ran:
        """Run a command that changes nothing, by what is remembered and without: both must say the same."""
        own, long = self.run(*arguments, code=None), self.thought_over().run(*arguments, code=None)
        assert [_timeless(own.out), own.err, own.code] == [_timeless(long.out), long.err, long.code]
        return own

    def thought_over(self) -> Workspace:
        """The same project, its commands remembering nothing."""
        return Workspace(self.root, {**self.env, "ONNXBUILD_REMEMBERED": "0"}, self.hasty, self.repository)

    def report(self, name: str) -> dict:
        return json.loads(self.read(f"build/{name}/report.json"))

    def statuses(self, name: str) -> dict[str, str]:
        return {stage["name"]: stage["status"] for stage in self.report(name)["stages"]}

    def built(self, name: str) -> set[str]:
        """The stages that the last run really ran."""
        return {stage for stage, status in self.statuses(name).items() if status not in ("cached", "skipped")}


def _timeless(text: str) -> str:
    return re.sub(r"[0-9.]+ s\b", "0 s", text)
