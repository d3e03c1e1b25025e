"""What the command line takes for sizes and numbers, and what it says of anything else."""

from __future__ import annotations

import argparse
import os
import re

import pytest
from small import small
from workspace import Workspace

from onnxbuild.commands import arguments


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("500", 500), ("500B", 500), ("5kB", 5000), ("500MB", 5 * 10**8), ("4G", 4 * 10**9), ("2t", 2 * 10**12),
        ("8Ki", 8192), ("512MiB", 2**29), ("1.5GiB", 3 * 2**29), (" 2 TiB ", 2**41), ("0.5k", 500),
    ],
)  # fmt: skip
def test_a_size_means_the_same_everywhere(text, size):
    assert arguments.size(text) == size
    if size >= 10**6:
        assert arguments.memory(text) == size


@pytest.mark.parametrize("text", ["", "G", "4X", "1e9", "4G4", "4 GG", "-1", "9" * 400, "1_000", "\u0664G"])
@pytest.mark.parametrize("parse", [arguments.size, arguments.memory])
def test_what_is_no_size_is_refused(parse, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{re.escape(repr(text))} is not a size: write 500MB, 4G or"):
        parse(text)


@pytest.mark.parametrize("text", ["0", "512", "5B", "4k"])
def test_a_few_bytes_are_no_memory(text):
    with pytest.raises(argparse.ArgumentTypeError, match="bytes, too little for any stage: write 4G or 512MiB"):
        arguments.memory(text)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run a.yaml --memory 512", "argument --memory: '512' is 512 bytes, too little for any stage: write 4G or"),
        ("run a.yaml --memory x", "argument --memory: 'x' is not a size: write 500MB, 4G or 1.5GiB"),
        ("cache gc --max-size x", "argument --max-size: 'x' is not a size: write 500MB, 4G or 1.5GiB"),
        ("run a.yaml -j x", "argument -j/--jobs: 'x' is not a whole number of 1 or more"),
        ("run a.yaml -j 0", "argument -j/--jobs: '0' is not a whole number of 1 or more"),
        ("run a.yaml -j 1.5", "argument -j/--jobs: '1.5' is not a whole number of 1 or more"),
        ("verify a.yaml --hash-seed x", "argument --hash-seed: 'x' is not a whole number from 0 to 4294967295"),
        ("verify a.yaml --hash-seed 4294967296", "'4294967296' is not a whole number from 0 to 4294967295"),
    ],
)
def test_a_wrong_argument_is_told_by_fact_and_remedy(workspace, command, said):
    assert said in workspace.run(*command.split(), code=2).err


WRITES = {
    "--junit": (["run", "small.yaml", "--junit"], "no JUnit XML", "such as junit.xml"),
    "--html": (["diff", "m.onnx", "m.onnx", "--html"], "no HTML page", "such as diff.html"),
}


@pytest.mark.parametrize("option", WRITES)
def test_a_file_that_is_something_else_is_not_written_over(tmp_path, option):
    """The name of a file is easily forgotten, and then a recipe comes next."""
    made, (command, kind, example) = small(Workspace.make(tmp_path / "project")), WRITES[option]
    kept, other = made.read("small.yaml"), made.write("other.yaml", "version: 1\n")
    (made.root / "link").symlink_to("other.yaml")
    os.mkfifo(made.root / "pipe")
    for name in ("small.yaml", "other.yaml", "link"):
        ran = made.run(*command, name, code=2)
        assert f"{option} {name} is there, and is {kind}" in ran.err
        assert f"hint: give it the name of another file, {example}" in ran.err
    ran = made.run(*command, "pipe", code=2)
    assert f"{option} pipe is no regular file" in ran.err and example in ran.err
    assert made.read("small.yaml") == kept and other.read_text() == "version: 1\n"
    assert not (made.root / ".onnxbuild").exists(), "before anything is built"


def test_a_page_is_written_over_an_older_one_and_through_a_link(tmp_path):
    made = small(Workspace.make(tmp_path / "project"))
    made.write("empty.html", "")
    (made.root / "link.html").symlink_to("empty.html")
    for name in ("new.html", "empty.html", "link.html"):
        for _ in range(2):
            made.run("diff", "m.onnx", "m.onnx", "--html", name)
    assert (made.root / "link.html").is_symlink()
    assert made.read("empty.html") == made.read("new.html") and made.read("new.html").startswith("<!DOCTYPE html>")
