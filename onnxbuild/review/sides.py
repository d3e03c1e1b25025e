"""The two sides of a diff: what a path or a revision stands for, and what is read of it.

Every side is brought into a lock file's form, since that is what builds, locks and revisions all have. Reads JSON and YAML
alone; graphs are compared elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from onnxbuild import recipe as recipes
from onnxbuild import report as reports
from onnxbuild.errors import Problem, UserError, usage
from onnxbuild.recipe import bases, documents, whole
from onnxbuild.report.changes import Side
from onnxbuild.report.types import Report
from onnxbuild.review import facts, lockfile, revisions
from onnxbuild.review.lockfile import Lock
from onnxbuild.system.files import sha256_file
from onnxbuild.text import wording

_LOCK_IT = "lock it there, or give --build to build both"
_HINT = "give a build's folder, a recipe, a lock file or an .onnx file"


class Read(NamedTuple):
    """One side: what it is, and what it holds. `lock` is None of a mere file; `missing` says why something isn't known."""

    side: Side
    lock: Lock | None = None
    report: Report | None = None
    model: Path | None = None
    recipe: str | None = None
    missing: tuple[str, ...] = ()


def is_recipe(path: Path) -> bool:
    """Whether a path is named like a recipe."""
    return path.suffix in (".yaml", ".yml") and not path.name.endswith(lockfile.ENDING)


def of_path(path: Path, out: Path | None = None) -> Read:
    """What a path stands for; `out` is where recipes publish. Raises UserError where it is nothing that can be compared."""
    if path.name.endswith(lockfile.ENDING):
        return _of_lock(path)
    if is_recipe(path):
        return _of_recipe(path, out)
    if path.is_dir():
        return of_build(path, str(path))
    if not path.exists():
        raise usage(f"{path}: no such file", _HINT)
    if path.suffix != ".onnx":
        raise usage(f"{path}: neither a build, a recipe, a lock file nor an .onnx file", _HINT)
    return Read(Side(str(path), "file"), model=path)


def of_build(folder: Path, name: str, recipe: str | None = None) -> Read:
    """A folder that a recipe was published in. `recipe` is the text of that, where it is known."""
    try:
        report = reports.read(folder / "report.json")
    except FileNotFoundError:
        raise usage(f"{folder}: no report.json, so no build of ours", _HINT) from None
    except (OSError, msgspec.DecodeError) as error:
        raise usage(f"{folder / 'report.json'} can't be read: {error}", "build it again: onnxbuild run") from None
    from onnxbuild.stages import package  # with the kinds of stage, which locks have no need of

    said = facts.of(report)
    model = folder / package.MODEL
    missing = [] if said else [f"{name} was built by an older onnxbuild: build it again to compare all of it"]
    if report.status != "done":
        missing.append(f"{name} is a build that {wording.ended(report.status)}")
    if not model.is_file():
        missing.append(f"{name} has no {package.MODEL}")
    if recipe is None:
        recipe = _recipe_of(report, folder)
        missing += [] if recipe is not None else [f"the recipe that {name} was built from is no longer there as it was"]
    lock = lockfile.of(said) if said else None
    return Read(Side(name, "build"), lock, report, model if model.is_file() else None, recipe, tuple(missing))


def of_range(found: revisions.Range, recipe: Path) -> tuple[Read, Read]:
    """The locks of a recipe at two revisions. Raises UserError where one isn't there, or is known to be outdated there."""
    before, after = of_revision(found.before, recipe), of_revision(found.after, recipe)
    if before.lock is not None and after.lock is not None:
        named = after.lock.sources.items()
        held = [name for name, file in before.lock.sources.items() if (name, file) in named and not name.endswith("/")]
        changed = revisions.changed(found, recipes.project_root(recipe), held)
        if changed:
            where = f"in {before.side.name} and in {after.side.name}"
            fact = f"has one digest of {changed[0]} {where}, though the file changed between them"
            raise UserError(Problem(str(lockfile.path_of(recipe)), 0, 0, "", fact, _LOCK_IT))
    return before, after


def of_revision(revision: str, recipe: Path) -> Read:
    """The lock of a recipe at a revision, "" for the work tree. Raises UserError where it isn't there."""
    path = lockfile.path_of(recipe)
    if not revision:
        if not recipe.exists():
            return Read(Side("the work tree", "nothing"), missing=(f"{recipe} isn't there in the work tree",))
        return _of_lock(path, "the work tree")
    text, own = revisions.show(revision, path), revisions.show(revision, recipe)
    if own is None:
        return Read(Side(revision, "nothing"), missing=(f"{recipe} isn't there at {revision}",))
    if text is None:
        fact = f"{path.name} isn't there at {revision}, though the recipe is"
        raise UserError(Problem(str(path), 0, 0, "", fact, _LOCK_IT))
    lock = lockfile.parse(path, text, recipe)
    found = bases.resolved(recipe, lambda one: _at(revision, one))
    if found.document is None:
        missing = f"what the recipe says at {revision}: {found.problems[0]}"
        return Read(Side(revision, "lock"), lock, missing=(missing,))
    _require_current(lock, documents.digest_of(found.document), path, recipe, f"at {revision}")
    return Read(Side(revision, "lock"), lock, recipe=_said(own, found))


def _require_current(lock: Lock, recipe_sha256: str, path: Path, recipe: Path, where: str) -> None:
    """Raise UserError where a lock is of something else than what the recipe beside it says: it tells of no model then."""
    if recipe_sha256 != lock.recipe_sha256:
        fact = f"outdated {where}, where {recipe.name} says something else than when it was locked"
        raise UserError(Problem(str(path), 0, 0, "", fact, _LOCK_IT))


def _at(revision: str, path: Path) -> bytes:
    """A file of ours at a revision. Raises UserError where it isn't there."""
    content = revisions.content(revision, path)
    if content is None:
        raise UserError(Problem(str(path), 0, 0, "", f"isn't there at {revision}"))
    return content


def said(recipe: Path) -> str:
    """What a recipe says: its text, and where it has bases the whole, since a change may be in any of them. Raises UserError
    where it can't be read.
    """
    return _said(documents.text_of(recipe), bases.resolved(recipe))


def _said(text: str, found: bases.Resolved) -> str:
    return whole.text(found.document) if found.bases and found.document is not None else text


def _of_lock(path: Path, name: str = "") -> Read:
    recipe = lockfile.recipe_of(path)
    lock = lockfile.read(path, recipe)
    side = Side(name or str(path), "lock")
    try:
        found = bases.resolved(recipe)
        now = documents.digest_of(found.document) if found.document is not None else ""
        if name and now:
            _require_current(lock, now, path, recipe, f"in {name}")
        if now == lock.recipe_sha256:
            return Read(side, lock, recipe=said(recipe))
    except UserError:
        if name:
            raise
    return Read(side, lock, missing=(f"the recipe that {path} is of is no longer there as it was",))


def _of_recipe(path: Path, out: Path | None) -> Read:
    """The published build of a recipe."""
    document, problems = documents.document_of(path, documents.text_of(path))
    if document is None or problems:
        raise UserError(*problems)
    name = document.data.get("name") if isinstance(document.data, dict) else None
    if not isinstance(name, str):
        raise UserError(Problem(str(path), 1, 1, "", "no recipe: it has no name", f"onnxbuild check {path}"))
    folder = (out or recipes.project_root(path) / "build") / name
    if not (folder / "report.json").is_file():
        raise usage(f"{path} has no build in {folder}", f"build it first: onnxbuild run {path}")
    read = of_build(folder, str(path))
    assert read.report is not None  # of a build
    other = recipes.project_root(path) / read.report.recipe.path
    if other.exists() and not other.samefile(path):
        fact = f"{path} has no build in {folder}: that is of {read.report.recipe.path}, of the same name"
        raise usage(fact, f"build it first: onnxbuild run {path}")
    return read


def _recipe_of(report: Report, folder: Path) -> str | None:
    """The text of the recipe that a build is of, where the file is still that one."""
    for above in folder.absolute().parents:
        path = above / report.recipe.path
        if path.is_file() and sha256_file(path) == report.recipe.sha256:
            same = [*bases.resolved(path).bases.values()] == [*report.recipe.bases.values()]
            return said(path) if same else None
    return None
