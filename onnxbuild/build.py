"""One command's builds: from loaded recipes to reports on disk, in five steps a recipe.

Opens the store, shares the child processes among the recipes, writes the reports. Prints nothing: `progress` is told.
"""

from __future__ import annotations

import datetime as dt
import platform
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from onnxbuild import plan as planning
from onnxbuild import recipe as recipes
from onnxbuild import report as reports
from onnxbuild import run as running
from onnxbuild import summary, toolchain, verdicts
from onnxbuild.digests import Digests
from onnxbuild.progress import Progress
from onnxbuild.report.types import RecipeReport, Report, RunReport
from onnxbuild.store import Store
from onnxbuild.workers import Workers


class Settings(Struct, frozen=True):
    """What the command line decides; none of it enters a key."""

    out: Path | None = None  # instead of build/ at the project root
    cache: Path | None = None  # instead of .onnxbuild/ at the project root
    jobs: int = 0  # stages at a time; 0: one per core
    paranoid: bool = False  # hash every file anew


class Session:
    """What the recipes of one command share: one store per folder, and the child processes."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress
        self._stores: dict[Path, tuple[Store, Digests]] = {}
        self._workers: dict[Path, Workers] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.close()
        for workers in self._workers.values():
            workers.close()

    def store(self, root: Path) -> tuple[Store, Digests]:
        """The store of recipes below this project root."""
        folder = self.settings.cache or root / ".onnxbuild"
        if folder not in self._stores:
            digests = Digests(folder / "digests.json", paranoid=self.settings.paranoid)
            self._stores[folder] = Store(folder, self.progress.warn), digests
        return self._stores[folder]

    def digest(self, path: Path) -> str:
        """The SHA-256 of a file that a recipe declares, from the memory of the store of the project that it is in."""
        return self.store(recipes.project_root(path))[1].of(path)

    def workers(self, store: Store) -> Callable[[], Workers]:
        """The child processes that write to this store, started on first use."""

        def start() -> Workers:
            if store.folder not in self._workers:
                self._workers[store.folder] = Workers(store.folder / "tmp")
            return self._workers[store.folder]

        return start

    def build(self, loaded: recipes.Loaded) -> Report:
        """Build one recipe and write its report."""
        begun, started = time.monotonic(), dt.datetime.now(dt.UTC)
        store, digests = self.store(loaded.root)
        plan = planning.plan(loaded.recipe)
        dest = (self.settings.out or loaded.root / "build") / loaded.recipe.name
        self.progress.begin(loaded.recipe.name, len(plan.stages))
        jobs = self.settings.jobs or running.default_jobs()
        means = running.Means(store, digests, self.workers(store), self.progress, jobs)
        build = running.Build(loaded, plan, dest, means)
        done = build.run()
        stages = [done[stage.name].report for stage in plan.stages]
        rows = verdicts.rows(loaded.recipe, stages)
        run = RunReport(
            started.isoformat(timespec="seconds"),
            round(time.monotonic() - begun, 3),
            platform.platform(),
            toolchain.cpu_name(),
            toolchain.cores(),
        )
        report = summary.report(loaded.recipe, plan, _recipe_report(loaded), stages, rows, run)
        reports.write(report, dest, html=not _unchanged(report, dest))
        self.progress.summary(report, dest)
        return report


def _recipe_report(loaded: recipes.Loaded) -> RecipeReport:
    path = loaded.path.absolute()
    inside = path.is_relative_to(loaded.root.absolute())
    return RecipeReport(str(path.relative_to(loaded.root.absolute()) if inside else path.name), loaded.sha256)


def _unchanged(report: Report, dest: Path) -> bool:
    """Whether nothing was done and the pages of the run that built it all are still there: they stay as they are."""
    idle = all(stage.status == "cached" for stage in report.stages)
    return idle and all((dest / name).exists() for name in ("report.html", "report.md"))
