"""Where the recipes of one command have their stores, and where they publish.

One store and one memory of digests per folder, opened on first use. Knows nothing of stages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxbuild import recipe as recipes
from onnxbuild.errors import Problem, UserError, usage
from onnxbuild.queries.describing import Describing
from onnxbuild.store import store as stores
from onnxbuild.store.digests import Digests
from onnxbuild.store.interface import Store
from onnxbuild.system import observed

if TYPE_CHECKING:
    from onnxbuild.executors.interface import Executor


class Places:
    """The stores and output folders of one command; one that may only `look` writes nothing at all."""

    def __init__(
        self,
        warn: Callable[[str], None],
        *,
        out: Path | None = None,  # instead of build/ at the project root
        cache: Path | None = None,  # instead of .onnxbuild/ at the project root
        paranoid: bool = False,  # hash every file anew
        look: bool = False,
        trusted: bool = False,  # a store that came with the project, too
        workers: Callable[[Store], Executor] | None = None,  # what runs stages, where anything may be run and kept
    ) -> None:
        self._trusted = trusted
        self._warn, self._out, self._cache, self._paranoid, self._look = warn, out, cache, paranoid, look
        self._stores: dict[Path, tuple[Store, Digests]] = {}
        self._describe = Describing(self.store, workers)

    def load(self, paths: Sequence[Path]) -> list[recipes.Loaded]:
        """Read recipes. Raises UserError with all problems of all.

        What they declare is hashed with the memory of their own projects: that of the project in which a file happens to
        lie is somebody else's, and could make any file pass for the one that a recipe has pinned.
        """
        try:
            loaded = recipes.load_all(paths, self._digest(paths), self._describe)
        finally:
            self._describe.close()
        for one in loaded:
            self._require_store(one)
        return loaded

    def load_valid(self, paths: Sequence[Path]) -> tuple[list[recipes.Loaded], list[Problem]]:
        """As `load`, but the recipes without problems, whose folders can be written to, and the problems of the others."""
        try:
            loaded, problems = recipes.load_valid(paths, self._digest(paths), self._describe)
        finally:
            self._describe.close()
        valid = []
        for one in loaded:
            try:
                self._require_store(one)
                self.require_folder(one)
            except UserError as error:
                problems += [problem for problem in error.problems if problem not in problems]
            else:
                valid.append(one)
        return valid, problems

    def _digest(self, paths: Sequence[Path]) -> Callable[[Path], str]:
        roots = [recipes.project_root(path) for path in paths]

        def digest(path: Path) -> str:
            root = next((root for root in roots if path.is_relative_to(root)), roots[0])
            return self.store(root)[1].of(path)

        return digest

    def store(self, root: Path) -> tuple[Store, Digests]:
        """The store of recipes below this project root."""
        folder = self._folder(root)
        if folder not in self._stores:
            self._stores[folder] = stores.opened(
                folder, self._warn, look=self._look, project=root, trusted=self._trusted, paranoid=self._paranoid
            )
        return self._stores[folder]

    def dest(self, loaded: recipes.Loaded) -> Path:
        """The folder that a recipe publishes in."""
        return (self._out or loaded.root / "build") / loaded.recipe.name

    def _require_store(self, loaded: recipes.Loaded) -> None:
        """Raises UserError where the store is refused, results would go into it, or it lies where results go.

        Whoever empties one of the two would empty both. A store beside the folders of recipes is apart from them where all
        of the project is, as it is with `--out .`.
        """
        store = Path(observed.realpath(self._folder(loaded.root)))
        out, dest = (Path(observed.realpath(path)) for path in (self.dest(loaded).parent, self.dest(loaded)))
        around = not Path(observed.realpath(loaded.root)).is_relative_to(out)
        hint = "give --out or ONNXBUILD_CACHE a folder apart from the other"
        if dest.is_relative_to(store):
            raise usage(f"{dest}, where the results of {loaded.recipe.name} go, is in the store, {store}", hint)
        if store.is_relative_to(dest) or (around and store.is_relative_to(out)):
            raise usage(f"{store}, the store, is in {out}, where results go", hint)
        self.store(loaded.root)

    def _folder(self, root: Path) -> Path:
        return self._cache or root / ".onnxbuild"

    def require_folder(self, loaded: recipes.Loaded) -> None:
        """Raises UserError where something else is in the place of the folder that a recipe publishes in."""
        dest = self.dest(loaded)
        there = next((path for path in (dest, *dest.parents) if os.path.lexists(path)), dest)
        if os.path.lexists(there) and observed.kind(there) != "folder":
            what = "leads nowhere" if not there.exists() else "is not a folder"
            remedy = "give --out a folder" if self._out and there in (self._out, *self._out.parents) else "move it away"
            raise usage(f"{there} {what}, and the results of {loaded.recipe.name} go to {dest}", remedy)

    def close(self) -> None:
        """The command needs nothing more of its stores."""
        for store, _ in self._stores.values():
            store.close()
