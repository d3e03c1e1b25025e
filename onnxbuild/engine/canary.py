"""Recipes in two environments: built in both, compared, timed by turns where their latencies can differ."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from onnxbuild.engine import apart, turns
from onnxbuild.engine.apart import Answer, Order, Published
from onnxbuild.errors import Problem, StageError, UserError
from onnxbuild.recipe import documents
from onnxbuild.report.canary import Canary, Environment, Latency, Tried
from onnxbuild.report.changes import Fact
from onnxbuild.report.types import Artifact, Report
from onnxbuild.review import canary, sides
from onnxbuild.review.sides import Read
from onnxbuild.system import distributions
from onnxbuild.system.interpreters import Interpreter

UNTIMED = "not measured"  # the recipe has no benchmark
SAME = "same"  # the same files, run by the same tools
Pair = tuple[Interpreter, Interpreter]


class Trial(Struct, frozen=True):
    """What the command line decides. `out` is where before/ and after/ go; `slower` is a share."""

    recipes: list[str]
    constraints: list[str]
    out: Path
    cache: Path | None
    trusted: bool
    quiet: bool
    strict: bool
    slower: float


def own() -> Interpreter:
    """The interpreter that runs this, with what is installed for it."""
    installed = {name: version for name, (version, _) in distributions.distributions().items()}
    return Interpreter(sys.executable, sys.version.split()[0], installed, {})


def run(trial: Trial, pair: Pair, tell: Callable[[str], None]) -> Canary:
    """Build with both, and compare recipe by recipe.

    Raises UserError where recipes have problems in the first environment, and StageError where one could not build at all.
    """
    answers: list[Answer] = []
    for interpreter, name in zip(pair, ("before", "after"), strict=True):
        tell(f"with {interpreter.path}:")
        answers.append(apart.build(interpreter, _order(trial, name, strict=not answers)))
        if answers[0].problems:
            raise UserError(*answers[0].problems)
    later = {one.path: one for one in answers[1].published}
    tried, used = [], set[str]()
    for one in answers[0].published:
        both = (one, later.get(one.path))
        tried.append(_tried(trial, both, pair, answers[1].problems, tell))
        used |= {name for side in both if side is not None for name in _read(side).tools}
    return Canary(
        version=1,
        before=Environment(_shown(pair[0].path), pair[0].version),
        after=Environment(pair[1].path, pair[1].version),
        constraints=trial.constraints,
        packages=_packages(pair, used),
        slower=trial.slower,
        strict=trial.strict,
        ok=all(one.ok for one in tried),
        recipes=tried,
    )


def _shown(path: str) -> str:
    """A path as short as it can be typed."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _order(trial: Trial, name: str, *, strict: bool) -> Order:
    cache = None if trial.cache is None else str(trial.cache)
    return Order(trial.recipes, str(trial.out / name), cache, trial.trusted, trial.quiet, strict)


def _tried(
    trial: Trial,
    both: tuple[Published, Published | None],
    pair: Pair,
    problems: Sequence[Problem],
    tell: Callable[[str], None],
) -> Tried:
    one, other = both
    reports = _read(one), None if other is None else _read(other)
    of_it = [one for one in problems if one.path == both[0].path] or problems
    if (failed := canary.failed(one.path, one.name, *reports, [_said(problem) for problem in of_it])) is not None:
        return failed
    assert other is not None  # else it failed
    text = documents.text_of(Path(one.path))
    read = sides.of_build(Path(one.folder), "before", text), sides.of_build(Path(other.folder), "after", text)
    latency, note = _timed(trial, (one, other), read, pair, tell)
    made = canary.compared(one.path, read, latency, note, strict=trial.strict)
    if note.startswith(_UNABLE):
        made = msgspec.structs.replace(made, latency_note="failed", why=[*made.why, note], ok=False)
    return made


_UNABLE = "can't be timed"


def _timed(
    trial: Trial,
    both: tuple[Published, Published],
    read: tuple[Read, Read],
    pair: Pair,
    tell: Callable[[str], None],
) -> tuple[Latency | None, str]:
    """The latencies of both builds, or why there are none."""
    options = [one.timed for one in both]
    if options[0] is None or options[1] is None:
        return None, UNTIMED
    models = [side.model for side in read]
    assert models[0] is not None and models[1] is not None  # noqa: PT018  # they were built a moment ago
    if turns.tools(pair[0]) == turns.tools(pair[1]) and _artifacts(read[0]) == _artifacts(read[1]):
        return None, SAME
    orders = [
        turns.Order(str(model), one.root, asked)
        for model, one, asked in zip(models, both, options, strict=True)
        if asked is not None
    ]
    tell(f"timing {both[0].name}, by turns")
    try:
        return turns.compare((pair[0], orders[0]), (pair[1], orders[1]), trial.slower), ""
    except StageError as error:
        return None, f"{_UNABLE}: {error.fact}"


def _artifacts(read: Read) -> list[Artifact]:
    """The files of the published model, as the report has them."""
    return [made for made in read.report.artifacts if "/" not in made.path] if read.report else []


def _read(published: Published) -> Report:
    report = sides.of_build(Path(published.folder), published.name, "").report
    assert report is not None  # of_build raises where there is none
    return report


def _said(problem: Problem) -> str:
    """A problem without its place in the recipe, which its row names."""
    return str(problem).removeprefix(f"{problem.path}: ")


def _packages(pair: Pair, used: set[str]) -> list[Fact]:
    """The packages that differ: the tools of recipes first, then others that both environments have."""
    one, other = (side.installed for side in pair)
    tools = sorted({distributions.normalise_name(name) for name in used} & {*one, *other})
    found = [Fact(name, one.get(name), other.get(name)) for name in tools]
    found += [Fact(name, one[name], other[name]) for name in sorted(one.keys() & other.keys()) if name not in tools]
    return [fact for fact in found if fact.before != fact.after]
