"""`onnxbuild graph`: a recipe's stages as text, Mermaid, dot or JSON."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from onnxbuild.commands import arguments

HELP = "print a recipe's stages as a graph: text, mermaid, dot or json"
EXAMPLES = (
    "onnxbuild graph recipes/resnet.yaml",
    "onnxbuild graph recipes/resnet.yaml --format mermaid > stages.mmd",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe's .yaml file")
    parser.add_argument("--format", choices=("text", "mermaid", "dot", "json"), default="text", help="(default: text)")
    arguments.add_out(parser)
    arguments.add_trust(parser)
    arguments.add_paranoid(parser)
    parser.epilog = (
        "The states are those of `onnxbuild plan`. Writes nothing. json: {version, name, nodes: [{name, state}], "
        "edges: [{from, to, takes}]}, where takes is false for a stage that is only waited for."
    )


def run(options: argparse.Namespace) -> int:
    """Print the graph."""
    from onnxbuild.queries.forecast import Outlook
    from onnxbuild.report import diagrams
    from onnxbuild.text.screen import Screen

    screen, errors = Screen(sys.stdout, os.environ), Screen(sys.stderr, os.environ)
    places = arguments.places(options, errors.line)
    (loaded,) = places.load([options.recipe])
    title = loaded.recipe.name
    nodes = [
        diagrams.Node(
            one.stage.name,
            one.state,
            list(dict.fromkeys(name for name, _ in one.stage.needs.values())),
            one.stage.after,
        )
        for one in Outlook(places).of(loaded)
    ]
    match options.format:
        case "mermaid":
            lines = diagrams.mermaid(title, nodes)
        case "dot":
            lines = diagrams.dot(title, nodes)
        case "json":
            lines = iter([diagrams.as_json(title, nodes)])
        case _:
            lines = diagrams.text(title, nodes, screen.width)
    for line in lines:
        screen.line(line)
    return 0
