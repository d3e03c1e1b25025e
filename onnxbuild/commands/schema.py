"""`onnxbuild schema`: the published JSON Schemas, of recipes and of what the commands print as JSON.

Validation makes its schema anew from the types, so an installed package needs no file of `schemas/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "print the JSON Schema of recipes, of lock files, or of what a command prints as JSON"
EXAMPLES = (
    "onnxbuild schema > recipe.schema.json",
    "onnxbuild schema report",
    "onnxbuild schema --markdown",
)
REFERENCE = "recipe.md"
NAMES = ("recipe", "report", "plan", "explain", "affected", "manifest", "lock", "diff", "canary", "identify", "tune")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("which", nargs="?", choices=NAMES, default="recipe", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--markdown", action="store_true", help="print the recipe's reference for reading instead")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write all of these into this folder instead")


def run(options: argparse.Namespace) -> int:
    """Print one schema, or write all."""
    if options.write:
        for path in write(options.write):
            print(path)
    else:
        print(reference() if options.markdown else text(options.which), end="")
    return 0


def reference() -> str:
    """The recipe's reference as the published file holds it."""
    from onnxbuild.recipe import reference, schema

    return reference.markdown(schema.recipe(), schema.FILLED)


def text(which: str) -> str:
    """One of the schemas as the published file holds it."""
    import json

    from onnxbuild.commands.affected import ChangeSet
    from onnxbuild.engine.tuning import Tuned
    from onnxbuild.queries.explain import Explanations
    from onnxbuild.queries.forecast import Plans
    from onnxbuild.recipe import schema
    from onnxbuild.report.canary import Canary
    from onnxbuild.report.changes import Diff
    from onnxbuild.report.manifest import Manifest
    from onnxbuild.report.types import Report
    from onnxbuild.reproducibility.identify import Identity
    from onnxbuild.review.lockfile import Lock

    types = {
        "report": Report,
        "plan": Plans,
        "explain": Explanations,
        "affected": ChangeSet,
        "manifest": Manifest,
        "lock": Lock,
        "diff": Diff,
        "canary": Canary,
        "identify": Identity,
        "tune": Tuned,
    }
    document = schema.published() if which == "recipe" else schema.of(types[which])
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write every schema, and the recipe's reference, into `folder` and return the files."""
    from onnxbuild.system.files import write_atomic

    paths = {which: folder / f"{which}.schema.json" for which in NAMES}
    for which, path in paths.items():
        write_atomic(path, [text(which).encode()])
    write_atomic(folder / REFERENCE, [reference().encode()])
    return [*paths.values(), folder / REFERENCE]
