"""What a work tree holds that a revision does not, as git tells it: paths, and how each changed. Writes nothing."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from onnxbuild.errors import usage
from onnxbuild.system import revision

# How a path changed, in words that follow it.
CHANGED, NEW, GONE, UNSEEN = "changed", "is new", "is gone", "is one that git was told not to look at"
_STAGED = re.compile(r"(\d{6}) [0-9a-f]+ \d\t")  # the mode of a file, and its object
_STATUS = {"A": NEW, "D": GONE}  # of `git diff --name-status`; all others: content, mode, kind, a submodule, unmerged


class Changes(NamedTuple):
    """The difference between a revision and a work tree; paths are relative to `top`, with slashes.

    `commit` is the revision's full name, `paths` what changed and how, `present` every file that git knows, or would take.
    A submodule that changed is one path, and so is a repository inside that git does not know; `present` has their files.
    """

    top: str
    commit: str
    paths: dict[str, str]
    present: list[str]

    def there_at_revision(self, paths: Iterable[str]) -> set[str]:
        """Those of these files and folders that the revision has."""
        asked = [
            path for path in paths if "\n" not in path
        ]  # it is asked line by line: such a name counts as not there
        lines = "".join(f"{self.commit}:{path}\n" for path in asked)
        told = _git(self.top, "cat-file", "--batch-check", given=lines.encode(errors="surrogateescape")).splitlines()
        return {path for path, line in zip(asked, told, strict=True) if not line.endswith(b" missing")}

    def before(self, path: str) -> bytes | None:
        """A file's content at the revision, None where it has none."""
        if not self.there_at_revision([path]):
            return None
        return _git(self.top, "cat-file", "blob", f"{self.commit}:{path}")

    def now(self, path: str) -> bytes | None:
        """A file's content in the work tree, None where it has none."""
        try:
            with open(f"{self.top}{os.sep}{path}", "rb") as file:
                return file.read()
        except OSError:
            return None


def since(given: str, folder: str) -> Changes:
    """What the work tree around a folder holds that a revision does not, untracked files too; what git ignores is not told.

    Raises UserError where there is no git, no work tree or no such revision.
    """
    top = _top(folder)
    try:
        commit = _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{given}^{{commit}}")
    except subprocess.CalledProcessError:
        raise usage(
            f"--since: '{given}' is no commit of the repository in {top}",
            "give a branch, a tag or a commit; a shallow clone has few of them: git fetch --unshallow, or fetch-depth: 0 "
            "of actions/checkout",
        ) from None
    named = commit.decode().strip()
    plain = ("--no-renames", "--no-ext-diff", "--no-relative", "--ignore-submodules=none")  # whatever the configuration
    fields = os.fsdecode(_git(top, "diff", "--name-status", "-z", *plain, named, "--")).split("\0")[:-1]
    paths = {path: _STATUS.get(status, CHANGED) for status, path in zip(fields[::2], fields[1::2], strict=True)}
    present = []
    for tag, path, inside in _listed(top):
        present += [path, *inside]
        if tag == "?":
            paths.setdefault(path.rstrip("/"), NEW)
        elif (tag.islower() or tag == "S") and os.path.lexists(f"{top}{os.sep}{path}"):
            paths.setdefault(path, UNSEEN)
    return Changes(top, named, paths, list(dict.fromkeys(present)))


def present(folder: str) -> tuple[str, list[str]]:
    """The top of the work tree around a folder, and every file from there that git knows, or would take, also in submodules.

    Raises UserError where there is no git or no work tree.
    """
    top = _top(folder)
    return top, list(dict.fromkeys(one for _, path, inside in _listed(top) for one in (path, *inside)))


def _listed(top: str) -> Iterator[tuple[str, str, list[str]]]:
    """Paths with the letter that git has for each, "?" being an untracked one, and what lies in one that is a repository."""
    listed = os.fsdecode(_git(top, "ls-files", "-v", "-s", "-z", "--cached", "--others", "--exclude-standard"))
    for entry in listed.split("\0")[:-1]:
        tag, path = entry[0], entry[2:]
        staged = None if tag == "?" else _STAGED.match(path)
        path = path[staged.end() :] if staged else path
        is_repository = path.endswith("/") if staged is None else staged[1] == "160000"
        yield tag, path, list(_inside(top, path.rstrip("/"))) if is_repository else []


def _inside(top: str, path: str) -> Iterator[str]:
    """The files of a repository within a work tree, none where it isn't there."""
    inner = f"{top}{os.sep}{path}"
    if os.path.lexists(f"{inner}{os.sep}.git"):
        for _, one, below in _listed(_top(inner)):
            yield from (f"{path}/{each}" for each in (one, *below))


def _top(folder: str) -> str:
    """The folder of the work tree that a folder is in, without links on its way."""
    try:
        found = _git(folder, "rev-parse", "--show-toplevel")
    except FileNotFoundError:
        raise usage("git is not installed, and tells which files there are, and what changed", "install git") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or [f"status {error.returncode}"]
        if "not a git repository" in said[0]:
            raise usage(f"{folder} is in no git repository", "run it in a clone of the project, or git init") from None
        fact = f"git can't tell of {folder}: {said[0].removeprefix('fatal: ')}"
        raise usage(fact, "run git status there, and do as it says") from None
    return os.path.realpath(os.fsdecode(found.removesuffix(b"\n")))


def _git(folder: str, *arguments: str, given: bytes = b"") -> bytes:
    """What a git command prints. Raises CalledProcessError."""
    # the index is not refreshed on the disk
    calm = {**revision.surroundings(), "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ["git", *revision.CALM, "-C", folder, *arguments]
    done = subprocess.run(command, input=given, env=calm, capture_output=True, check=True)
    return done.stdout
