"""`onnxbuild check`."""

from __future__ import annotations

import argparse

from onnxbuild.commands import arguments

HELP = "validate recipes and build nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    arguments.add_recipes(parser)


def run(options: argparse.Namespace) -> int:
    """Load the recipes, which raises UserError for any problem, and say how many there are."""
    from onnxbuild import recipe as recipes
    from onnxbuild.queries.describing import Describing
    from onnxbuild.system.files import sha256_file

    describing = Describing(None)
    try:
        count = len(recipes.load_all(arguments.recipes(options), sha256_file, describing))
    finally:
        describing.close()
    print(f"{count} recipe{'s' if count != 1 else ''} checked, no problems.")
    return 0
