"""Which packages a changed pin file may move: requirements and constraints, pyproject.toml, and lock files.

Pure but for the metadata of what is installed, which tells what a package brings along. Where a file can't be told apart it
says so, and then it may move any package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from onnxbuild.system import distributions

_LOCKS = re.compile(r"(uv|poetry|pdm)\.lock|pylock(\..+)?\.toml")  # all that is installed, in TOML's [[package]] tables
_LINES = re.compile(r".*(requirements|constraints).*\.(txt|in)")
_OTHERS = re.compile(
    r"Pipfile(\.lock)?|(environment|conda|conda-lock)[^/]*\.ya?ml|pixi\.(toml|lock)|setup\.(py|cfg)|\.python-version"
    r"|\.tool-versions|mise\.toml"
)
_REQUIREMENT = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*(.*)", re.DOTALL)
_PINNED = re.compile(r"(?m)^\s*(?:-r\s|-c\s|[A-Za-z0-9][A-Za-z0-9._-]*\s*(?:\[[^\]]*\])?\s*[=~<>!]=)")
_NODE = re.compile(r"(package|package-lock|npm-shrinkwrap)\.json|(yarn|bun)\.lock|pnpm-lock\.yaml")
# Tables of pyproject.toml that name no package and decide nothing of what is installed.
_OF_PROJECT = {
    "description", "readme", "authors", "maintainers", "keywords", "classifiers", "urls", "license", "license-files",
}  # fmt: skip
_OF_TOOLS = {
    "ruff", "mypy", "pytest", "coverage", "black", "isort", "pyright", "flake8", "pylint", "bandit", "codespell",
    "towncrier", "bumpversion", "commitizen", "semantic_release", "typos", "pydocstyle", "interrogate", "vulture",
}  # fmt: skip
_NONE = "none"

Specs = dict[str, tuple[str, ...]]  # what is asked of each package


class Moved(Struct, frozen=True):
    """What a changed pin file may move: each package with the words that say so; `new` are those that it names for the
    first time, or no more. `anything` is why it may move any package, "" where it may not; `node` the same of npm's.
    """

    packages: dict[str, str] = {}
    new: dict[str, str] = {}
    anything: str = ""
    node: str = ""


def is_pins(path: str, *contents: bytes | None) -> bool:
    """Whether a file may say which packages are installed, by its name; a text file by what it holds, too."""
    name = os.path.basename(path)
    if name == "pyproject.toml" or any(one.fullmatch(name) for one in (_LOCKS, _LINES, _OTHERS, _NODE)):
        return True
    return name.endswith((".txt", ".in")) and any(
        _PINNED.search(content.decode(errors="replace")) for content in contents if content
    )


def moved(path: str, before: bytes | None, now: bytes | None) -> Moved:
    """What a changed pin file may move; its content before the change and now, None where there was no such file."""
    name = os.path.basename(path)
    if _NODE.fullmatch(name):
        return Moved(node=f"{path} changed, and which npm packages that moves is not known")
    if _OTHERS.fullmatch(name):
        return Moved(anything=f"{path} changed, and which packages that moves is not known")
    try:
        was, is_ = (_read(name, content) for content in (before, now))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Moved(anything=f"{path} changed, and can't be told apart")
    if was[1] != is_[1]:
        return Moved(anything=f"{path} changed in more than its packages")
    return _compared(path, was[0], is_[0])


def _compared(path: str, was: Specs, is_: Specs) -> Moved:
    """The packages of which something else is asked, and where the file is no lock, what they bring along."""
    changed = {
        package: f"{path}: {package} {_versions(was.get(package))} -> {_versions(is_.get(package))}"
        for package in sorted(was.keys() | is_.keys())
        if was.get(package) != is_.get(package)
    }
    new = {package: words for package, words in changed.items() if not (package in was and package in is_)}
    if _LOCKS.fullmatch(os.path.basename(path)):
        return Moved(changed, new)
    pinned = {package for package, spec in is_.items() if _is_pinned(spec) and was.get(package) == spec}
    for package in list(changed):
        brought = _brings(package)
        if brought is None:
            return Moved(changed, new, f"{changed[package]}, and what it brings along is not known")
        for other in sorted(brought - pinned):
            changed.setdefault(other, f"{changed[package]}, which brings {other}")
    return Moved(changed, new)


def _versions(spec: tuple[str, ...] | None) -> str:
    return _NONE if spec is None else " or ".join(one.removeprefix("==") or "any" for one in spec)


def _is_pinned(spec: tuple[str, ...]) -> bool:
    return all(re.match(r"===?[^*]+$", one.partition(";")[0].strip()) for one in spec)


Read = tuple[
    dict[str, tuple[str, ...]], Any
]  # what is asked of each package, and all else that decides what is installed


def _read(name: str, content: bytes | None) -> Read:
    """Raises ValueError, and what comes of data of another shape."""
    text = (content or b"").decode()
    if name == "pyproject.toml" or _LOCKS.fullmatch(name):
        import tomllib

        data = tomllib.loads(text)
        return _locked(data) if _LOCKS.fullmatch(name) else _declared(data)
    lines = re.sub(r"\\\r?\n", " ", text).splitlines()
    stripped = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return _requirements(line for line in stripped if line)


def _requirements(lines: Iterable[str]) -> Read:
    """Requirements as PEP 508 has them; a line that is none (an option, an address) is told with the rest."""
    found: dict[str, list[str]] = {}
    rest = []
    for line in lines:
        match = _REQUIREMENT.fullmatch(re.sub(r"\s--hash=\S+", "", line).strip())
        if match is None or "://" in line.partition("@")[0]:
            rest.append(line)
        else:
            spec = re.sub(r"\s*([=~<>!,;]+)\s*", r"\1", match[2])
            found.setdefault(distributions.normalise_name(match[1]), []).append(spec)
    return {name: tuple(sorted(specs)) for name, specs in found.items()}, rest


def _locked(data: Mapping[str, Any]) -> Read:
    """The packages of a lock file."""
    found: dict[str, list[str]] = {}
    for package in data.get("package", data.get("packages", [])):
        source = package.get("source", {})
        where = (
            "" if "registry" in source or source.get("type") in (None, "legacy") else f" from {sorted(source.items())}"
        )
        version = f"{package.get('version', '')}{where}"
        found.setdefault(distributions.normalise_name(package["name"]), []).append(version)
    return {name: tuple(sorted(versions)) for name, versions in found.items()}, data.get("requires-python")


def _declared(data: Mapping[str, Any]) -> Read:
    """The packages that pyproject.toml names, and what else of it decides what is installed."""
    project = dict(data.get("project", {}))
    lines = [*project.pop("dependencies", [])]
    groups = [*project.pop("optional-dependencies", {}).values(), *data.get("dependency-groups", {}).values()]
    lines += [line for group in groups for line in group if isinstance(line, str)]
    included = [line for group in groups for line in group if not isinstance(line, str)]
    kept = {key: value for key, value in project.items() if key not in _OF_PROJECT}
    tools = {key: value for key, value in data.get("tool", {}).items() if key not in _OF_TOOLS}
    tables = {key: value for key, value in data.items() if key not in ("project", "tool", "dependency-groups")}
    found, rest = _requirements(lines)
    return found, [rest, included, kept, tools, tables]


def _brings(package: str) -> set[str] | None:
    """All that an installed package requires, and what those do in turn; None where it is not installed."""
    if package not in distributions.distributions():
        return None
    found: set[str] = set()
    ahead = [package]
    while ahead:
        for name in _requires(ahead.pop()):
            if name not in found:
                found.add(name)
                ahead.append(name)
    return found


def _requires(package: str) -> Iterator[str]:
    folder = distributions.distributions().get(package, ("", ""))[1]
    try:
        with open(f"{folder}{os.sep}METADATA", encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():  # the end of the header
                    return
                name, _, value = line.partition(":")
                match = _REQUIREMENT.fullmatch(value.strip()) if name == "Requires-Dist" else None
                if match is not None and "extra" not in match[2].partition(";")[2]:
                    yield distributions.normalise_name(match[1])
    except OSError:
        return
