"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxbuild.places import Places


def add_recipes(parser: argparse.ArgumentParser) -> None:
    """RECIPE…"""
    parser.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE", help="a recipe's .yaml file")


def add_out(parser: argparse.ArgumentParser) -> None:
    """--out FOLDER"""
    text = "where results go, a folder per recipe (default: build/ at the project root)"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=text)


def add_paranoid(parser: argparse.ArgumentParser) -> None:
    """--paranoid"""
    parser.add_argument("--paranoid", action="store_true", help="hash every file anew, whatever stat says of it")


def cache() -> Path | None:
    """The store's folder, where the environment names one."""
    folder = os.environ.get("ONNXBUILD_CACHE")
    return Path(folder).absolute() if folder else None


def places(options: argparse.Namespace, warn: Callable[[str], None]) -> Places:
    """The stores and output folders of a command that only looks at them."""
    from onnxbuild.places import Places

    return Places(warn, out=options.out, cache=cache(), paranoid=options.paranoid, look=True)


def positive(text: str) -> int:
    """An argument that is 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def amount(text: str) -> int:
    """An amount of memory, in bytes."""
    from onnxbuild import memory

    try:
        return memory.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
