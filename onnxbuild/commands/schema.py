"""`onnxbuild schema`: the published JSON Schemas, of recipes and of what the commands print as JSON.

Validation makes its schema anew from the types, so an installed package needs no file of `schemas/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "print the JSON Schema of recipes, of lock files, or of what a command prints as JSON"
NAMES = ("recipe", "report", "plan", "explain", "affected", "manifest", "lock")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("which", nargs="?", choices=NAMES, default="recipe")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write all schemas into this folder instead")


def run(options: argparse.Namespace) -> int:
    """Print one schema, or write all."""
    if options.write:
        for path in write(options.write):
            print(path)
    else:
        print(text(options.which), end="")
    return 0


def text(which: str) -> str:
    """One of the schemas as the published file holds it."""
    import json

    from onnxbuild.commands.affected import ChangeSet
    from onnxbuild.queries.explain import Explanations
    from onnxbuild.queries.forecast import Plans
    from onnxbuild.recipe import schema
    from onnxbuild.report.manifest import Manifest
    from onnxbuild.report.types import Report
    from onnxbuild.review.lockfile import Lock

    types = {
        "report": Report,
        "plan": Plans,
        "explain": Explanations,
        "affected": ChangeSet,
        "manifest": Manifest,
        "lock": Lock,
    }
    document = schema.recipe() if which == "recipe" else schema.of(types[which])
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write every schema into `folder` and return the files."""
    from onnxbuild.system.files import write_atomic

    paths = {which: folder / f"{which}.schema.json" for which in NAMES}
    for which, path in paths.items():
        write_atomic(path, [text(which).encode()])
    return list(paths.values())
