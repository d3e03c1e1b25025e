"""`onnxbuild identify`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from onnxbuild.commands import arguments
from onnxbuild.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnxbuild.reproducibility.identify import Built, Identity

HELP = "say which recipe, revision and tools made a file, and whether it was changed since"
EXAMPLES = (
    "onnxbuild identify build/resnet50/model.onnx",
    "onnxbuild identify build/resnet50/model.onnx --json",
)

_EPILOG = """\
Ends with 0 where the file is ours and as it was built, and with 1 where it is not ours or was changed. A model tells its
recipe itself; when it was built and by what is told by the provenance.json of its build, beside it or in build/ of this
project. Nothing of that is signed: see README.md on signing a folder.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a model, or any other file that a build published")
    arguments.add_out(parser)
    arguments.add_trust(parser)
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Tell what the file is; 1 unless it is ours, and as it was built."""
    from onnxbuild.reproducibility import identify
    from onnxbuild.system import project
    from onnxbuild.text.screen import Screen

    roots = [
        Path(root) for root in dict.fromkeys(map(project.root_of, (str(options.file), str(Path("here").absolute()))))
    ]
    outs = [arguments.out(options) or root / "build" for root in roots]
    found = identify.identify(options.file, outs, _store(roots[-1], options))
    if options.json:
        print(identify.to_json(found))
    else:
        screen = Screen(sys.stdout, os.environ)
        for line in _lines(found, screen.width):
            screen.line(line)
    return 0 if found.status == "unchanged" else 1


def _store(root: Path, options: argparse.Namespace) -> Path | None:
    """The project's store, where there is one that may be believed."""
    from onnxbuild.queries.workspace import Places

    places = Places(lambda _: None, cache=arguments.cache(), look=True, trusted=arguments.is_trusted(options))
    try:
        return places.store(root)[0].folder
    except UserError:  # somebody else's: what it says is nothing to go by
        return None
    finally:
        places.close()


def _lines(found: Identity, width: int) -> Iterator[str]:
    from onnxbuild.text import table, units

    mark = "✓" if found.status == "unchanged" else "✗"
    said = {
        "unchanged": f"built from the recipe {found.recipe}, and unchanged since",
        "changed": f"built from the recipe {found.recipe}, and changed since",
        "not ours": "not known as a file of ours: it names no recipe, and no build here lists it",
    }
    yield units.line(f"{mark} {found.file}: {said[found.status]}")
    yield from (f"    {units.line(change)}" for change in found.changes)
    if found.status != "not ours":
        cells = [("recipe", found.recipe_sha256), *_built(found.built)]
        yield from table.rows([(name, units.line(value)) for name, value in cells], width)


def _built(built: Built | None) -> Iterator[tuple[str, str]]:
    if built is None:
        yield "build", "not known here: neither build/ nor the store tells of one"
        return
    from onnxbuild.report import history

    yield "file", built.recipe
    if built.started:
        yield "built", f"{history.minute(built.started)} UTC"
    if built.revision is not None:
        yield "commit", history.revision(built.revision)
    tools = {**({"onnxbuild": built.onnxbuild} if built.onnxbuild else {}), **built.packages}
    yield "tools", ", ".join(f"{name} {version}" for name, version in tools.items())
    yield "told by", built.source
