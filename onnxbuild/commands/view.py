"""`onnxbuild view`: a model in Netron, served to a browser on this machine."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

from onnxbuild.commands import arguments
from onnxbuild.errors import StageError, usage

HELP = "open a built model, a stage's graph or any model file in Netron"
EXAMPLES = (
    "onnxbuild view recipes/resnet.yaml",
    "onnxbuild view recipes/resnet.yaml --stage export --no-browser",
)
INTERRUPTED = 130  # as of every command; here it is how one ends

_EPILOG = """\
Without --stage a recipe's published model is shown, as it lies in its output folder. Serves this machine alone, until
Ctrl-C. Netron's own page asks once whether it may report usage to its authors.
Needs the extra 'view': pip install 'onnxbuild[view]'.
"""


class Shown(NamedTuple):
    """What is to be served: `content` is the file's, where it has another name than it is shown by; its weights are read
    from beside `file`, and copied nowhere.
    """

    title: str
    file: Path
    content: bytes | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", type=Path, metavar="RECIPE|FILE", help="a recipe's .yaml file, or a model's file")
    text = "the graph that this stage gave when the recipe was last built, such as export or optimize/1-onnxsim"
    parser.add_argument("--stage", metavar="STAGE", help=text)
    text = "where to serve (default: a free one)"
    parser.add_argument("--port", type=arguments.whole(1, 65535), default=0, metavar="N", help=text)
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open nothing")
    arguments.add_out(parser)
    arguments.add_trust(parser)
    arguments.add_paranoid(parser)
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    of_recipe = options.model.suffix in (".yaml", ".yml")
    shown = _of_recipe(options) if of_recipe else _of_file(options)
    import logging

    try:
        import netron
    except ImportError:
        raise usage("the package 'netron' is not installed", "pip install 'onnxbuild[view]'") from None
    logging.getLogger().addHandler(logging.NullHandler())  # what it has to say, we say
    data = None if shown.content is None else bytearray(shown.content)
    try:
        address = netron.serve(str(shown.file), data, address=options.port or None)
    except OSError as error:
        fact = f"nothing can be served at port {options.port}: {error.strerror}"
        raise usage(fact, "give --port another number, or leave it out") from error
    return _wait(shown, address, browse=not options.no_browser)


def _wait(shown: Shown, address: tuple[str, int], *, browse: bool) -> int:
    """Say where it is served, and wait for whoever has seen enough."""
    import webbrowser

    import netron

    from onnxbuild.text import units

    url = f"http://{address[0]}:{address[1]}"
    try:
        print(f"{units.plain(shown.title)}\n  at {url} (Ctrl-C ends it)", flush=True)
        if browse:
            webbrowser.open(url)
        while netron.status(address):
            time.sleep(0.1)
    except KeyboardInterrupt:
        netron.stop(address)
        return INTERRUPTED
    raise StageError("Netron's server ended by itself")


def _of_file(options: argparse.Namespace) -> Shown:
    if options.stage is not None:
        raise usage(
            f"{options.model} is no recipe, and has no stages", "give a recipe's .yaml file, or leave --stage out"
        )
    if not options.model.exists():
        raise usage(
            f"{options.model}: no such file", "give a recipe, or a model's file such as build/<name>/model.onnx"
        )
    return Shown(str(options.model), options.model)


def _of_recipe(options: argparse.Namespace) -> Shown:
    import os
    import sys

    from onnxbuild.queries import stages
    from onnxbuild.queries.forecast import Outlook
    from onnxbuild.stages import package
    from onnxbuild.text.screen import Screen

    places = arguments.places(options, Screen(sys.stderr, os.environ).line)
    (loaded,) = places.load([options.model])
    if options.stage is None:
        model = places.dest(loaded) / package.MODEL
        if not model.is_file():
            raise usage(f"{model}: no such file", f"build it first: onnxbuild run {options.model}")
        return Shown(f"{loaded.recipe.name}: {model}", model)
    one = stages.of_name(Outlook(places).of(loaded), options.stage, options.model)
    trace = stages.result(one)
    path = places.store(loaded.root)[0].path(trace.outcome.outputs["graph"]) if trace else None
    if path is None or not path.is_file():
        fact = f"{options.model}: the store holds no graph of {one.stage.name}"
        raise usage(fact, f"build it first: onnxbuild run {options.model}")
    old = "" if one.state == "up to date" else ", as it was last built: it is not up to date"
    name = f"{loaded.recipe.name}-{one.stage.name.replace('/', '-')}.onnx"
    return Shown(f"{loaded.recipe.name}: {one.stage.name}{old}", path.with_name(name), path.read_bytes())
