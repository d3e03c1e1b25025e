"""What a stage turned out to depend on: one type for each kind, each with today's digest and a sentence on what changed.

    file:models/resnet.py          a file below the project root, by its content; `file:../common/a.json` from there upwards
    path:/data/labels.json         a file anywhere else; see `places` for how it is written
    site:six.py                    a file beside the installed packages that none of them answers for
    dist:torch 2.13.0              an installed distribution, by the digest of its RECORD
    import:models json             where Python finds these modules, the project's folders coming first
    tools:numpy torch              the same, of modules imported before the project was on the path
    inside:models:block layers     the same, in one package's folder
    list:assets                    the names in a folder that the model's code listed
    kind:assets                    whether there is a folder, which the code asked
    link:current                   where a symbolic link leads, which the code asked
    env:TORCH_HOME                 an environment variable that the code asked for
    finders:models                 where finders on sys.meta_path that are not Python's own lead these modules
    plugins:torch.backends         the entry points of a group that are installed
    version:numpy                  the version of a distribution, which the code asked; of all where there is no name
    machine:gpu                    a facet of the machine, which the code asked

A trace keeps the left column, and the digest. A file that was looked for and not found is recorded too, as "absent".
Checking reads files and lists folders, and imports nothing. What is not seen is listed in the README.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from msgspec import Struct

from onnxbuild.discovery import modules, places, plugins
from onnxbuild.system import distributions, machine, observed
from onnxbuild.system.files import IrregularError

ABSENT = "absent"
PASSED_OVER = frozenset({".git", ".venv", ".onnxbuild", "__pycache__"})  # never an input, wherever it is
_BUILD = "build"  # where recipes publish: their models may be another recipe's input, their reports never are
_OVER_ALL = frozenset({"index.html", ".gitignore"})  # beside the folders that recipes publish in
_REPORTS = ("report.json", "report.md", "report.html", "provenance.json")

FileDigest = Callable[[Path], str]


class Content(Struct, frozen=True):
    """A file, by its content. `kind` says how `place` is written: see above."""

    kind: Literal["file", "path", "site"]
    place: str

    def path(self, root: Path) -> Path:
        """Where it is."""
        if self.kind != "site":
            return places.where(self.place, root)
        found = (Path(folder, self.place) for folder in distributions.search_path())
        return next((path for path in found if observed.kind(path) == "file"), Path(self.place))

    def digest(self, root: Path, file_digest: FileDigest) -> str:
        """Its digest today; it begins with "absent" where it is gone. `root` is the project's."""
        try:
            return file_digest(self.path(root))
        except IsADirectoryError:
            return "folder"
        except IrregularError as error:  # nobody's content: but what it is, is seen
            return error.what
        except OSError:
            return ABSENT

    def say(self, before: str, now: str) -> str:
        """A sentence on why it no longer holds, from the two digests."""
        what = "is gone" if now == ABSENT else "is there now" if before == ABSENT else "changed"
        return f"{self.place} {what}"


class Package(Struct, frozen=True):
    """An installed distribution in one version, "torch 2.13.0", by the digest of its RECORD."""

    kind: Literal["dist"]
    place: str

    def digest(self, root: Path, file_digest: FileDigest) -> str:  # noqa: ARG002  # as all have it
        """Its digest today; it begins with "absent" where it is gone. `root` is the project's."""
        name, _, version = self.place.partition(" ")
        installed = distributions.distributions().get(name, (ABSENT, ""))[0]
        if installed == version:
            return distributions.record_digest(name, file_digest)
        return f"{ABSENT}, {installed} is installed"

    def say(self, before: str, now: str) -> str:  # noqa: ARG002  # as all have it
        """A sentence on why it no longer holds, from the two digests."""
        other = now.removeprefix("absent, ").removesuffix(" is installed")
        return f"{self.place} -> {other}" if now.startswith(ABSENT) else f"{self.place}: its installed files changed"


class Modules(Struct, frozen=True):
    """Where Python finds modules: names with a space between, and before them the folder of those that are `inside` one."""

    kind: Literal["import", "tools", "inside"]
    place: str

    @property
    def names(self) -> list[str]:
        """The modules, less the folder."""
        return self.place.rpartition(":")[2].split(" ")

    def digest(self, root: Path, file_digest: FileDigest) -> str:  # noqa: ARG002  # as all have it
        """Its digest today; it begins with "absent" where it is gone. `root` is the project's."""
        base = str(root)
        if self.kind == "inside":
            folder = os.path.join(base, self.place.rpartition(":")[0])  # noqa: PTH118  # hot path
            lines = modules.in_folder(folder, self.names, base)
        else:
            lines = modules.on_path(self.names, base, project=self.kind == "import")
        return "\n".join(lines) or ABSENT

    def say(self, before: str, now: str) -> str:
        """A sentence on why it no longer holds, from the two digests."""
        return modules.say(before, now)


class Folder(Struct, frozen=True):
    """The names in a folder (`list`), whether there is one (`kind`), or where a symbolic link leads (`link`)."""

    kind: Literal["list", "kind", "link"]
    place: str

    def digest(self, root: Path, file_digest: FileDigest) -> str:  # noqa: ARG002  # as all have it
        """Its digest today; it begins with "absent" where it is gone. `root` is the project's."""
        path = places.where(self.place, root)
        try:
            if self.kind == "link":
                return _sha256(observed.readlink(path))  # as it is written
            if self.kind == "list":
                return _listed(path, self.place)
            return observed.kind(path) or ABSENT
        except OSError:
            return ABSENT

    def say(self, before: str, now: str) -> str:
        """A sentence on why it no longer holds, from the two digests."""
        if self.kind == "list":
            return f"the names in {self.place} changed"
        return f"{self.place} leads elsewhere" if self.kind == "link" else f"{self.place} is {now}; it was {before}"


class Asked(Struct, frozen=True):
    """What the code asked of its surroundings: a variable, finders, entry points, a version, a facet of the machine."""

    kind: Literal["env", "finders", "plugins", "version", "machine"]
    place: str

    def digest(self, root: Path, file_digest: FileDigest) -> str:  # noqa: ARG002  # as all have it
        """Its digest today; it begins with "absent" where it is gone. `root` is the project's."""
        match self.kind:
            case "env":
                value = observed.variable(self.place)
                return ABSENT if value is None else _sha256(value)
            case "finders":
                return plugins.finders(self.place.split(" "), file_digest)
            case "plugins":
                return plugins.entry_points(self.place)
            case "version":
                return plugins.version(self.place) if self.place else plugins.everything()
        return machine.facets([self.place])[self.place]

    def say(self, before: str, now: str) -> str:
        """A sentence on why it no longer holds, from the two digests."""
        match self.kind:
            case "env":
                return f"${self.place} changed"
            case "finders":
                return modules.say(before, now).replace("the module", "by a finder of an installation: the module", 1)
            case "plugins":
                return f"the installed entry points {self.place or 'of all groups'} changed"
            case "version" if not self.place:
                return "other distributions are installed"
        return f"{self.place}: {before} -> {now}"


Input = Content | Package | Modules | Folder | Asked
_TYPES: dict[str, type[Input]] = {
    **dict.fromkeys(("file", "path", "site"), Content),
    "dist": Package,
    **dict.fromkeys(("import", "tools", "inside"), Modules),
    **dict.fromkeys(("list", "kind", "link"), Folder),
    **dict.fromkeys(("env", "finders", "plugins", "version", "machine"), Asked),
}


@functools.lru_cache(1 << 16)
def parse(name: str) -> Input:
    """What a recorded name stands for. Raises KeyError for one of a later version."""
    kind, _, place = name.partition(":")
    return _TYPES[kind](kind, place)  # type: ignore[arg-type]  # the table's keys are its literals


def digest(name: str, root: Path, file_digest: FileDigest) -> str:
    """Today's digest of a recorded name; it begins with "absent" where that is gone or is another version."""
    try:
        return parse(name).digest(root, file_digest)
    except KeyError:  # of a later version, which this one can't vouch for
        return "unknown"


def is_passed_over(name: str) -> bool:
    """Whether a path below the root leads through a folder that is never an input, or to a report or metadata of ours."""
    parts = name.split("/")
    if parts[0] == _BUILD and len(parts) == 3 and (parts[2].startswith(".") or parts[2] in _REPORTS):
        return True
    if parts[0] == _BUILD and len(parts) == 2 and parts[1] in _OVER_ALL:
        return True
    return not PASSED_OVER.isdisjoint(parts) or any(part.endswith((".egg-info", ".dist-info")) for part in parts)


def is_published(folder: str, name: str) -> bool:
    """Whether a folder, by its path and its name below the root, is one that a recipe publishes into."""
    return name.count("/") == 1 and name.startswith(f"{_BUILD}/") and observed.kind(Path(folder, _REPORTS[0])) == "file"


def file_of(name: str, root: Path) -> Path | None:
    """Where the file is that a recorded name stands for; None where it stands for something else."""
    one = parse(name)
    return one.path(root) if isinstance(one, Content) else None


def missing(names: Iterable[str], root: Path) -> list[str]:
    """The names of files, among recorded ones, that are not there, or can't be read."""
    return [name for name in names if (path := file_of(name, root)) is not None and not _can_be_read(path)]


def _can_be_read(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and os.access(path, os.R_OK))


def _listed(folder: Path, inner: str) -> str:
    names = sorted(observed.listdir(folder))
    kept = [os.fsencode(name) for name in names if name not in PASSED_OVER and not _is_ours(folder, inner, name)]
    return hashlib.sha256(b"\0".join(kept)).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _is_ours(folder: Path, inner: str, name: str) -> bool:
    """Whether a build made this entry, which then says nothing of what the model's code found."""
    if inner == ".":
        return name == _BUILD
    return inner == _BUILD and (name in _OVER_ALL or is_published(str(folder / name), f"{_BUILD}/{name}"))
