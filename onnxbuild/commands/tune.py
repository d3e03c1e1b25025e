"""`onnxbuild tune`: the nodes that a quantization, or float16, has to leave as they are, as a patch for the recipe."""

from __future__ import annotations

import argparse
import shlex
import sys

from onnxbuild.commands import arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from onnxbuild.engine.tuning import Node, Tuned
    from onnxbuild.recipe import Loaded

HELP = "find the nodes that a quantization, or float16, has to leave as they are"
EXAMPLES = (
    "onnxbuild tune recipes/minilm-int8.yaml",
    "onnxbuild tune recipes/minilm-int8.yaml --write",
    "onnxbuild tune recipes/minilm-int8.yaml --pass float16 --json",
)
_LIMIT = 200
_EPILOG = """\
Each measurement is a build up to that pass, with its parity and the recipe's metric, and is kept in the store: what was
stopped goes on where it was. Of up to half of --limit nodes each is left alone once, which ranks them; the costliest are
left together until the gate passes, and those that it passes without are taken off again. Of more nodes the list is found
by halves. It passes, and does not without any one of its nodes; another one may be shorter."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's .yaml file")
    text = (
        "the pass to look at: its name, or its number with it, such as 1-float16 (default: the last that takes a list)"
    )
    parser.add_argument("--pass", dest="kind", metavar="NAME", default="", help=text)
    parser.add_argument("--write", action="store_true", help="write the list into the recipe")
    text = f"measurements at most (default: {_LIMIT})"
    parser.add_argument("--limit", type=arguments.whole(4), default=_LIMIT, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    text = "measurements at a time (default: one per core)"
    parser.add_argument("-j", "--jobs", type=arguments.whole(1), default=0, metavar="N", help=text)
    arguments.add_trust(parser)
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Tune the recipe; 1 where no list is found. Raises UserError."""
    import msgspec

    from onnxbuild.errors import UserError
    from onnxbuild.text import units

    loaded, found = _tuned(options)
    refused = None
    try:
        found, text = _patched(loaded, found)
        if options.write and text:
            _write(loaded, text)
            found = msgspec.structs.replace(found, written=True)
    except UserError as error:  # what was found is told all the same
        refused = error
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _say(_lines(found))
        if found.patch:
            print(units.plain(found.patch), end="")
            if found.written or not options.write:
                _say(["", f"written: {loaded.path}" if found.written else f"write it: {_command(options)}"])
    if refused is not None:
        raise refused
    return 0 if found.outcome == "passes" or found.nodes else 1


def _tuned(options: argparse.Namespace) -> tuple[Loaded, Tuned]:
    import os
    from pathlib import Path

    from onnxbuild.engine import tuning
    from onnxbuild.engine.session import Session, Settings
    from onnxbuild.report.progress import Progress
    from onnxbuild.text import units
    from onnxbuild.text.screen import Screen

    screen = Screen(sys.stderr, os.environ)
    settings = Settings(
        cache=arguments.cache(), jobs=options.jobs, keep_going=True, trusted=arguments.is_trusted(options)
    )
    with Session(settings, Progress(sys.stderr, quiet=True, errors=sys.stderr, warns=True)) as session:
        (loaded,) = session.load([Path(options.recipe)])
        number = tuning.place_of(loaded, options.kind)
        looking = tuning.Tuning(session, loaded, number, lambda text: screen.line(f"  {units.line(text)}"))
        return loaded, looking.run(options.limit)


def _command(options: argparse.Namespace) -> str:
    """The same command, so that it writes."""
    more = ["--pass", options.kind] if options.kind else []
    more += ["--limit", str(options.limit)] if options.limit != _LIMIT else []
    return shlex.join(["onnxbuild", "tune", options.recipe, *more, "--write"])


def _patched(loaded: Loaded, found: Tuned) -> tuple[Tuned, bytes]:
    """The same with the patch, and what the recipe's file is to hold, b"" where nothing is to change. Raises UserError."""
    import hashlib

    import msgspec

    from onnxbuild.errors import usage
    from onnxbuild.recipe import documents, patching, writing

    if not found.nodes:
        return found, b""
    for path, known in {loaded.path: loaded.sha256, **loaded.bases}.items():
        if hashlib.sha256(documents.content(path)).hexdigest() != known:
            raise usage(f"{path} was changed meanwhile", "run it again: what was measured is kept")
    place = ("optimize", int(found.pass_.partition("[")[2].partition("]")[0]), found.pass_.rpartition(".")[2])
    content = documents.content(loaded.path)
    before = documents.decoded(loaded.path, content)
    names = [row.name for row in found.nodes]
    try:
        after = patching.listed(before, loaded.positions.data, place, found.option, names)
    except patching.Unpatchable as error:
        hint = f"write it by hand: {found.option}: {writing.inline(names)}"
        raise usage(f"{loaded.path} can't be patched: {error}", hint) from None
    mark = content[: len(content) - len(before.encode())]
    patch = patching.difference(before, after, str(loaded.path))
    return msgspec.structs.replace(found, patch=patch), mark + after.encode()


def _write(loaded: Loaded, text: bytes) -> None:
    """Put the text in the place of the recipe's, with its rights. Raises UserError."""
    import os
    from pathlib import Path

    from onnxbuild.errors import usage
    from onnxbuild.system.files import write_atomic

    try:
        path = Path(os.path.realpath(loaded.path))
        mode = path.stat().st_mode
        write_atomic(path, [text])
        path.chmod(mode)
    except OSError as error:
        fact = f"{loaded.path} can't be written: {error.strerror or error}"
        raise usage(fact, "apply the patch by hand, or let its folder be written") from error


def _lines(found: Tuned) -> list[str]:
    """What came of it, as text."""
    from onnxbuild.text import units

    plain = found.plain
    head = f"{found.recipe}, {found.pass_}:"
    if found.outcome == "passes":
        return [f"{head} the gate passes as it is{_near(plain.error)}; there is nothing to patch"]
    lines = [f"{head} fails{_near(plain.error)}", *units.wrapped("  ", plain.why)]
    if found.outcome == "before":
        fact = found.tuned.why if found.tuned else ""
        return [
            *lines,
            "the graph before the pass fails by the same gate, so no list helps:",
            *units.wrapped("  ", fact),
        ]
    if not found.nodes:
        of = f"{units.plural(found.candidates, 'node')} and {units.plural(found.measured, 'measurement')}"
        why, more = "no list that was measured passes", "allow more under parity"
        if found.outcome == "limit":
            why, more = "--limit was reached", "raise it, allow more under parity"
        return [*lines, f"{why} ({of}): {more}, or take the pass out"]
    count = f"{len(found.nodes)} of {units.plural(found.candidates, 'node')}"
    minimal = "without any one of them it does not; another list may be shorter"
    lines += ["", f"with {count} as they are it passes{_near(found.tuned.error if found.tuned else None)};"]
    lines += [f"  {minimal if found.outcome == 'found' else '--limit was reached: a shorter list may do'}", ""]
    lines += [f"  {'node':<28}{'operator':<16}{'left alone':>12}{'all but it':>12}{'size':>11}"]
    lines += [_row(row) for row in sorted(found.nodes, key=_costliest_first)]
    return [*lines, "", f"{units.plural(found.measured, 'measurement')}; errors are shares of what is allowed", ""]


def _row(row: Node) -> str:
    from onnxbuild.text import units

    errors = [units.share(one.error) if one.error is not None else "–" for one in (row.alone, row.without)]
    size = "–" if row.bytes is None else f"{'-' if row.bytes < 0 else '+'}{units.size(abs(row.bytes))}"
    name, operator = units.clip(units.line(row.name), 27), units.clip(units.line(row.operator), 15)
    return f"  {name:<28}{operator:<16}{errors[0]:>12}{errors[1]:>12}{size:>11}"


def _costliest_first(row: Node) -> float:
    return -row.without.error if row.without.error is not None else float("-inf")


def _near(error: float | None) -> str:
    from onnxbuild.text import units

    return "" if error is None else f", {units.share(error)} of what is allowed"


def _say(lines: list[str]) -> None:
    import os

    from onnxbuild.text import units
    from onnxbuild.text.screen import Screen

    screen = Screen(sys.stdout, os.environ)  # knows what the stream can show
    for text in lines:
        screen.line(units.plain(text))
