"""`onnxbuild init`: a first recipe for a model, written from what the model is and does."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys

from onnxbuild.commands import arguments
from onnxbuild.errors import usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from onnxbuild.engine.first_recipe import Asked
    from onnxbuild.report.types import Failure

HELP = "write a recipe for a model, and try it"
EXAMPLES = (
    "onnxbuild init models.detector:detector --input image=float32[2,3,128,128]",
    "onnxbuild init models.detector:detector --example models.detector:example",
    "onnxbuild init classifier.onnx --output recipes/classifier.yaml",
)

_EPILOG = """\
SOURCE is a file or folder that holds a model (.onnx, .pt2, .keras, .skops, a SavedModel's
folder, ...), or a function that makes one, as module:function from the project root.

A PyTorch module does not say what it takes. Its inputs are found
  from --input:      --input image=float32[2,3,64,64]
  from --example:    --example models.net:example, a function that returns a
                     dict of tensors by name, or a tuple
  by themselves:     for models of transformers, and where the first layer tells
The model is then run at more sizes, to learn which axes are really dynamic.

The recipe is built once, without a benchmark, to see that it holds; what was built is in the
store, so that the first `onnxbuild run` has little left to do. Nothing that is there is
overwritten without --force.
"""
_INPUT = re.compile(r"([^=\s]+)=([a-z0-9]+)\[([0-9, ]*)\]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", metavar="SOURCE", help="a model's file or folder, or module:function")
    text = "an input of a model that does not tell, such as image=float32[2,3,64,64]; once for each"
    parser.add_argument("--input", action="append", default=[], metavar="NAME=DTYPE[SIZES]", help=text, dest="inputs")
    text = "a function that gives example inputs"
    parser.add_argument("--example", default="", metavar="MODULE:FUNCTION", help=text)
    text = "the kind of source, where a function makes the model (default: pytorch)"
    parser.add_argument("--kind", metavar="KIND", help=text)
    text = "another option of the model section, such as seed=1 or 'kwargs={width: 64}' (YAML)"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="options", help=text)
    text = "a function that builds an operator of torch, which no exporter knows, from those of ONNX; once for each"
    parser.add_argument("--decompose", action="append", default=[], metavar="OPERATOR=MODULE:FUNCTION", help=text)
    parser.add_argument("--name", help="the recipe's name (default: from SOURCE)")
    text = "the recipe's file (default: recipes/NAME.yaml, or NAME.yaml where there is no such folder)"
    parser.add_argument("-o", "--output", metavar="FILE", help=text)
    parser.add_argument("--force", action="store_true", help="overwrite a recipe that is there")
    parser.add_argument("--no-build", action="store_true", help="write the recipe without trying it")
    arguments.add_trust(parser)
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Write a recipe; 1 where it does not build as it stands. Raises UserError, StageError."""
    from onnxbuild.engine import first_recipe
    from onnxbuild.engine.session import Settings
    from onnxbuild.recipe import project_root, writing
    from onnxbuild.report.progress import Progress
    from onnxbuild.text.screen import Screen

    screen = Screen(sys.stdout, os.environ)
    path = _place(options)
    root = project_root(path)
    asked = _asked(options, root)
    screen.line(f"looking at {options.source}")
    draft = first_recipe.draft(asked, root, _schema(path, root))
    failures: list[Failure] = []
    for sentence in draft.looked:
        screen.line(f"  {sentence}")
    if not options.no_build:
        screen.line("trying it")
        settings = Settings(cache=arguments.cache(), trusted=arguments.is_trusted(options))
        progress = Progress(sys.stdout, quiet=False, errors=sys.stderr, verdicts=False)
        draft, failures, said = first_recipe.tried(draft, path, settings, progress)
        for sentence in said:
            screen.line(f"  {sentence}")
    _write(path, writing.text(draft), force=options.force)
    shown = arguments.shown(str(path))
    if failures:
        errors = Screen(sys.stderr, os.environ)
        for failure in failures:
            errors.line(f"{failure.stage}: {failure.fact}")
            errors.line(f"    hint: {failure.hint}" if failure.hint else "")
        screen.line(f"wrote {shown}, which does not build as it stands")
        return 1
    screen.line(f"wrote {shown}")
    screen.line(f"next: onnxbuild run {shown}")
    return 0


def _place(options: argparse.Namespace) -> Path:
    """Where the recipe goes. Raises UserError where something is there."""
    from pathlib import Path

    from onnxbuild.recipe import project_root

    if options.output:
        path = Path(options.output)
    else:
        root = project_root(Path("recipe.yaml"))
        folder = root / "recipes"
        path = (folder if folder.is_dir() else Path()) / f"{_name(options)}.yaml"
        path = Path(os.path.relpath(path))
    if os.path.lexists(path) and not options.force:
        raise usage(f"{path} is there already", "give --output another file, or --force to overwrite it")
    if not path.parent.is_dir():
        raise usage(f"there is no folder {path.parent}", "make it, or give --output another one")
    return path


def _name(options: argparse.Namespace) -> str:
    """A name from the last part of what the source is called."""
    from pathlib import Path

    if options.name:
        return str(options.name)
    module, _, function = options.source.rpartition(":")
    last = function if module else Path(options.source).absolute().stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last.replace("_", "-")).strip("-._")
    return name or "model"


def _asked(options: argparse.Namespace, root: Path) -> Asked:
    """What the command line asks for. Raises UserError."""
    from onnxbuild.engine.first_recipe import Asked

    kind, section = _source(options, root)
    section |= _more(options.options)
    command = shlex.join(["onnxbuild", "init", *sys.argv[2:]]) if sys.argv[1:2] == ["init"] else "onnxbuild init"
    given = dict(_input(text) for text in options.inputs)
    decompose = dict(_decomposed(text) for text in options.decompose)
    asked = Asked(_name(options), command, kind, section, given, options.example, decompose)
    _require_valid(asked, root)
    return asked


def _source(options: argparse.Namespace, root: Path) -> tuple[str, dict[str, object]]:
    """The kind of source, and its options as far as SOURCE tells them."""
    from pathlib import Path

    from onnxbuild.sources import SOURCES

    file = Path(options.source)
    if file.exists():
        inside = file.absolute().is_relative_to(root.absolute())
        name = file.absolute().relative_to(root.absolute()).as_posix() if inside else str(file.absolute())
        kinds = [options.kind] if options.kind in SOURCES else SOURCES
        for kind in kinds:
            if (section := SOURCES[kind].recognised(file, name)) is not None:
                return kind, section
        raise usage(f"{file} is of no kind that is known", f"sources: {', '.join(SOURCES)}; --kind says which")
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", options.source):
        raise usage(f"there is no file {file}", "a function is written as module:function, from the project root")
    makers = [kind for kind, source in SOURCES.items() if "factory" in source.Options.__struct_fields__]
    kind = options.kind or makers[0]
    if kind not in makers:
        raise usage(f"no source '{kind}' takes a function", f"--kind may be {', '.join(makers)}")
    return kind, {"factory": options.source}


def _more(pairs: list[str]) -> dict[str, object]:
    import yaml

    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            sign = ""
        if not sign or not key:
            raise usage(f"--set {pair}: not of the form KEY=VALUE", "the value is YAML: --set 'kwargs={width: 64}'")
    return found


def _input(text: str) -> tuple[str, dict[str, object]]:
    found = _INPUT.fullmatch(text.strip())
    if found is None:
        raise usage(f"--input {text}: not of the form NAME=DTYPE[SIZES]", "such as image=float32[2,3,64,64]")
    sizes = [int(size) for size in found[3].replace(" ", "").split(",") if size]
    return found[1], {"dtype": found[2], "shape": sizes}


def _decomposed(text: str) -> tuple[str, str]:
    name, sign, function = text.partition("=")
    if not sign or "::" not in name or ":" not in function:
        hint = "such as acme::swish=models.swish:to_onnx"
        raise usage(f"--decompose {text}: not of the form OPERATOR=MODULE:FUNCTION", hint)
    return name, function


def _require_valid(asked: Asked, root: Path) -> None:
    """Raises UserError with what is wrong with the model section, or its inputs, before anything is run."""
    import msgspec

    from onnxbuild.errors import Problem, UserError
    from onnxbuild.recipe import problems_of_source

    problems = [Problem("", 0, 0, *one) for one in problems_of_source(asked.kind, asked.options, root)]
    from onnxbuild.recipe.types import Input

    for name, spec in asked.given.items():
        try:
            msgspec.convert(spec, Input)
        except msgspec.ValidationError as error:
            problems.append(Problem("", 0, 0, f"--input {name}", str(error), "such as image=float32[2,3,64,64]"))
    if problems:
        raise UserError(*problems)


def _schema(path: Path, root: Path) -> str:
    """The published schema as seen from the recipe's folder, where the project has one."""
    from onnxbuild.recipe.writing import SCHEMA

    schema = root / SCHEMA
    return os.path.relpath(schema, path.parent).replace(os.sep, "/") if schema.is_file() else ""


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write the recipe; what came there meanwhile is not overwritten either."""
    with open(path, "w" if force else "x", encoding="utf-8") as file:
        file.write(text)
