"""One command's builds, from loaded recipes to reports on disk; `Session.build_all` is the run on one page.

Opens the stores, shares the child processes among the recipes, writes each report as its recipe ends. Prints nothing:
`progress` is told.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec
from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild import report as reports
from onnxbuild.discovery import inputs as discovered
from onnxbuild.engine import leftovers, memory, reporting
from onnxbuild.engine.recipe_run import RecipeRun
from onnxbuild.engine.scheduler import Limits, Scheduler, default_jobs
from onnxbuild.errors import Problem, UserError
from onnxbuild.plan import planner
from onnxbuild.queries.remembered import Idle
from onnxbuild.queries.workspace import Places
from onnxbuild.report import figures
from onnxbuild.report.progress import Progress
from onnxbuild.report.types import Failure, RecipeReport, Report, Revision, RunReport, Source
from onnxbuild.stages import package
from onnxbuild.store.interface import Store
from onnxbuild.system import distributions, machine, observed, oserrors, revision

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
        self._asked: Question | None = None
        self._record = observed.Record()
        self._written: set[Path] = set()  # folders in which a recipe's report is new
        self._revisions: dict[Path, Revision | None] = {}  # by project
        self._idle: dict[Path, Idle] = {}  # by the recipe's path: where nothing was done and nothing written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with _uninterrupted() if kind is not None else contextlib.nullcontext():
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
            if not valid:
                raise UserError(*self._problems)
            return valid
        loaded = self.places.load(paths)
        for one in loaded:
            self.places.require_folder(one)
        return loaded

    def end(self) -> None:
        """All recipes came to their ends. Raises UserError with the problems of those that were left out."""
        self.progress.end()
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
        runs = self._runs = [self._opened(one) for one in loaded]  # each with its DAG, its store and its output folder
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
                    run.close()
                    report = self._reported(run)
                    self.progress.summary(report, run.dest)
                    yield report
                if runs:
                    scheduler.wait(runs, patient=not ended)  # a child that ended: its trace is kept, its outcome judged
        self._tell_of_all(loaded)
        if self._asked is not None:
            self._asked.keep([self._idle[one.path] for one in loaded if one.path in self._idle], self._record)

    def _tell_of_all(self, loaded: Sequence[recipes.Loaded]) -> None:
        """Bring the page over all recipes up to date in each folder where a report was written, or that page is missing."""
        for folder, names in Counter(self.places.dest(one).parent for one in loaded).items():
            is_there = observed.kind(folder / reports.INDEX) == "file"
            if folder in self._written or (names > 1 and not is_there):
                try:
                    reports.write_fleet(folder, wanted=names > 1)
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
        return RecipeRun(
            loaded, planner.plan(loaded.recipe, loaded.root), self.places.dest(loaded), store, digests, seen
        )

    def _reported(self, run: RecipeRun) -> Report:
        """Write the report of a recipe that ended; where none can be made of it, that recipe alone fails."""
        facts = RunReport(
            dt.datetime.fromtimestamp(run.started, dt.UTC).isoformat(timespec="seconds"),
            round(time.monotonic() - run.begun, 3),
            machine.system(),
            machine.cpu_name(),
            machine.cores(),
            self._revision(run),
        )
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
        return reporting.unmade(run.loaded.recipe, _recipe_report(run.loaded), stages, facts, failure)

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
        recipe = run.loaded.recipe
        stages = [run.done[stage.name].report for stage in run.plan.stages]
        leftovers.clear_failures(run.dest, stages)
        tools = distributions.versions(sorted({tool for stage in run.plan.stages for tool in stage.tools}))
        left = leftovers.published(run.dest, run.started) if stages[-1].status == "failed" else []
        beside = reporting.Beside(left, (run.dest / package.MODEL).is_file() and not left)
        sources = reporting.Sources(_recipe_report(run.loaded), _sources(run))
        report = reporting.report(recipe, run.plan, sources, stages, facts, tools, beside)
        report = reports.after_the_last(report, run.dest)
        unchanged = figures.up_to_date(report) and reports.pages_tell(report, run.dest)
        try:
            if reports.write(report, run.dest, html=not unchanged):
                self._written.add(run.dest.parent)
            else:
                skipped = sum(stage.status == "skipped" for stage in stages)
                self._idle[run.loaded.path] = Idle(recipe.name, len(stages), skipped, report.cautions)
        except OSError as error:
            if unchanged and reports.is_there(run.dest):  # it can't be written: only this run's times are missing
                return report
            failure = Failure("report", *oserrors.explain(error, run.dest))
            report = msgspec.structs.replace(report, status="failed", failures=[*report.failures, failure])
        return report


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let nobody interrupt for a while: ending the children takes no time, and is done whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _recipe_report(loaded: recipes.Loaded) -> RecipeReport:
    path = loaded.path.absolute()
    inside = path.is_relative_to(loaded.root.absolute())
    return RecipeReport(path.relative_to(loaded.root.absolute()).as_posix() if inside else path.name, loaded.sha256)


def _sources(run: RecipeRun) -> list[Source]:
    """The files that the export was made from, with the digests that are in its document and its trace."""
    stage = next(stage for stage in run.plan.stages if stage.name == run.plan.source)
    trace = run.done[stage.name].trace
    if trace is None:
        return []
    declared = {_installed(path): trace.document["inputs"][role] for role, path in stage.files.items()}
    found = {
        one.place: digest
        for name, digest in sorted(trace.discovered.items())
        if (one := discovered.parse(name)).kind == "file" and re.fullmatch("[0-9a-f]{64}", digest)
    }
    return [Source(path, digest) for path, digest in {**declared, **found}.items()]


def _installed(path: str) -> str:
    """A file of an installed package as the package's own name for it, the same on every machine; others as they are."""
    places = (folder for folder in distributions.search_path() if Path(path).is_relative_to(folder))
    return next((Path(path).relative_to(folder).as_posix() for folder in places), path)
