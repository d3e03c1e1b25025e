"""Finds the nodes that a lossy pass of a recipe has to leave as they are, each measurement a build up to that pass.

Nothing is published: what is measured is in the store's stages, so a search that was stopped goes on where it was. Which
lists are measured, `sensitivity` says. Prints nothing: `told` is called with each measurement.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Trait
from onnxbuild.engine.recipe_run import RecipeRun
from onnxbuild.engine.sensitivity import Answer, Cost, LimitError, Names, Search
from onnxbuild.engine.session import Session
from onnxbuild.errors import UserError
from onnxbuild.passes import EXCLUDING
from onnxbuild.plan import varied
from onnxbuild.plan.dag import Plan, Stage
from onnxbuild.queries import scores, verdicts
from onnxbuild.recipe.findings import Finding
from onnxbuild.recipe.types import chosen
from onnxbuild.report import figures
from onnxbuild.report.types import StageReport
from onnxbuild.text import units

MOST = 1e12  # times what is allowed: more is no more telling


class Measured(Struct, frozen=True):
    """One list, measured. `error` is the largest share of what is allowed, by parity and metric, None where no number tells.

    `bytes` are those of the graph and its tensors, None where there is none; `why` is why it does not pass.
    """

    passed: bool
    error: float | None
    bytes: int | None
    why: str = ""
    metric: float | None = None


class Node(Struct, frozen=True):
    """What one node of the list costs: the error where it alone is left as it is, and where all of the list but it are;
    and by how many bytes it makes the graph larger.
    """

    name: str
    operator: str
    alone: Measured
    without: Measured
    bytes: int | None


class Tuned(Struct, frozen=True, kw_only=True):
    """What came of it. `outcome`: the gate "passes" as it is; a list was "found"; "no list" passes but one of every node;
    it fails "before" that pass; the "limit" was reached, and `nodes` are a list that passes where one is known.

    `errors` are shares of what the recipe allows: above 1 fails. `measured` is how many lists were, `candidates` how many
    nodes the pass touches, `ranked` whether each was measured by itself.
    """

    version: Literal[1] = 1
    recipe: str
    pass_: str = msgspec.field(name="pass")
    option: str
    outcome: Literal["passes", "found", "no list", "before", "limit"]
    nodes: list[Node] = []
    plain: Measured
    tuned: Measured | None = None
    measured: int = 0
    candidates: int = 0
    ranked: bool = True
    patch: str = ""
    written: bool = False


_UNKNOWN = Measured(passed=False, error=None, bytes=None, why="not measured")
Told = Callable[[str], None]


def place_of(loaded: recipes.Loaded, name: str = "") -> int:
    """Which of the recipe's passes is to be looked at: the last one that can leave nodes as they are, or that of a name,
    "float16", or of a number with it, as stages are called: "1-float16".

    Raises UserError where there is none.
    """
    kinds = [chosen(one)[0] for one in loaded.recipe.optimize]
    names = [("", kind, f"{number}-{kind}") for number, kind in enumerate(kinds, 1)]
    found = [number for number, kind in enumerate(kinds) if kind in EXCLUDING and name in names[number]]
    if found:
        return found[-1]
    known = ", ".join(EXCLUDING)
    fact = f"optimize has no {name}" if name else "optimize has no pass that can leave nodes as they are"
    hint = f"--pass names one of its own, of {known}" if name else f"it is for recipes with one of {known}"
    raise _refused(loaded, (), fact, hint)


def _refused(loaded: recipes.Loaded, place: tuple[int, ...], fact: str, hint: str) -> UserError:
    """What is wrong with `optimize`, or one of its passes, with the file and the line of it."""
    found = Finding(("optimize", *place), fact, hint, key=True)
    return UserError(*recipes.documents.placed(loaded.path, loaded.positions, [found]))


class Tuning:
    """One recipe, and the pass at `optimize[number]`."""

    def __init__(self, session: Session, loaded: recipes.Loaded, number: int, told: Told) -> None:
        self._session, self._loaded, self._number, self._told = session, loaded, number, told
        self.kind, _ = chosen(loaded.recipe.optimize[number])
        self._operators: dict[str, str] = {}
        self._found: dict[Names, Measured] = {}
        self._cost: dict[Names, Cost] = {}
        self._seconds = 0.0  # that the last measurement took, or took when it was made

    def run(self, limit: int) -> Tuned:
        """Look for the list, with so many measurements at most. Raises UserError where the build fails before the pass."""
        (plain,) = self._measure([()])
        seconds = max(self._seconds, 0.1)
        common: dict[str, Any] = {
            "recipe": self._loaded.recipe.name,
            "pass_": f"optimize[{self._number}].{self.kind}",
            "option": EXCLUDING[self.kind].option,
            "plain": plain,
        }
        if plain.passed:
            return Tuned(outcome="passes", measured=1, **common)
        before = self._before()
        self._told(f"without the pass: {_shown(before)}")
        if not before.passed:
            return Tuned(outcome="before", tuned=before, measured=2, **common)
        if not self._operators:
            fact = f"the graph has no node that {self.kind} would change"
            raise _refused(
                self._loaded, (self._number,), fact, "look at its lists of operators and nodes, or take it out"
            )
        search = Search(list(self._operators), self._answers, limit)
        took = units.seconds(search.expected() * seconds)
        self._told(
            f"{units.plural(len(self._operators), 'node')}: about {search.expected()} measurements, some {took} in all"
        )
        return self._searched(search, before, common)

    def _searched(self, search: Search, before: Measured, common: dict[str, Any]) -> Tuned:
        names: Names | None
        outcome: Literal["found", "no list", "limit"] = "found"
        try:
            names = search.run()
            outcome = "found" if names is not None else "no list"
        except LimitError as stopped:
            names, outcome = stopped.best, "limit"
        with contextlib.suppress(LimitError):  # of many nodes none was measured by itself
            search.ask([(name,) for name in names or ()])
        tuned = self._found[names] if names is not None else before
        rows = [self._row(name, names or (), tuned) for name in names or ()]
        return Tuned(
            outcome=outcome,
            nodes=rows,
            tuned=tuned,
            measured=len(search.known) + 2,
            candidates=len(self._operators),
            ranked=search.is_ranked,
            **common,
        )

    def _row(self, name: str, names: Names, tuned: Measured) -> Node:
        """What there is to say of a node of the list."""
        rest = tuple(one for one in names if one != name)
        without, alone = (self._found.get(one, _UNKNOWN) for one in (rest, (name,)))
        larger = tuned.bytes - without.bytes if tuned.bytes is not None and without.bytes is not None else None
        return Node(name, self._operators[name], alone, without, larger)

    def _answers(self, lists: Sequence[Names]) -> list[Answer]:
        found = self._measure(lists)
        return [
            Answer(one.passed, self._cost[names], "has no node" in one.why)
            for one, names in zip(found, lists, strict=True)
        ]

    def _measure(self, lists: Sequence[Names]) -> list[Measured]:
        """Build and prove the graph with each of these lists."""
        variants = {}
        for number, names in enumerate(lists):
            recipe = varied.listing(self._loaded.recipe, self._number, names)
            name = f"{recipe.name}-{number}"  # whoever tells of runs side by side knows them by it; it is in no key
            variants[name] = names, msgspec.structs.replace(recipe, name=name)
        loaded = [msgspec.structs.replace(self._loaded, recipe=recipe) for _, recipe in variants.values()]
        for run in self._session.try_out(loaded):
            names = variants[run.name][0]
            self._require_pass(run)
            self._require_measured(run)
            self._found[names], self._cost[names], self._seconds = _of(run, self._made(run))
            self._told(f"{_listed(names)}: {_shown(self._found[names])}")
        return [self._found[names] for names in lists]

    def _before(self) -> Measured:
        """The graph that the pass is given, held to what is allowed from it on; notes its nodes."""
        recipe = varied.before(self._loaded.recipe, self._number)
        (run,) = self._session.try_out(
            [msgspec.structs.replace(self._loaded, recipe=recipe)],
            lambda plan: [varied.candidates(self._loaded.recipe, self._number, plan)],
        )
        self._require_measured(run)
        listing = run.done[varied.CANDIDATES]
        if listing.report.failure is not None:
            raise _refused(self._loaded, (self._number,), listing.report.failure.fact, listing.report.failure.hint)
        self._operators = dict(listing.outcome.facts["nodes"]) if listing.outcome is not None else {}
        return _of(run, run.plan.those(Trait.GRAPH)[-1])[0]

    def _made(self, run: RecipeRun) -> Stage:
        """The stage of the pass."""
        return varied.stage_of(self._loaded.recipe, self._number, run.plan)

    def _require_pass(self, run: RecipeRun) -> None:
        """Raises UserError where something failed that comes before the pass."""
        own = _about(run, self._made(run))
        for stage in run.plan.stages:
            failure = run.done[stage.name].report.failure
            if failure is not None and stage not in own:
                fact = f"{stage.name} fails, which comes before the pass: {failure.fact}"
                raise _refused(self._loaded, (self._number,), fact, _earlier(run.plan, stage) or failure.hint)

    def _require_measured(self, run: RecipeRun) -> None:
        """Raises UserError where the surroundings kept a stage from its end: that says nothing of any node."""
        for stage in run.plan.stages:
            failure = run.done[stage.name].report.failure
            if failure is not None and run.done[stage.name].outside:
                hint = f"{failure.hint}; then run it again: what was measured is kept"
                raise _refused(self._loaded, (self._number,), f"{stage.name}: {failure.fact}", hint)


def _earlier(plan: Plan, failed: Stage) -> str:
    """The hint where what fails is an earlier pass that can leave nodes as they are, or a proof of it; "" elsewhere."""
    names = {failed.name, *(name for name, _ in failed.needs.values())}
    own = [one for one in plan.stages if one.name in names and one.entry and one.entry[-1] in EXCLUDING]
    return f"tune that one first: --pass {int(own[-1].entry[1]) + 1}-{own[-1].entry[-1]}" if own else ""


def _about(run: RecipeRun, made: Stage) -> list[Stage]:
    """The stage that makes a graph, and those that take it."""
    return [
        one for one in run.plan.stages if one.name == made.name or made.name in [name for name, _ in one.needs.values()]
    ]


def _of(run: RecipeRun, made: Stage) -> tuple[Measured, Cost, float]:
    """What a run found of the graph that a stage makes, and how long it takes to make and prove it, in seconds."""
    own = [stage for stage in _about(run, made) if stage.traits]
    reports = [run.done[stage.name].report for stage in own]
    failures = [report.failure for report in reports if report.failure is not None]
    both = list(zip(own, reports, strict=True))
    ratios = [figures.ratio(row) for row in verdicts.rows(both)]
    every = [(stage, run.done[stage.name].report) for stage in run.plan.stages]
    figure = next((row for row in scores.rows(run.loaded.recipe, every) if row.of == made.name), None)
    if figure is not None and figure.drop is not None:
        off = max(figure.drop, 0.0)
        ratios.append(off / figure.max_drop if figure.max_drop else math.inf if off else 0.0)
    shares = [one for one in ratios if one is not None]
    finite = [min(one, MOST) for one in shares if one < math.inf]
    measured = Measured(
        passed=not any(run.done[stage.name].lost for stage in own),
        error=max(shares) if shares and len(finite) == len(shares) else None,
        bytes=_bytes(reports),
        why=failures[0].fact.partition("\n")[0] if failures else "",
        metric=figure.value if figure is not None else None,
    )
    broken = not any("results" in report.facts for report in reports)
    cost = Cost(broken, len(shares) - len(finite), sum(finite) / len(finite) if finite else 0.0)
    return measured, cost, sum(report.seconds or 0.0 for report in reports)


def _bytes(reports: Iterable[StageReport]) -> int | None:
    return next((report.facts["bytes"] for report in reports if "bytes" in report.facts), None)


def _listed(names: Names) -> str:
    if not names:
        return "as it is"
    return f"without {', '.join(names)}" if len(names) <= 3 else f"without {len(names)} nodes"


def _shown(measured: Measured) -> str:
    """How near a measurement came, in words."""
    if measured.error is None:
        return "passes" if measured.passed else f"fails: {units.clip(units.line(measured.why), 90)}"
    return f"{'passes' if measured.passed else 'fails'}, {units.share(measured.error)} of what is allowed"
