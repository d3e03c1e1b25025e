"""`onnxbuild completion`: the shells themselves complete lines in a project. One that is not installed is skipped."""

from __future__ import annotations

import argparse
import os
import re
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import small
from workspace import Workspace

from onnxbuild import commands
from onnxbuild.commands import completion
from onnxbuild.text.completion import SHELLS

STAGES = ["check/export", "export", "package", "parity/export", "reference"]
# Lines with the cursor at their end, and all that they may go on with.
LINES = {
    "onnxbuild pl": ["plan"],
    "onnxbuild cache ": ["du", "gc", "path", "verify"],
    "onnxbuild plan --": ["--check", "--help", "--json", "--out", "--paranoid", "--trust-store"],
    "onnxbuild cache gc --d": ["--dry-run"],
    "onnxbuild canary --s": ["--slower", "--strict"],
    "onnxbuild graph --format ": ["dot", "json", "mermaid", "text"],
    "onnxbuild check s": ["small.yaml", "sub dir/"],
    "onnxbuild explain small.yaml ": STAGES,
    "onnxbuild explain sub\\ dir/a\\ b.yaml pa": ["package", "parity/export"],
    "onnxbuild view small.yaml --stage ex": ["export"],
    "onnxbuild affected --since m": ["main"],
    "onnxbuild run --out su": ["sub dir/"],
}
NOT_HERE = "{} is not installed here"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a recipe, one in a folder with a blank, and the command on the PATH."""
    workspace = Workspace.make(tmp_path_factory.mktemp("completion") / "project")
    (workspace.root / "m.onnx").write_bytes(small.model(1))
    for path in ("small.yaml", "sub dir/a b.yaml"):
        workspace.write(path, small.recipe(optimize=""))
    workspace.write("small.lock.yaml", "")
    (workspace.root / "recipes").mkdir()
    own = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    for arguments in (["init", "-q", "-b", "main"], ["add", "small.yaml"], ["commit", "-qm", "all"]):
        subprocess.run(["git", *own, *arguments], cwd=workspace.root, check=True)
    command, environment = workspace.command()
    programs = workspace.root.parent / "bin"
    programs.mkdir()
    (programs / "onnxbuild").write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    (programs / "onnxbuild").chmod(0o700)
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    return workspace, environment


def script(project: tuple[Workspace, dict[str, str]], shell: str) -> Path:
    path = project[0].root.parent / f"completion.{shell}"
    path.write_text(project[0].run("completion", shell).out)
    return path


def test_bash_completes(project):
    workspace, environment = project
    text = f"source {script(project, 'bash')}\n"
    for line in LINES:
        words = shlex.split(line) + ([""] if line.endswith(" ") else [])
        text += f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _onnxbuild\n"
        text += 'for one in "${COMPREPLY[@]}"; do [ -d "$one" ] && one+=/; echo "$one"; done; echo ===\n'
    text += 'COMP_WORDS=(onnxbuild graph --format = m); COMP_CWORD=4; _onnxbuild; echo "${COMPREPLY[*]}"\n'
    text += "complete -p onnxbuild\n"
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", text],
        cwd=workspace.root, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *told, last = done.stdout.split("===\n")

    assert {line: sorted(one.splitlines()) for line, one in zip(LINES, told, strict=True)} == LINES
    assert last == "mermaid\ncomplete -F _onnxbuild onnxbuild\n"
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("fish") is None, reason=NOT_HERE.format("fish"))
def test_fish_completes(project):
    workspace, environment = project
    text = f"source {script(project, 'fish')}\n"
    text += "".join(f"complete -C {shlex.quote(line)}; echo ===\n" for line in LINES)
    done = subprocess.run(
        ["fish", "--no-config", "-c", text],
        cwd=workspace.root, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = [[line.split("\t")[0] for line in one.splitlines()] for one in done.stdout.split("===\n")[:-1]]

    assert {line: sorted(one) for line, one in zip(LINES, told, strict=True)} == LINES
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("zsh") is None, reason=NOT_HERE.format("zsh"))
def test_zsh_completes(project):
    workspace, environment = project
    begin = "PS1='> '; LISTMAX=999; autoload -U compinit; compinit -u -D; bindkey '^D' list-choices; "
    shell = Terminal(["zsh", "-f", "-i"], workspace.root, environment)
    shell.type(f"{begin}source {script(project, 'zsh')}; echo rea''dy\n")
    shell.until(lambda shown: "ready" in shown)
    for line, wanted in LINES.items():
        if len(wanted) > 1:  # else it is put in at once
            shell.type(f"{line}\x04")
            shell.until(lambda shown, all_=wanted: all(one in shown for one in all_))
        else:
            shell.type(f"{line}\t")
            shell.until(lambda shown, only=wanted[0]: only in shown)
        shell.type("\x15")
    shell.close()


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        import pty

        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, {**environment, "TERM": "dumb"})

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def until(self, holds) -> None:
        """Read until what was shown since the last call holds."""
        shown, end = "", time.monotonic() + 60
        while not holds(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\\(?= )", "", shown)):
            assert time.monotonic() < end, shown
            if select.select([self.handle], [], [], 1)[0]:
                shown += os.read(self.handle, 65536).decode(errors="replace")

    def close(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.handle)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_every_script(project, shell):
    text = script(project, shell).read_text()
    for name in commands.COMMANDS:
        parser = argparse.ArgumentParser()
        commands.command(name).add_arguments(parser)
        assert re.search(rf"\b{name}\b", text)
        options = [one for action in parser._actions for one in action.option_strings]
        assert [
            one for one in options if one not in text and f"-l {one[2:]}" not in text and f"-s {one[1:]}" not in text
        ] == []
    assert ("cache", "gc") in list(completion.names(completion.known()))


def test_what_it_says_of_a_wrong_line(project):
    workspace, _ = project
    ran = workspace.run("completion", code=2)
    assert ran.err == ("no shell is named\n    hint: say which: onnxbuild completion bash or zsh or fish\n1 problem.\n")
    assert workspace.run("completion", "--stages", "small.yaml").out.split() == [
        "reference",
        "export",
        *STAGES[:1],
        "parity/export",
        "package",
    ]
    assert "no such file" in workspace.run("completion", "--stages", "none.yaml", code=2).err
