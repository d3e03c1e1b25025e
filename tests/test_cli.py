"""The command line where its streams are not what one expects: closed from the start, or read by nobody."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from several import add
from workspace import Workspace

from onnxbuild import cli


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    workspace = Workspace.make(tmp_path_factory.mktemp("closed") / "project")
    add(workspace, "r")
    workspace.run("run", "r.yaml")
    return workspace


def closed(workspace: Workspace, streams: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command from a shell that closes some of its streams."""
    command, environment = workspace.command(*arguments)
    shell = ["sh", "-c", f'exec "$@" {streams}', "sh", *command]
    return subprocess.run(
        shell, cwd=workspace.root, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


COMMANDS = ["run r.yaml", "plan r.yaml", "check r.yaml", "graph r.yaml", "cache du", "schema", "doctor"]


@pytest.mark.parametrize("command", [*COMMANDS, "run --json r.yaml", "show build/r/model.onnx"])
@pytest.mark.parametrize("streams", [">&-", ">&- 2>&- <&-"])
def test_a_command_whose_output_is_closed_does_its_work(built, command, streams):
    done = closed(built, streams, *command.split())

    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr == "" or "--json" in command


@pytest.mark.parametrize("streams", [">&-", ">&- 2>&- <&-"])
def test_nothing_that_is_printed_lands_in_a_file_of_the_build(workspace, streams):
    add(workspace, "r")

    assert closed(workspace, streams, "run", "r.yaml").returncode == 0
    workspace.run("cache", "verify")
    assert workspace.statuses("r")["package"] == "built"


def test_what_goes_wrong_is_said_and_told_apart_also_where_output_is_closed(built):
    done = closed(built, ">&-", "plan", "missing.yaml")

    assert done.returncode == cli.WRONG
    assert "missing.yaml" in done.stderr
    assert "bug in onnxbuild" not in done.stderr


def test_a_reader_that_goes_away_is_no_failed_stage(built):
    command, environment = built.command("plan", "r.yaml")
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            command, cwd=built.root, env=environment, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(write)

    assert (done.returncode, done.stderr) == (cli.UNREAD, b"")
    assert f"{cli.UNREAD}  whoever read" in built.run("--help").out


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("rnu r.yaml", "run"),
        ("exlpain r.yaml", "explain"),
        ("run --jbos 2 r.yaml", "--jobs"),
        ("run r.yaml --jbos=2", "--jobs"),
        ("plan --paranoidd r.yaml", "--paranoid"),
        ("cache veryfi", "verify"),
        ("cache gc --dryrun", "--dry-run"),
        ("zzzzz", ""),
        ("check -z r.yaml", ""),
    ],
)
def test_a_slip_of_the_pen_is_told_what_was_meant(command, meant, capsys):
    assert cli.main(command.split()) == cli.WRONG

    told = capsys.readouterr().err
    assert told.startswith("usage: onnxbuild")
    assert told.endswith(f"    hint: did you mean '{meant}'?\n") if meant else "hint" not in told
    assert max(map(len, told.splitlines())) <= 80 or not meant


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_that_lacks_a_character_gets_its_number(built, encoding):
    """Of a pipe on Windows, or under LC_ALL=C: what is JSON stays what it is."""
    workspace = Workspace(built.root, {"PYTHONIOENCODING": encoding})
    name = "größe 日本 😀.yaml"
    workspace.write(name, built.read("r.yaml"))
    command, environment = workspace.command("plan", "--json", name)
    done = subprocess.run(command, cwd=workspace.root, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode(encoding))["recipes"][0]["path"] == name
    assert b"\\u65e5\\u672c" in done.stdout
