"""The recipes that a command line names: files, and folders with all recipes below them that git does not ignore."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from onnxbuild.commands import arguments
from onnxbuild.errors import Problem, UserError, usage

_SUFFIXES = (".yaml", ".yml")
_KEYS = ({"version", "name", "model"}, {"base", "name"})  # that no recipe leaves out, the second where it has a base
_MOST_BYTES = 1 << 20  # of a recipe


def recipes(given: Iterable[str], top: str, present: Sequence[str]) -> Iterator[str]:
    """The recipes' files as they are to be told, each once. `present` are the files of the work tree in `top`.

    Raises UserError where a path is neither a file nor a folder of that work tree.
    """
    seen: set[str] = set()
    for path in given:
        found = _below(path, top, present) if os.path.isdir(path) else [_file(path)]
        for one in found:
            if os.path.realpath(one) not in seen:
                seen.add(os.path.realpath(one))
                yield one


def _file(path: str) -> str:
    if os.path.isfile(path):
        return arguments.shown(path)
    raise UserError(Problem(path, 0, 0, "", "no such file", "give a recipe's file, or a folder"))


def _below(folder: str, top: str, present: Sequence[str]) -> list[str]:
    """The recipes below a folder, of the files that git knows or would take."""
    inside = os.path.relpath(os.path.realpath(folder), top)
    if inside.split(os.sep)[0] == os.pardir:
        hint = "name a folder of the repository, or the recipes themselves"
        raise usage(f"{folder} is not in the repository {top}", hint)
    start = "" if inside == os.curdir else f"{inside}{os.sep}"
    names = (path.removeprefix(start) for path in present if path.startswith(start))
    paths = (os.path.normpath(os.path.join(folder, name)) for name in sorted(names) if name.endswith(_SUFFIXES))
    return [path for path in paths if not path.endswith(arguments.LOCK) and _is_recipe(path)]


def _is_recipe(path: str) -> bool:
    """Whether a YAML file may be a recipe: one of another kind, or that is only to be a base, lacks keys that each has."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError:
        return False
    words = [{key.encode() for key in keys} for keys in _KEYS]
    if len(text) > _MOST_BYTES or (b"\\" not in text and not any(all(key in text for key in keys) for keys in words)):
        return False
    starts = {line.partition(b":")[0] for line in text.splitlines()}
    if any(starts >= keys for keys in words):
        return True
    import yaml

    try:
        node = yaml.compose(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return True  # nobody can tell, and its build would fail
    found = {str(key.value) for key, _ in node.value} if isinstance(node, yaml.MappingNode) else set()
    return any(found >= keys for keys in _KEYS)
