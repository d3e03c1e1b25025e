"""Holds builds against their lock files, before anything is published, and writes those files when it is asked to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from onnxbuild import recipe as recipes
from onnxbuild.engine import assembly
from onnxbuild.engine.recipe_run import RecipeRun
from onnxbuild.errors import Problem, UserError
from onnxbuild.recipe import documents
from onnxbuild.report.types import Failure, Report
from onnxbuild.review import drift, facts, lockfile
from onnxbuild.review.lockfile import Lock
from onnxbuild.text.wording import ended, some

STAGE = "lock"  # what a failure is of that no stage is to blame for


class Locks:
    """The lock files of one command's recipes."""

    def __init__(self) -> None:
        self._locks: dict[Path, Lock] = {}

    def read(self, loaded: Iterable[recipes.Loaded]) -> list[Problem]:
        """Read every recipe's lock file; what is wrong with them."""
        problems: list[Problem] = []
        for one in loaded:
            try:
                self._locks[one.path] = lockfile.read(lockfile.path_of(one.path), one.path)
            except UserError as error:
                problems += error.problems
        return problems

    def has(self, loaded: recipes.Loaded) -> bool:
        """Whether a recipe's lock file was read, and had no problems."""
        return loaded.path in self._locks

    def refusal(self, run: RecipeRun) -> tuple[str, str] | None:
        """The fact and the remedy where what a recipe is about to publish is not what its lock expects; None elsewhere."""
        report = assembly.report(run, assembly.facts(run))
        drifts = self._compared(run.loaded, report, published=False).drifts
        return self._told(run.loaded, report, drifts, "so it is not published") if drifts else None

    def judged(self, loaded: recipes.Loaded, report: Report) -> Report:
        """A report that is done, as a failure where its files are not what the lock expects; with what was not compared."""
        if report.status != "done" or loaded.path not in self._locks:
            return report
        drifts, uncompared = self._compared(loaded, report, published=True)
        if drifts:
            failure = Failure(STAGE, *self._told(loaded, report, drifts, "and it is published"))
            return msgspec.structs.replace(report, status="failed", failures=[*report.failures, failure])
        if uncompared:
            told = f"{uncompared}; `onnxbuild lock {loaded.path}` on this machine adds them"
            return msgspec.structs.replace(report, cautions=[*report.cautions, told])
        return report

    def _compared(self, loaded: recipes.Loaded, report: Report, *, published: bool) -> drift.Comparison:
        lock = self._locks.get(loaded.path)
        made = facts.of(report)
        if lock is None or made is None:
            return drift.Comparison([], "")
        return drift.compare(lock, made, published=published)

    def _told(self, loaded: recipes.Loaded, report: Report, drifts: list[str], what: str) -> tuple[str, str]:
        place = lockfile.path_of(loaded.path)
        head = f"this build is not what {place} expects, {what}:"
        hint = f"if that is what is wanted, commit the lock with the change: onnxbuild lock {loaded.path}"
        lacking = _lacking(self._locks[loaded.path].platforms.get(report.run.machine), report)
        return "\n".join([head, *(f"    {one}" for one in drifts)]), "\n".join([*lacking, hint])


def _lacking(expected: lockfile.Platform | None, report: Report) -> Iterator[str]:
    """The optional targets that a lock expects and that could not be built here, each with what is missing."""
    named = {path.partition("/")[0] for path in expected.files} | set(expected.parity) if expected else set()
    for one in report.targets:
        if one.level == "skipped" and one.name in named:
            yield f"the target '{one.name}' can't be built here: {one.why}"


def uncompared(names: Sequence[str]) -> str:
    """Whose locks have nothing of this platform, in a sentence after a run of several recipes."""
    whose = "its lock has" if len(names) == 1 else "their locks have"
    return (
        f"{some(names)}: {whose} nothing of this platform, and tools, weights, files and errors were not held against "
        f"{'it' if len(names) == 1 else 'them'}; `onnxbuild lock` on this machine adds them"
    )


def update(loaded: recipes.Loaded, report: Report) -> list[str]:
    """Write a recipe's lock file from a build that is done, unless it says all that already; what came of it, in lines.

    Raises OSError where it can't be written, and UserError where it could not be read again.
    """
    path = lockfile.path_of(loaded.path)
    made = facts.of(report) if report.status == "done" else None
    if made is None:
        return [f"{path}: left as it is, since the build {ended(report.status)}"]
    try:
        old: Lock | None = lockfile.read(path, loaded.path)
        text = documents.text_of(path)
    except UserError as error:
        old, text = None, ""
        lines = [f"{path}: written", *([] if not path.exists() else [f"    it was not readable: {error}"])]
    new = lockfile.of(made, old)
    if text.replace("\r\n", "\n") == lockfile.to_yaml(new):  # as git may check it out
        return [f"{path}: up to date"]
    lockfile.write(path, new)
    if old is not None:
        lines = [f"{path}: written", *(f"    {one}" for one in changes(old, new, made))]
    return lines


def changes(old: Lock, new: Lock, made: facts.Facts) -> list[str]:
    """What a new lock says other than an old one did."""
    lines = drift.compare(old, made).drifts
    added = sorted(set(new.platforms) - set(old.platforms))
    gone = sorted(set(old.platforms) - set(new.platforms))
    lines += [f"platform {name}: new" for name in added]
    lines += [
        f"platform {name}: dropped, since it is of another build; lock it again on such a machine" for name in gone
    ]
    return [*lines, *_figures(old, new, made.platform, lines)] or ["the same facts, written another way"]


def _figures(old: Lock, new: Lock, platform: str, told: Sequence[str]) -> Iterator[str]:
    """What is no drift and stands in the lock all the same: metrics, and errors by their last digits."""
    before, now = (lock.platforms.get(platform) for lock in (old, new))
    if before is None or now is None:
        return
    for what, value in now.metric.items():
        was = before.metric.get(what)
        if was not in (None, value) and not any(line.startswith(f"metric {what}: ") for line in told):
            yield f"metric {what}: {was:.4g} -> {value:.4g}"
    if before.parity != now.parity and not any(line.startswith("parity ") for line in told):
        yield "errors: other digits"
