"""Versions of installed distributions and facts about this machine, without importing any of them.

Reads the names of `*.dist-info` folders on sys.path, which takes a millisecond; importlib.metadata would open a file for
each. A distribution's identity is its RECORD, which lists the digest of each of its files. Knows nothing of stages or keys.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

from onnxbuild.system import observed

ABSENT = "absent"  # in the place of a version, or of a digest
# Import packages that more than one distribution provides, by what those are called.
VARIANTS = {
    "onnxruntime": r"onnxruntime(-[a-z0-9-]+)?",
    "tensorflow": r"tensorflow(-cpu|-gpu|-intel|-macos|-rocm|-cpu-aws)?|tf-nightly(-cpu)?",
}


def search_path() -> list[str]:
    """Where Python looks for modules, less the folder that it puts first for whatever script it runs."""
    unsafe = 0 if sys.flags.safe_path else 1
    return list(dict.fromkeys(folder for folder in sys.path[unsafe:] if folder))


@observed.cached
def distributions() -> dict[str, tuple[str, str]]:
    """Every installed distribution: normalised name to (version, its dist-info folder); the first on the path wins."""
    found: dict[str, tuple[str, str]] = {}
    for folder in search_path():
        try:
            names = sorted(observed.listdir(folder))
        except OSError:
            continue
        for entry in names:
            if entry.endswith(".dist-info"):
                name, _, version = entry.removesuffix(".dist-info").partition("-")
                found.setdefault(normalise_name(name), (version, os.path.join(folder, entry)))  # noqa: PTH118  # hot path
    return found


@observed.cached
def sites() -> list[str]:
    """The folders that distributions are installed into, the innermost first."""
    folders = {os.path.dirname(folder) for _, folder in distributions().values()}  # noqa: PTH120  # hot path
    return sorted(folders, key=len, reverse=True)


def site_of(path: str, root: str) -> str:
    """The folder of installed distributions that a file lies in, "" for none; one that the project is in doesn't count."""
    inside = (
        site for site in sites() if path.startswith(site + os.sep) and not f"{root}{os.sep}".startswith(site + os.sep)
    )
    return next(inside, "")


@functools.cache
def _standard_library() -> tuple[str, ...]:
    places = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    return tuple({f(place) for place in places for f in (os.path.abspath, os.path.realpath)})


def is_standard_library(path: str) -> bool:
    """Whether a file or a folder is the standard library's; installed distributions may lie below it, and are not."""
    inner = next((path[len(place) :] for place in _standard_library() if path.startswith(place)), None)
    if inner is None or inner[:1] not in ("", os.sep):
        return False
    return not any(f"{os.sep}{name}" in inner for name in ("site-packages", "dist-packages"))


def normalise_name(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution named, "absent" where there is none.

    "onnxruntime" and "tensorflow" stand for whichever distribution provides them.
    """
    installed = distributions()
    found = {}
    for name in names:
        actual = next(iter(_providers(name)), name) if name in VARIANTS else name
        found[actual] = installed.get(normalise_name(actual), (ABSENT, ""))[0]
    return found


def runtime_distribution() -> str:
    """The name of the installed distribution that provides the package onnxruntime."""
    return next((name for name in runtime_distributions()), "onnxruntime")


def runtime_distributions() -> list[str]:
    """All installed distributions that provide the package onnxruntime; more than one is a broken environment."""
    return _providers("onnxruntime")


def variants(package: str, names: Iterable[str]) -> list[str]:
    """Those of the names of distributions which provide an import package that more than one of them does."""
    return sorted((name for name in names if re.fullmatch(VARIANTS.get(package, ""), name)), reverse=True)


def _providers(package: str) -> list[str]:
    return variants(package, distributions())


@observed.cached
def record_digest(name: str, file_digest: Callable[[Path], str]) -> str:
    """The digest of a distribution's RECORD, "absent" where there is none; read once per process and memory of digests."""
    _, folder = distributions().get(normalise_name(name), ("", ""))
    try:
        return file_digest(Path(folder, "RECORD"))
    except OSError:
        return ABSENT


@functools.cache
def owners() -> dict[tuple[str, str], set[str]]:
    """Which distributions put files below each top-level name of each folder: (".../site-packages", "yaml") to {"pyyaml"}.

    One that lists its code without digests answers for none of it.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for name, (_, folder) in distributions().items():
        listed = _record(folder)
        if any(line.endswith(",,") and line[:-2].endswith((".py", ".so", ".pyd")) for line in listed):
            continue
        site = os.path.dirname(folder)  # noqa: PTH120  # hot path
        for top in {line.split(",", 1)[0].split("/", 1)[0] for line in listed}:
            if not top.endswith(".dist-info") and top not in ("..", "__pycache__"):
                found.setdefault((site, top.split(".", 1)[0]), set()).add(name)
    return found


def owner(site: str, path: str) -> str | None:
    """The distribution that a file of a folder on the path belongs to; `path` is relative to it. None: nobody's."""
    claims = owners().get((site, path.split(os.sep, 1)[0].split(".", 1)[0]), set())
    if len(claims) == 1:
        return next(iter(claims))
    start = f"{path.replace(os.sep, '/')},"  # several share the name, as google/ or nvidia/
    lists = (name for name in sorted(claims) if any(row.startswith(start) for row in _record(distributions()[name][1])))
    return next(lists, None)


def _record(folder: str) -> list[str]:
    try:
        return Path(folder, "RECORD").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
