"""One command's builds, from loaded recipes to reports on disk; `Session.build_all` is the run on one page.

Opens the stores, shares the child processes among the recipes, writes each report as its recipe ends. Prints nothing:
`progress` is told.
"""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec
from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild import report as reports
from onnxbuild.contracts import Trait
from onnxbuild.engine import assembly, leftovers, locking, memory, origins, reporting
from onnxbuild.engine.locking import Locks
from onnxbuild.engine.recipe_run import RecipeRun
from onnxbuild.engine.scheduler import Limits, Scheduler, default_jobs
from onnxbuild.errors import Problem, UserError
from onnxbuild.plan import planner
from onnxbuild.plan.dag import Plan, Stage
from onnxbuild.queries.remembered import Idle
from onnxbuild.queries.workspace import Places
from onnxbuild.report import figures
from onnxbuild.report.progress import Progress
from onnxbuild.report.types import Failure, Report, Revision, RunReport
from onnxbuild.stages import package
from onnxbuild.store import layout
from onnxbuild.store.interface import Store
from onnxbuild.system import interrupts, observed, oserrors, revision
from onnxbuild.system.files import write_atomic

if TYPE_CHECKING:
    from onnxbuild.executors.interface import Executor
    from onnxbuild.queries.remembered import Question


class Settings(Struct, frozen=True):
    """What the command line decides; none of it enters a key."""

    out: Path | None = None  # instead of build/ at the project root
    cache: Path | None = None  # instead of .onnxbuild/ at the project root
    jobs: int = 0  # stages at a time; 0: one per core
    paranoid: bool = False  # hash every file anew
    memory: int = 0  # bytes that the stages may use together; 0: most of what is available
    keep_going: bool = False  # build the other recipes after a failure
    trusted: bool = False  # take a store that came with the project on trust
    locked: bool = False  # a build that is not what its lock file expects fails, and is not published
    trial: bool = False  # nothing is timed, and it is not the last build, by which later changes are explained and told


class Session:
    """What the recipes of one command share: one store per folder, and the child processes."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress
        self.places = Places(
            self._warn,
            out=settings.out,
            cache=settings.cache,
            paranoid=settings.paranoid,
            trusted=settings.trusted,
            workers=self.workers,
        )
        self._seen: dict[Path, dict[str, str]] = {}  # by project: digests of what its stages were found to use
        self._workers: dict[Path, Executor] = {}
        self._runs: list[RecipeRun] = []
        self._problems: list[Problem] = []  # of recipes that were left out
        self._locks = Locks()
        self._several, self._uncompared = False, list[str]()  # recipes of which a lock lacks this platform
        self._asked: Question | None = None
        self._record = observed.Record()
        self._made: set[Path] = set()  # folders of results that were not there before this command
        self._written: set[Path] = set()  # folders in which a recipe's report is new
        self._revisions: dict[Path, Revision | None] = {}  # by project
        self._idle: dict[Path, Idle] = {}  # by the recipe's path: where nothing was done and nothing written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        main = threading.current_thread() is threading.main_thread()
        # ending the children takes no time, and is done whole
        with interrupts.ignored() if kind is not None and main else contextlib.nullcontext():
            self.progress.close()
            for workers in self._workers.values():
                workers.close()
            for run in self._runs:
                with contextlib.suppress(
                    Exception
                ):  # what was finished is kept, but not at the cost of why it all ended
                    run.close()
                run.release()
            self.places.close()
        observed.end(self._record)

    def load(self, paths: Sequence[Path], asked: Question | None = None) -> list[recipes.Loaded]:
        """Read the recipes to build. Raises UserError with all problems of all.

        A session that keeps going leaves out those that have problems, and raises when there are no others; see `end`.
        `asked` is whether there is anything to do with them: if there is not, the answer is remembered.
        """
        self._asked, self._idle = asked, {}
        self._seen.clear()
        observed.end(self._record)
        observed.forget()
        if asked is not None:
            self._record = observed.begin()
        if self.settings.keep_going:
            valid, self._problems = self.places.load_valid(paths)
            return self._with_locks(valid)
        loaded = self.places.load(paths)
        for one in loaded:
            self.places.require_folder(one)
        return self._with_locks(loaded)

    def _with_locks(self, loaded: list[recipes.Loaded]) -> list[recipes.Loaded]:
        """Read the lock files, where builds are held against them. Raises UserError as `load`."""
        if self.settings.locked:
            self._problems += self._locks.read(loaded)
            loaded = [one for one in loaded if self._locks.has(one)]
        if self._problems and not (loaded and self.settings.keep_going):
            raise UserError(*self._problems)
        return loaded

    def end(self) -> None:
        """All recipes came to their ends. Raises UserError with the problems of those that were left out."""
        self.progress.end()
        if self._uncompared and self._several:
            self.progress.warn(locking.uncompared(self._uncompared))
        if self._problems:
            raise UserError(*self._problems, others_went_on=True)

    def workers(self, store: Store) -> Executor:
        """What runs the stages whose results go to this store, started on first use."""
        from onnxbuild.executors.local import Workers  # not before there is anything to run

        self._asked = None  # something is run, so there is no answer to remember
        observed.end(self._record)
        if store.folder not in self._workers:
            self._workers[store.folder] = Workers(store.workplace().scratch)
        return self._workers[store.folder]

    def build(self, loaded: recipes.Loaded) -> Report:
        """Build one recipe and write its report."""
        return next(self.build_all([loaded]))

    def build_all(self, loaded: Sequence[recipes.Loaded]) -> Iterator[Report]:
        """Build recipes side by side; gives the report of each as it ends."""
        self._several, self._uncompared = len(loaded) > 1, []
        runs = self._runs = [self._opened(one) for one in loaded]  # each with its DAG, its store and its output folder
        for run in self._to_their_ends(runs):
            run.close()
            report = self._reported(run)
            self.progress.summary(report, run.dest)
            yield report
        self._tell_of_all(loaded)
        if self._asked is not None and not (self._several and self._uncompared):
            self._asked.keep([self._idle[one.path] for one in loaded if one.path in self._idle], self._record)

    def ask(self, loaded: Sequence[recipes.Loaded]) -> Iterator[tuple[recipes.Loaded, list[Failure]]]:
        """Run the source models at every case and nothing more; gives each recipe with what is wrong, as it ends.

        What they compute is kept for the next build, and no report is written.
        """
        runs = [self._opened(one) for one in loaded]
        for run in runs:
            run.plan.stages[:] = [stage for stage in run.plan.stages if stage.is_a(Trait.REFERENCE)]
        for run in self._to_their_ends(runs):
            run.release()
            yield run.loaded, [one.report.failure for one in run.done.values() if one.report.failure is not None]

    def try_out(
        self, variants: Sequence[recipes.Loaded], more: Callable[[Plan], list[Stage]] = lambda _: []
    ) -> Iterator[RecipeRun]:
        """Build and prove the graphs of recipes and nothing more, looking into no failure; gives each run as it ends.

        `more` gives stages besides that are to be run.
        What is built is kept for others. Nothing is published, no report is written, and no run is noted as the last one.
        """
        runs = [self._opened(one) for one in variants]
        for run in runs:
            run.looks = False
            run.plan.stages[:] = _proving(run.plan.stages)
            run.plan.stages.extend(more(run.plan))
        for run in self._to_their_ends(runs):
            run.release()
            yield run

    def _to_their_ends(self, runs: list[RecipeRun]) -> Iterator[RecipeRun]:
        """Bring recipes to their ends side by side; gives each as it ends, and takes it from the list."""
        self.progress.begin({run.name: len(run.plan.stages) for run in runs})
        limits = Limits(
            self.settings.jobs or default_jobs(), self.settings.memory or memory.budget(), self.settings.keep_going
        )
        with Scheduler(limits, self.workers, self.progress) as scheduler:
            while runs:
                scheduler.start(runs)  # looked up first: what the store answers ends here, what it doesn't gets a child
                ended = [run for run in runs if run.ended]
                for run in ended:
                    runs.remove(run)
                    yield run
                if runs:
                    scheduler.wait(runs, patient=not ended)  # a child that ended: its trace is kept, its outcome judged

    def _tell_of_all(self, loaded: Sequence[recipes.Loaded]) -> None:
        """Bring the page over all recipes up to date in each folder where a report was written, or that page is missing."""
        for folder, names in Counter(self.places.dest(one).parent for one in loaded).items():
            is_there = observed.kind(folder / reports.INDEX) == "file"
            if folder in self._written or (names > 1 and not is_there):
                try:
                    if reports.write_fleet(folder, wanted=names > 1):
                        self.progress.page(folder / reports.INDEX)
                except OSError as error:
                    self._warn(f"{folder / reports.INDEX} can't be written: {error.strerror}")
                except Exception as error:  # noqa: BLE001  # what was built is not at fault, and has its reports
                    fact = f"{type(error).__name__}: {error}"
                    self._warn(f"{folder / reports.INDEX} can't be made: {fact}; a bug in onnxbuild: please report it")

    def _warn(self, text: str) -> None:
        observed.doubt(text)
        self.progress.warn(text)

    def _opened(self, loaded: recipes.Loaded) -> RecipeRun:
        store, digests = self.places.store(loaded.root)
        seen = self._seen.setdefault(loaded.root, {})
        plan, dest = planner.plan(loaded.recipe, loaded.root), self.places.dest(loaded)
        if self.settings.trial:
            plan = plan.without(Trait.TIMES)
        if self.settings.out is None and not os.path.lexists(dest.parent):
            self._made.add(dest.parent)
        refusal = self._locks.refusal if self.settings.locked else None
        run = RecipeRun(loaded, plan, dest, store, digests, seen, refusal)
        run.noted = not self.settings.trial
        return run

    def _reported(self, run: RecipeRun) -> Report:
        """Write the report of a recipe that ended; where none can be made of it, that recipe alone fails."""
        facts = assembly.facts(run, self._revision(run))
        try:
            return self._report(run, facts)
        except OSError as error:
            failure = Failure("report", *oserrors.explain(error, run.dest))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one recipe, the others have their reports
            fact = f"no report can be made of this recipe: {type(error).__name__}: {error}"
            failure = Failure("report", fact, "a bug in onnxbuild: please report it", traceback.format_exc())
        with contextlib.suppress(OSError):
            reports.withdraw(run.dest)
        stages = [run.done[stage.name].report for stage in run.plan.stages]
        return reporting.unmade(run.loaded.recipe, origins.recipe(run.loaded), stages, facts, failure)

    def _revision(self, run: RecipeRun) -> Revision | None:
        """The commit that a recipe was built from; None where nothing was built."""
        root = run.loaded.root
        if not any(done.report.status == "built" for done in run.done.values()):
            return None
        if root not in self._revisions:
            found = revision.of(root, [run.dest.parent, run.store.folder])
            self._revisions[root] = Revision(*found) if found else None
        return self._revisions[root]

    def _report(self, run: RecipeRun, facts: RunReport) -> Report:
        stages = [run.done[stage.name].report for stage in run.plan.stages]
        leftovers.clear_failures(run.dest, stages)
        left = leftovers.published(run.dest, run.started) if stages[-1].status == "failed" else []
        beside = reporting.Beside(left, (run.dest / package.MODEL).is_file() and not left)
        made = assembly.report(run, facts, beside)
        report = self._locks.judged(run.loaded, made)
        if len(report.cautions) > len(made.cautions):
            self._uncompared.append(run.name)
        report = reports.after_the_last(report, run.dest)
        unchanged = figures.up_to_date(report) and reports.pages_tell(report, run.dest)
        try:
            if reports.write(report, run.dest, html=not unchanged):
                self._written.add(run.dest.parent)
                self._ignore(run.dest.parent)
            else:
                skipped = sum(stage.status == "skipped" for stage in stages)
                self._idle[run.loaded.path] = Idle(run.name, len(stages), skipped, report.cautions)
        except OSError as error:
            if unchanged and reports.is_there(run.dest):  # it can't be written: only this run's times are missing
                return report
            failure = Failure("report", *oserrors.explain(error, run.dest))
            report = msgspec.structs.replace(report, status="failed", failures=[*report.failures, failure])
        return report

    def _ignore(self, folder: Path) -> None:
        """Keep what was built out of git where the folder is of our making. Raises OSError."""
        if folder in self._made:
            write_atomic(
                folder / layout.IGNORE, [b"# What onnxbuild builds is no part of a checkout: see README.md\n*\n"]
            )
            self._made.discard(folder)


def _proving(stages: Sequence[Stage]) -> list[Stage]:
    """The stages that make graphs and prove them, and no other."""
    kept: dict[str, Stage] = {}
    for stage in stages:
        others = stage.traits & {Trait.PUBLISHES, Trait.TARGETS, Trait.TIMES}
        if not others and all(name in kept for name in stage.upstream):
            kept[stage.name] = stage
    return list(kept.values())
