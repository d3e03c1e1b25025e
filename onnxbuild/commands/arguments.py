"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from onnxbuild.queries.remembered import Question
    from onnxbuild.queries.workspace import Places

Warn = Callable[[str], None]

LOCK = ".lock.yaml"  # what the names of lock files end in; `review.lockfile` is not for every run
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def add_recipes(parser: argparse.ArgumentParser) -> None:
    """RECIPE…"""
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", action=_Recipes, help="a recipe's .yaml file")


def add_recipes_or_folders(parser: argparse.ArgumentParser) -> None:
    """[RECIPE…], where a folder stands for the recipes below it: see `below`"""
    text = "a recipe's .yaml file, or a folder: the recipes below it that git does not ignore (default: this folder)"
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", action=_Recipes, help=text)


class _Recipes(argparse.Action):
    """Takes the lock files out that `recipes/*.yaml` names beside the recipes which they are of."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: object = None) -> None:  # noqa: ARG002  # argparse's
        assert isinstance(values, list)
        stems = {path.rpartition(".")[0] for path in values}
        for path in values:
            if path.endswith(LOCK) and path.removesuffix(LOCK) not in stems:
                fact = f"{path} is a lock file: give the recipe that it is of, {path.removesuffix(LOCK)}.yaml"
                raise argparse.ArgumentError(self, fact)
        setattr(namespace, self.dest, [path for path in values if not path.endswith(LOCK)])


def add_out(parser: argparse.ArgumentParser) -> None:
    """--out FOLDER"""
    text = "where results go, a folder per recipe (default: build/ at the project root)"
    parser.add_argument("--out", metavar="FOLDER", help=text)


def add_paranoid(parser: argparse.ArgumentParser) -> None:
    """--paranoid"""
    parser.add_argument("--paranoid", action="store_true", help="hash every file anew, whatever stat says of it")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """--trust-store"""
    text = "use a store in the project that somebody else made: what it holds is then believed (or ONNXBUILD_TRUST_STORE=1)"
    parser.add_argument("--trust-store", action="store_true", help=text)


def is_trusted(options: argparse.Namespace) -> bool:
    """Whether the user takes a store that came with the project on trust, by the option or by the environment."""
    return bool(options.trust_store) or os.environ.get("ONNXBUILD_TRUST_STORE", "0") not in ("", "0")


def cache() -> Path | None:
    """The store's folder, where the environment names one."""
    from pathlib import Path

    folder = os.environ.get("ONNXBUILD_CACHE")
    return Path(folder).absolute() if folder else None


def recipes(options: argparse.Namespace) -> list[Path]:
    """The recipes' files."""
    from pathlib import Path

    return [Path(path) for path in options.recipes]


def shown(path: str) -> str:
    """A recipe's path as it is told: "./a.yaml" is a.yaml."""
    if "./" not in path and "//" not in path:
        return path
    from pathlib import Path

    return str(Path(path))


def out(options: argparse.Namespace) -> Path | None:
    """The folder where results go, where the command line names one."""
    from pathlib import Path

    return None if options.out is None else Path(options.out)


def question(options: argparse.Namespace) -> Question | None:
    """What a command is about to find out, if that may be remembered."""
    from onnxbuild.queries import remembered

    asked = repr((options.out, is_trusted(options), getattr(options, "locked", False)))
    return remembered.question(options.recipes, asked, os.environ.get("ONNXBUILD_CACHE", ""))


def places(options: argparse.Namespace, warn: Callable[[str], None]) -> Places:
    """The stores and output folders of a command that only looks at them."""
    from onnxbuild.queries.workspace import Places

    trusted = is_trusted(options)
    return Places(warn, out=out(options), cache=cache(), paranoid=options.paranoid, look=True, trusted=trusted)


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argument that is a whole number, `low` or more and at most `high`."""
    wanted = f"of {low} or more" if high is None else f"from {low} to {high}"

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {wanted}")
        return value

    return number


def size(text: str) -> int:
    """Bytes: 500MB, 1.5GiB, 0. K, M, G and T are powers of 1000; Ki, Mi, Gi and Ti of 1024; a bare number is bytes."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([KMGT]I?)?B?", text.strip().upper())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write 500MB, 4G or 1.5GiB")
    return round(float(found[1]) * _UNITS[found[2] or ""])


def memory(text: str) -> int:
    """A size that is worth the name: 512 was hardly meant as bytes."""
    value = size(text)
    if value < _UNITS["M"]:
        raise argparse.ArgumentTypeError(f"{text!r} is {value:,} bytes, too little for any stage: write 4G or 512MiB")
    return value


# Of the kinds of file that commands write where they are told to: what it is called, what stands near its beginning, a name.
JUNIT = ("JUnit XML", b"<testsuite", "junit.xml")
PAGE = ("HTML page", b"<!DOCTYPE html>", "diff.html")
_NEAR = 1000  # bytes


def written(option: str, name: str, kind: tuple[str, bytes, str]) -> Path:
    """The file that an option names, behind links.

    Raises UserError where it can't be one, and where something else is there: the name is easily forgotten, and then a
    recipe comes next.
    """
    from pathlib import Path

    from onnxbuild.errors import usage

    what, mark, example = kind
    another = f"give it the name of another file, such as {example}"
    path = Path(os.path.realpath(name))
    if path.is_dir():
        raise usage(f"{option} {name or '.'} is a folder", f"give it the name of a file, such as {example}")
    if not path.exists():
        return path
    if not path.is_file():
        raise usage(f"{option} {name} is no regular file", another)
    with open(path, "rb") as file:
        start = file.read(_NEAR)
    if start and mark not in start:
        raise usage(f"{option} {name} is there, and is no {what}", another)
    return path
