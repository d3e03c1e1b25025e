"""Where the recipes of one command have their stores, and where they publish.

One store and one memory of digests per folder, opened on first use. Knows nothing of stages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from onnxbuild import recipe as recipes
from onnxbuild.errors import usage
from onnxbuild.store.digests import Digests
from onnxbuild.store.store import Store


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
    ) -> None:
        self._warn, self._out, self._cache, self._paranoid, self._look = warn, out, cache, paranoid, look
        self._stores: dict[Path, tuple[Store, Digests]] = {}

    def load(self, paths: Sequence[Path]) -> list[recipes.Loaded]:
        """Read recipes. Raises UserError with all problems of all.

        What they declare is hashed with the memory of their own projects: that of the project in which a file happens to
        lie is somebody else's, and could make any file pass for the one that a recipe has pinned.
        """
        roots = [recipes.project_root(path) for path in paths]

        def digest(path: Path) -> str:
            root = next((root for root in roots if path.is_relative_to(root)), roots[0])
            return self.store(root)[1].of(path)

        return recipes.load_all(paths, digest)

    def store(self, root: Path) -> tuple[Store, Digests]:
        """The store of recipes below this project root."""
        folder = self._cache or root / ".onnxbuild"
        if folder not in self._stores:
            digests = Digests(folder / "digests.json", paranoid=self._paranoid, warn=self._warn)
            self._stores[folder] = Store(folder, self._warn, look=self._look), digests
        return self._stores[folder]

    def dest(self, loaded: recipes.Loaded) -> Path:
        """The folder that a recipe publishes in."""
        return (self._out or loaded.root / "build") / loaded.recipe.name

    def require_folder(self, loaded: recipes.Loaded) -> None:
        """Raises UserError where something else is in the place of the folder that a recipe publishes in."""
        dest = self.dest(loaded)
        there = next((path for path in (dest, *dest.parents) if os.path.lexists(path)), dest)
        if os.path.lexists(there) and not there.is_dir():
            what = "leads nowhere" if not there.exists() else "is not a folder"
            remedy = "give --out a folder" if self._out and there in (self._out, *self._out.parents) else "move it away"
            raise usage(f"{there} {what}, and the results of {loaded.recipe.name} go to {dest}", remedy)

    def close(self) -> None:
        """The command needs nothing more of its stores."""
        for store, _ in self._stores.values():
            store.close()
