"""`onnxbuild show`: a graph as text, or its nodes with the lines of Python that they come from."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from onnxbuild.commands import arguments
from onnxbuild.errors import usage

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnxbuild.graphs.lines import Lines

HELP = "print an ONNX file as text, or a built graph's nodes with the lines they come from"
EXAMPLES = (
    "onnxbuild show build/resnet50/model.onnx",
    "onnxbuild show classifier.onnx | grep -c MatMul",
    "onnxbuild show --lines recipes/resnet.yaml",
)
_FILE = "give an .onnx file, such as build/<name>/model.onnx"

_EPILOG = """\
--lines prints each node of a recipe's graph with its operator, the line of Python that it was exported
from, the values that it makes and the scope of its module. A node that passes merged others into is shown
with all of their lines. torch's exporters tell lines and scopes; other exporters' nodes have none, and an
.onnx file's those that it was written with.

--json prints {version, graph, exporter, nodes: [{op, name, outputs, scope, line, merged}]}, where merged has
the exported nodes that were merged into one, each with {op, outputs, scope, place}.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    text = "an .onnx file, such as build/<name>/model.onnx; with --lines a recipe, too"
    parser.add_argument("model", type=Path, metavar="MODEL", help=text)
    parser.add_argument("--lines", action="store_true", help="print where each node comes from")
    text = "with --lines: the graph that this stage gave (default: the last one, which is published)"
    parser.add_argument("--stage", metavar="STAGE", help=text)
    parser.add_argument("--json", action="store_true", help="with --lines: print JSON")
    arguments.add_out(parser)
    arguments.add_trust(parser)
    arguments.add_paranoid(parser)
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def run(options: argparse.Namespace) -> int:
    """Print the graph, or its nodes."""
    of_recipe = options.model.suffix in (".yaml", ".yml")
    for name in ("stage", "json"):
        if getattr(options, name) and not options.lines:
            raise usage(f"--{name} is for --lines", "give both, or neither")
    if options.lines and of_recipe:
        return _print(options, *_of_recipe(options))
    if of_recipe:
        raise usage(f"{options.model} is a recipe", f"onnxbuild show --lines {options.model}, or {_FILE}")
    if options.stage:
        raise usage(f"{options.model} is no recipe, and has no stages", "give a recipe's .yaml file")
    _require_file(options.model)
    if options.lines:
        return _print(options, *_of_file(options.model))
    from onnxbuild.graphs.text import show
    from onnxbuild.text import units

    print(units.plain(show(options.model)))
    return 0


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise usage(f"{path} is a folder", _FILE)
    if not path.exists():
        raise usage(f"{path}: no such file", _FILE)
    if not path.is_file():
        raise usage(f"{path} is no regular file", _FILE)


def _of_file(path: Path) -> tuple[str, ModelProto, Lines]:
    """What is shown, its graph, and where its nodes come from as far as the file itself tells."""
    from onnxbuild.graphs import mapped
    from onnxbuild.graphs.lines import Lines
    from onnxbuild.sources import lines

    model = mapped.read(path)
    return str(path), model, Lines(lines.of(model, "", path.parent, authored=True), [model])


def _of_recipe(options: argparse.Namespace) -> tuple[str, ModelProto, Lines]:
    from onnxbuild.contracts import Trait
    from onnxbuild.queries import lines, stages
    from onnxbuild.queries.forecast import Outlook
    from onnxbuild.text.screen import Screen

    places = arguments.places(options, Screen(sys.stderr, os.environ).line)
    (loaded,) = places.load([options.model])
    every = Outlook(places).of(loaded)
    graphs = [one for one in every if one.stage.is_a(Trait.GRAPH)]
    wanted = stages.of_name(every, options.stage, options.model) if options.stage else graphs[-1]
    graphs = graphs[: graphs.index(wanted) + 1]
    traces = [stages.result(one) for one in graphs]
    outcomes = [trace.outcome for trace in traces if trace is not None]
    found = lines.traced(places.store(loaded.root)[0], outcomes) if len(outcomes) == len(graphs) else None
    if found is None:
        fact = f"{options.model}: the store holds no graph of {wanted.stage.name} with its lines"
        raise usage(fact, f"build it first: onnxbuild run {options.model}")
    old = "" if wanted.state == "up to date" else ", as it was last built: it is not up to date"
    return f"{loaded.recipe.name}: {wanted.stage.name}{old}", *found


def _print(options: argparse.Namespace, title: str, graph: ModelProto, known: Lines) -> int:
    from onnxbuild.graphs import lines_text
    from onnxbuild.text.screen import Screen

    if options.json:
        print(lines_text.as_json(title, graph, known))
        return 0
    screen = Screen(sys.stdout, os.environ)
    for line in lines_text.table(title, graph, known, screen.width):
        screen.line(line)
    return 0
