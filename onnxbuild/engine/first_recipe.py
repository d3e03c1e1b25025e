"""A first recipe for a model: what its source finds out becomes a draft, and the draft is built to see that it holds.

The trial writes into folders of its own; its stages are in the project's store, so the first run finds them there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from onnxbuild.contracts import Inspection, Json
from onnxbuild.engine.session import Session, Settings
from onnxbuild.passes import PASSES
from onnxbuild.queries.describing import Describing
from onnxbuild.recipe import writing
from onnxbuild.recipe.writing import Draft
from onnxbuild.report import figures
from onnxbuild.report.progress import Progress
from onnxbuild.report.types import Failure, Report
from onnxbuild.sources import SOURCES

NOT_PROPOSED = 1e-5  # an atol below this is the default's business
LONGEST = 220  # characters of a sentence in a comment


class Asked(Struct, frozen=True):
    """What `init` is asked for: a kind of source with its options, and how the model's inputs are found."""

    name: str
    command: str
    kind: str
    options: dict[str, Json]
    given: dict[str, Json] = {}
    example: str = ""
    decompose: dict[str, str] = {}


class Tried(NamedTuple):
    """A draft as it came out of its trial; `failures` are why it does not build, and `said` what was found meanwhile."""

    draft: Draft
    failures: list[Failure]
    said: list[str]


def draft(asked: Asked, root: Path, schema: str) -> Draft:
    """What a recipe for the model should say, before anything is built. Raises StageError."""
    source = SOURCES[asked.kind]
    options = msgspec.convert(asked.options, source.Options)
    describing = Describing(None)
    try:
        inspection = describing.inspect(asked.kind, options, root, asked.given, asked.example)
    finally:
        describing.close()
    parity, because = _parity(inspection)
    return Draft(
        asked.name,
        asked.command,
        {asked.kind: asked.options},
        writing.export_of(inspection, source.exporters(options)),
        [shorten(sentence) for sentence in inspection.looked],
        symbolics={**dict.fromkeys(inspection.operators, ""), **asked.decompose},
        parity=parity,
        parity_because=because,
        schema=schema,
    )


def shorten(sentence: str) -> str:
    """What is said of a model, without the end of a long message."""
    return sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1]}…"


def _parity(inspection: Inspection) -> tuple[dict[str, Json], str]:
    """The tolerances, where the rounding that was measured asks for more than the default."""
    if not inspection.atol and not inspection.rtol:
        return {}, ""
    because = "Tolerances by the rounding of float32 that was measured on this model, against float64."
    found = {"rtol": max(inspection.rtol, 1e-3), "atol": max(inspection.atol, NOT_PROPOSED)}
    return {**found, "reason": "the rounding of float32, measured against float64"}, because


def tried(first: Draft, path: Path, settings: Settings, progress: Progress) -> Tried:
    """Build a draft, propose the passes that suit its graph, and leave out those that change nothing or fail.

    `path` is where the recipe will be; beside it the trial's own file lies for a while.
    """
    if unsaid := [name for name, function in first.symbolics.items() if not function]:
        fact = f"no exporter knows {', '.join(unsaid)}"
        hint = "say what it becomes, under symbolics of the recipe or by --decompose, and run the recipe"
        return Tried(first, [Failure("export", fact, hint)], [])
    report = _built(first, path, settings, progress)
    if report.status != "done":
        return Tried(first, report.failures, [])
    operators = _operators(report)
    passes: list[tuple[Json, str]] = []
    said = [f"it builds: {_told(report)}"]
    for name, module in PASSES.items():
        if (proposal := module.proposed(operators)) is None:
            continue
        entry = ({name: proposal[0]}, proposal[1])
        after = _built(msgspec.structs.replace(first, passes=[*passes, entry]), path, settings, progress)
        if after.status != "done":
            said.append(f"{name} is left out: {after.failures[0].fact.partition(chr(10))[0]}")
        elif _graph(after) == _graph(report):
            said.append(f"{name} is left out: it changes nothing")
        else:
            said.append(f"with {name}: {_told(after)}")
            passes, report = [*passes, entry], after
    return Tried(msgspec.structs.replace(first, passes=passes), [], said)


def _told(report: Report) -> str:
    """What a trial came to: nodes, and how near to its tolerance."""
    last = report.graphs[-1]
    return f"{last.nodes:,} nodes, error {figures.nearness(report, last.stage)} of what the tolerances allow"


def _built(one: Draft, path: Path, settings: Settings, progress: Progress) -> Report:
    with (
        _trial_file(writing.text(one, trial=True), path) as trial,
        tempfile.TemporaryDirectory() as out,
        Session(msgspec.structs.replace(settings, out=Path(out)), progress) as session,
    ):
        return session.build(session.load([trial])[0])


@contextmanager
def _trial_file(text: str, path: Path) -> Iterator[Path]:
    """A file beside the recipe's place, so that its project is the same."""
    descriptor, name = tempfile.mkstemp(prefix=".init-", suffix=".yaml", dir=path.parent)
    trial = Path(name)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        yield trial
    finally:
        trial.unlink(missing_ok=True)


def _operators(report: Report) -> dict[str, int]:
    """How many nodes of each operator the last graph has."""
    return report.graphs[-1].ops


def _graph(report: Report) -> tuple[Any, ...]:
    last = report.graphs[-1]
    return last.nodes, last.bytes
