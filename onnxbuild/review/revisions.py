"""Files as git has them at a revision, and which revisions a range means. Runs git; writes nothing into the repository."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from onnxbuild.errors import UserError, usage
from onnxbuild.system.revision import CALM, surroundings

_SUBMODULE = "160000"  # the mode of an entry that is a commit of another repository


class Range(NamedTuple):
    """Two revisions; `after` is "" for the work tree."""

    before: str
    after: str = ""


def parse(text: str, folder: Path) -> Range:
    """What git means by "A", "A..B" and "A...B" (from where the two parted), as revisions that it knows.

    "A" alone is compared with the work tree. Raises UserError where git doesn't know them, or isn't there.
    """
    before, dots, after = text.partition("..." if "..." in text else "..")
    sides = (before or "HEAD", (after or "HEAD") if dots else "")
    for one in filter(None, sides):
        if one.startswith("-") or _git(folder, "rev-parse", "--verify", "--quiet", f"{one}^{{commit}}") is None:
            fact = f"{text}: no such file, and no revision that git knows in {folder}"
            raise usage(fact, "give a build's folder, a lock file, an .onnx file, or a revision such as main..HEAD")
    if dots == "...":
        base = _git(folder, "merge-base", *sides)
        if base is None:
            raise usage(f"{text}: the two have no commit in common", "give them as A..B")
        return Range(base.decode().strip()[:12], sides[1])
    return Range(*sides)


def content(revision: str, path: Path) -> bytes | None:
    """A file at a revision, which may lie in a folder that is there no more; None where it isn't there."""
    folder = next((one for one in path.parents if one.is_dir()), path.parent)
    return _git(folder, "show", f"{revision}:./{path.relative_to(folder).as_posix()}")


def show(revision: str, path: Path) -> str | None:
    """A file's text at a revision; None where it isn't there. Raises UserError where it isn't UTF-8."""
    found = content(revision, path)
    try:
        return None if found is None else found.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise usage(f"{path} at {revision}: not UTF-8", "save the file as UTF-8") from None


def changed(found: Range, root: Path, files: Sequence[str]) -> list[str]:
    """Those of these files of a project that git has other content of at the two revisions."""
    inside = [name for name in files if not Path(name).is_absolute() and ".." not in Path(name).parts]
    if not inside:
        return []
    sides = [one for one in found if one]
    listed = _git(
        root, "--literal-pathspecs", "diff", "--name-only", "--relative", "--no-renames", "-z", *sides, "--", *inside
    )
    told = set(os.fsdecode(listed or b"").split("\0"))
    return [name for name in inside if Path(name).as_posix() in told]


def top(folder: Path) -> Path:
    """The folder of the work tree. Raises UserError where there is none."""
    found = _git(folder, "rev-parse", "--show-toplevel")
    if found is None:
        raise usage(f"{folder} is in no work tree of git", "give two builds, lock files or .onnx files")
    return Path(found.decode().strip())


def checkout(revision: str, root: Path, folder: Path) -> None:
    """Put all files of a revision into an empty folder, and those of its submodules as far as they are in the work tree's.

    Raises UserError where git can't. An archive would lack submodules, and what attributes keep out of archives.
    """
    index = folder.with_name(f"{folder.name}.index")
    listed = _checked_out(revision, root, folder, index)
    if listed is None:
        raise usage(f"git can't check out {revision}", "look at what `git read-tree` says of it")
    for entry in os.fsdecode(listed).split("\0")[:-1]:
        said, _, path = entry.partition("\t")
        mode, commit, _ = said.split()
        if mode == _SUBMODULE and (root / path / ".git").exists():
            (folder / path).mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(UserError):  # a commit that was not fetched: its files are told as not in git
                checkout(commit, root / path, folder / path)


def _checked_out(revision: str, root: Path, folder: Path, index: Path) -> bytes | None:
    """What git lists of a revision, once its files are in a folder; None where it fails."""
    try:
        if _git(root, "read-tree", revision, index=index) is None:
            return None
        if _git(root, f"--work-tree={folder}", "checkout-index", "--all", index=index) is None:
            return None
        return _git(root, "ls-files", "--stage", "-z", index=index)
    finally:
        index.unlink(missing_ok=True)


def _git(folder: Path, *arguments: str, index: Path | None = None) -> bytes | None:
    """What git prints, with an index of its own where one is given; None where it fails."""
    own = {} if index is None else {"GIT_INDEX_FILE": str(index.absolute())}
    try:
        done = subprocess.run(
            ["git", *CALM, *arguments],
            cwd=folder,
            env=surroundings() | own,
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        fact = "git is not installed" if folder.is_dir() else f"{folder}: no such folder"
        raise usage(fact, "give two builds, lock files or .onnx files") from None
    return done.stdout if done.returncode == 0 else None
