"""What a stage turned out to depend on: the names that `recorder` gives, and whether each is still as it was.

    file:models/resnet.py          a file below the project root, by its content
    path:/data/labels.json         a file anywhere else
    site:six.py                    a file beside the installed packages that none of them answers for
    dist:torch 2.13.0              an installed distribution, by the digest of its RECORD
    import:models json             where Python finds these modules, the project's folders coming first
    tools:numpy torch              the same, of modules imported before the project was on the path
    inside:models block layers     the same, in one package's folder
    list:assets                    the names in a folder below the root that the model's code listed
    kind:assets                    whether there is a folder, which the code asked
    link:current                   where a symbolic link leads, which the code asked
    env:TORCH_HOME                 an environment variable that says where a library looks for files

A file that was looked for and not found is recorded too, as "absent". All names but `path:` are the same on every
machine. Checking reads files and lists folders, and imports nothing. Blind spots: files that native code opens
without a word to Python (what safetensors and torch open is heard of), which is why weights are declared inputs; what
other programs do that the code starts; files of an installed distribution that were edited by hand.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

from onnxbuild.system import distributions

ABSENT = "absent"
PASSED_OVER = frozenset({".git", ".venv", ".onnxbuild", "__pycache__"})  # never an input, wherever it is
_BUILD = "build"  # where recipes publish: their models may be another recipe's input, their reports never are
_REPORTS = ("report.json", "report.md", "report.html")
INSTALLED = "installed"  # where a module is found that a distribution answers for
_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)  # importlib's order

_Places = Sequence[tuple[str, frozenset[str]]]  # folders and the names in them


def digest(name: str, root: Path, file_digest: Callable[[Path], str]) -> str:
    """Today's digest of a recorded name; it begins with "absent" where that is gone or is another version."""
    kind, _, rest = name.partition(":")
    if kind in ("import", "tools", "inside"):
        return _found(kind, rest, root)
    if is_file(name):
        return _content(path(name, root), file_digest)
    others: dict[str, Callable[[], str]] = {
        "dist": lambda: _installed(rest, file_digest),
        "list": lambda: _listed(root / rest, rest),
        "kind": lambda: _kind(root / rest),
        "link": lambda: _sha256(os.readlink(root / rest)),  # noqa: PTH115  # as it is written
        "env": lambda: _sha256(os.environ[rest]) if rest in os.environ else ABSENT,
    }
    try:
        return others[kind]()
    except OSError:
        return ABSENT


def say(name: str, before: str, now: str) -> str:
    """A sentence on why a recorded name no longer holds."""
    kind, _, rest = name.partition(":")
    if kind in ("import", "tools", "inside"):
        return _say_found(before, now)
    if kind == "dist":
        other = now.removeprefix("absent, ").removesuffix(" is installed")
        return f"{rest} -> {other}" if now.startswith(ABSENT) else f"{rest}: its installed files changed"
    other_kinds = {
        "list": f"the names in {rest} changed",
        "kind": f"{rest} is {now}; it was {before}",
        "link": f"{rest} leads elsewhere",
        "env": f"${rest} changed",
    }
    what = "is gone" if now == ABSENT else "is there now" if before == ABSENT else "changed"
    return other_kinds.get(kind, f"{rest} {what}")


def is_passed_over(name: str) -> bool:
    """Whether a path below the root leads through a folder that is never an input, or to a report or metadata of ours."""
    parts = name.split("/")
    if parts[0] == _BUILD and len(parts) == 3 and (parts[2].startswith(".") or parts[2] in _REPORTS):
        return True
    return not PASSED_OVER.isdisjoint(parts) or any(part.endswith((".egg-info", ".dist-info")) for part in parts)


def is_published(folder: str, name: str) -> bool:
    """Whether a folder, by its path and its name below the root, is one that a recipe publishes into."""
    return name.count("/") == 1 and name.startswith(f"{_BUILD}/") and Path(folder, _REPORTS[0]).is_file()


def is_file(name: str) -> bool:
    """Whether a recorded name stands for one file."""
    return name.startswith(("file:", "path:", "site:"))


def missing(names: Iterable[str], root: Path) -> list[str]:
    """The names of files, among recorded ones, that are not there, or can't be read."""
    return [name for name in names if is_file(name) and not _can_be_read(path(name, root))]


def path(name: str, root: Path) -> Path:
    """Where the file of such a name is."""
    kind, _, rest = name.partition(":")
    if kind == "file":
        return root / rest
    if kind == "site":
        places = (Path(folder, rest) for folder in distributions.search_path())
        return next((place for place in places if place.is_file()), Path(rest))
    return Path(rest)


def _can_be_read(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and os.access(path, os.R_OK))


def _content(path: Path, file_digest: Callable[[Path], str]) -> str:
    try:
        return file_digest(path)
    except IsADirectoryError:
        return "folder"
    except OSError:
        return ABSENT


def _installed(rest: str, file_digest: Callable[[Path], str]) -> str:
    distribution, _, version = rest.partition(" ")
    installed = distributions.distributions().get(distribution, (ABSENT, ""))[0]
    return (
        distributions.record_digest(distribution, file_digest)
        if installed == version
        else f"{ABSENT}, {installed} is installed"
    )


def _kind(path: Path) -> str:
    return "folder" if path.is_dir() else "file" if path.exists() else ABSENT


def _listed(folder: Path, inner: str) -> str:
    names = sorted(os.listdir(folder))
    kept = [os.fsencode(name) for name in names if name not in PASSED_OVER and not _is_ours(folder, inner, name)]
    return hashlib.sha256(b"\0".join(kept)).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _is_ours(folder: Path, inner: str, name: str) -> bool:
    """Whether a build made this entry, which then says nothing of what the model's code found."""
    if inner == ".":
        return name == _BUILD
    return inner == _BUILD and is_published(str(folder / name), f"{_BUILD}/{name}")


def _found(kind: str, rest: str, root: Path) -> str:
    """One line for each module that is found, as "models.net=models/net.py"."""
    base = str(root)
    if kind == "inside":
        folder, _, rest = rest.rpartition(":")
        folders = [os.path.join(base, folder)]  # noqa: PTH118  # hot path
    else:
        folders = [base, *distributions.search_path()][kind == "tools" :]
    standard = next((i for i, folder in enumerate(folders) if distributions.is_standard_library(folder)), len(folders))
    others = [(folder, _names(folder)) for folder in folders if not distributions.is_standard_library(folder)]
    before = others[:standard]  # the folders that come first even for a module of the standard library
    lines = []
    for name in rest.split(" "):
        places = before if name.partition(".")[0] in sys.stdlib_module_names and kind != "inside" else others
        if where := _locate(name, places):
            lines.append(f"{name}={' '.join(dict.fromkeys(_shown(path, base) for path in where))}")
    return "\n".join(lines) or ABSENT


def _locate(name: str, places: _Places) -> list[str]:
    """Where Python finds a module among these folders: its file, or its folders where it is a namespace package.

    Follows importlib's own order: folder by folder, a package before a module, an extension before source before
    bytecode; a folder without __init__ only where there is nothing else.
    """
    head, _, tail = name.partition(".")
    portions = []
    for folder, names in places:
        inner = f"{folder}{os.sep}{head}"
        if head in names and (found := _first("__init__", _names(inner))):
            return [] if tail else [f"{inner}{os.sep}{found}"]  # what is in a package, `inside` says
        if found := _first(head, names):
            return [] if tail else [f"{folder}{os.sep}{found}"]
        if head in names and os.path.isdir(inner):  # noqa: PTH112  # hot path
            portions.append((inner, _names(inner)))
    if tail:
        return _locate(tail, portions)
    return [f"{inner}{os.sep}" for inner, _ in portions]


def _first(name: str, names: frozenset[str]) -> str:
    return next((f"{name}{suffix}" for suffix in _SUFFIXES if f"{name}{suffix}" in names), "")


def _names(folder: str) -> frozenset[str]:
    return _installed_names(folder) if folder in distributions.sites() else _listed_now(folder)


def _listed_now(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


# What is installed is looked at once per process, as its versions are.
_installed_names = functools.cache(_listed_now)


def _shown(path: str, root: str) -> str:
    if distributions.site_of(path, root):
        return INSTALLED
    return path[len(root) + 1 :].replace(os.sep, "/") if path.startswith(root + os.sep) else path


def _say_found(before: str, now: str) -> str:
    was, is_ = (dict(line.split("=", 1) for line in text.splitlines() if "=" in line) for text in (before, now))
    changed = [name for name in sorted(was.keys() | is_.keys()) if was.get(name) != is_.get(name)]
    changed = [name for name in changed if name.rpartition(".")[0] not in changed]
    name = changed[0]
    more = f" (and {len(changed) - 1} more)" if changed[1:] else ""
    if name not in is_:
        return f"the module {name} is gone: it was {was[name]}{more}"
    if name not in was:
        return f"the module {name} is there now: {is_[name]}{more}"
    return f"the module {name} is now {is_[name]}, not {was[name]}{more}"
