"""What the command line takes for sizes and numbers, and what it says of anything else."""

from __future__ import annotations

import argparse
import re

import pytest

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
