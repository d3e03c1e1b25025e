"""`onnxbuild show`."""

from __future__ import annotations

import argparse
from pathlib import Path

from onnxbuild.errors import usage

HELP = "print an ONNX file as text, without its weights"
EXAMPLES = (
    "onnxbuild show build/resnet50/model.onnx",
    "onnxbuild show classifier.onnx | grep -c MatMul",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="an .onnx file, such as build/<name>/model.onnx")


def run(options: argparse.Namespace) -> int:
    """Print the graph."""
    if options.model.is_dir():
        raise usage(f"{options.model} is a folder", "give an .onnx file, such as build/<name>/model.onnx")
    if not options.model.exists():
        raise usage(f"{options.model}: no such file", "give an .onnx file, such as build/<name>/model.onnx")
    if not options.model.is_file():
        raise usage(f"{options.model} is no regular file", "give an .onnx file, such as build/<name>/model.onnx")
    from onnxbuild.graphs.text import show
    from onnxbuild.text import units

    print(units.plain(show(options.model)))
    return 0
