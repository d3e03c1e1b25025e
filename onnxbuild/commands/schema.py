"""`onnxbuild schema`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "print the JSON Schema of recipes, or of what a command prints as JSON"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("which", nargs="?", choices=["recipe", "report", "plan", "explain"], default="recipe")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write all schemas into this folder instead")


def run(options: argparse.Namespace) -> int:
    """Print one schema, or write all."""
    from onnxbuild import schemas

    if options.write:
        for path in schemas.write(options.write):
            print(path)
    else:
        print(schemas.text(options.which), end="")
    return 0
