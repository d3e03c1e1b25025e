"""The command line where its streams are not what one expects: closed from the start, or read by nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys

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


# What is printed where ASCII is all there is, and in Western Europe.
SAID = {
    "run --json größe.yaml": (r'"gr\u00f6\u00dfe \u6a21 \ud83e\udde0"', r'"größe \u6a21 \ud83e\udde0"'),
    "check --resolved größe.yaml": (r"gr\u00f6\u00dfe.yaml:1", "größe.yaml:1"),
    "diff --markdown build/r größe.yaml": (r"## \u2705 The same model", r"## \u2705 The same model"),
}


@pytest.mark.parametrize("command", SAID)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_an_encoding_lacks_is_escaped_as_json_has_it(described, command, encoding):
    """A pipe has the encoding of the system: on Windows one of 256 characters."""
    described.env["PYTHONIOENCODING"] = encoding
    line, environment = described.command(*command.split())
    done = subprocess.run(line, cwd=described.root, env=environment, capture_output=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert SAID[command][encoding == "cp1252"] in text
    if "--json" in command:
        assert json.loads(text)["description"] == "größe 模 🧠"


@pytest.fixture(scope="module")
def described(built, tmp_path_factory) -> Workspace:
    made = built.copy(tmp_path_factory.mktemp("described") / "project")
    text = made.read("r.yaml").replace("name: r\n", 'name: other\ndescription: "größe 模 🧠"\n')
    made.write("größe.yaml", text)
    made.run("run", "größe.yaml")
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
@pytest.mark.parametrize("command", ["run", "run --json", "plan --json", "check", "explain --json", "lock"])
def test_a_recipe_whose_name_is_no_text_is_refused(built, command):
    name = os.fsdecode(b"r\xff.yaml")
    built.write(name, built.read("r.yaml").replace("name: r\n", "name: other\n"))
    ran = built.run(*command.split(), name, code=2)

    assert "r\ufffd.yaml: the path is not UTF-8" in ran.err
    assert "hint: rename the file or folder" in ran.err
