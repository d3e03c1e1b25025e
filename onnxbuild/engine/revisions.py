"""Builds a recipe as it is at a revision of git: the revision's files in a folder of their own, and the same store.

So what both revisions have in common is built once, and nothing in the work tree is touched.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from onnxbuild import recipe as recipes
from onnxbuild.engine.session import Session, Settings
from onnxbuild.errors import StageError, UserError
from onnxbuild.queries.workspace import Places
from onnxbuild.recipe import bases, documents
from onnxbuild.report.types import Report
from onnxbuild.review import revisions, sides

if TYPE_CHECKING:
    from onnxbuild.report.progress import Progress


class Builds:
    """Builds of revisions in a temporary folder, which is removed at the end but for what a failed one left."""

    def __init__(self, recipe: Path, settings: Settings, progress: Progress) -> None:
        self._recipe, self._settings, self._progress = recipe.absolute(), settings, progress
        self.taken: list[str] = []  # files that the revision built last does not hold, and the work tree does
        self.said = ""  # what the recipe built last says
        self._folder = Path(tempfile.mkdtemp(prefix="onnxbuild-diff-"))
        self._kept: Path | None = None  # what a failed build left, since what is told of it names files there

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for path in self._folder.iterdir():
            if path != self._kept:
                shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):  # something is kept in it
            self._folder.rmdir()

    def build(self, revision: str) -> Path | None:
        """Build the recipe at a revision, "" for the work tree; gives the folder that it was published in, and None where
        the revision has no such recipe. Raises UserError where it has problems, and StageError where it fails.
        """
        self.taken.clear()
        if not revision:
            return self._built(self._recipe, "worktree", "the work tree")
        root = revisions.top(self._recipe.parent)
        tree = self._folder / f"tree-{revision.replace('/', '-')}"
        tree.mkdir()
        revisions.checkout(revision, root, tree)
        (tree / ".git").mkdir(exist_ok=True)  # the mark of a project, which is no file of it
        recipe = tree / self._recipe.resolve().relative_to(root.resolve())
        if not recipe.is_file():
            return None
        for name in _bases(recipe, tree):
            self._bring(root, tree, name)
        for name in _named(recipe, tree):
            self._bring(root, tree, name)
        with _placed(tree, revision):
            return self._built(recipe, tree.name, revision)

    def _bring(self, root: Path, tree: Path, name: str) -> None:
        """A file that the recipe names and git doesn't hold (weights, say), from the work tree."""
        source, target = root / name, tree / name
        if source.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            self.taken.append(name)

    def _built(self, recipe: Path, name: str, said: str) -> Path:
        root = recipes.project_root(self._recipe)
        cache = self._settings.cache or root / ".onnxbuild"
        with _store(root, self._settings, self._progress):
            settings = msgspec.structs.replace(
                self._settings, cache=cache, out=self._folder / f"out-{name}", trusted=True
            )
        with Session(settings, self._progress) as session:
            (loaded,) = session.load([recipe])
            report: Report = session.build(loaded)
            session.end()
            dest = session.places.dest(loaded)
            self.said = sides.said(recipe)
        if report.status != "done":
            self._kept = dest.parent
            fact = report.failures[0].fact.partition("\n")[0] if report.failures else report.status
            hint = f"what came of it is kept in {dest}; without --build, locks are compared"
            raise StageError(f"{self._recipe.name} can't be built at {said}: {fact}", hint)
        return dest


@contextmanager
def _placed(tree: Path, revision: str) -> Iterator[None]:
    """Have what is wrong name the places as git does, "HEAD:recipes/a.yaml", for the folder is gone when it is read."""

    def said(text: str) -> str:
        return text.replace(f"{tree}/", f"{revision}:").replace(str(tree), revision)

    try:
        yield
    except UserError as error:
        problems = (
            msgspec.structs.replace(one, path=said(one.path), fact=said(one.fact), hint=said(one.hint))
            for one in error.problems
        )
        raise UserError(*problems) from None
    except StageError as error:
        raise StageError(said(error.fact), said(error.hint)) from None


@contextmanager
def _store(root: Path, settings: Settings, progress: Progress) -> Iterator[None]:
    """Open the project's own store for a look: whose it is decides whether the builds may use it. Raises UserError."""
    places = Places(progress.warn, cache=settings.cache, look=True, trusted=settings.trusted)
    try:
        places.store(root)
        yield
    finally:
        places.close()


def _named(recipe: Path, tree: Path) -> list[str]:
    """The paths below the tree that a recipe's texts may name: from the project's root, or from the recipe's folder."""
    document = bases.resolved(recipe).document  # what is wrong with it is told when it is read to be built
    folders = (recipes.project_root(recipe), recipe.parent)
    found = [_below(tree, folder, text) for text in _texts(document.data if document else None) for folder in folders]
    return list(dict.fromkeys(filter(None, found)))


def _bases(recipe: Path, tree: Path) -> Iterator[str]:
    """The paths below the tree of a recipe's bases and theirs; each is read once the next one is asked for."""
    waiting, seen = [recipe], set[Path]()
    while waiting:
        path = waiting.pop()
        try:
            document, _ = documents.document_of(path, documents.text_of(path))
        except UserError:
            continue
        names = bases.named(document) if document is not None and path not in seen else []
        seen.add(path)
        for name in names:
            if inside := _below(tree, path.parent, name):
                yield inside
                waiting.append(bases.place_of(name, path))


def _below(tree: Path, folder: Path, text: str) -> str:
    """A path that a text names as seen from a folder, from the top of the tree; "" where it is none of the tree's."""
    if not text or len(text) >= 300 or "\0" in text:
        return ""
    path, top = (folder / text).resolve(), tree.resolve()
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else ""


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    for inner in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from _texts(inner)
