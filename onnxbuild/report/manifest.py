"""manifest.json: what was built, for whoever deploys it; the source of `schemas/manifest.schema.json`.

Made of the report alone, and less than it: no time, nothing of this machine, no measurement but what the recipe's metric
came to, so that equal builds with the same verdicts and metrics have equal bytes. It is there only beside a build that is
done. Knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from onnxbuild.parity.verdict import Verdict
from onnxbuild.report import figures
from onnxbuild.report.types import Artifact, Graph, RecipeReport, Report, Target, Tensor

NAME = "manifest.json"
PACKED = "model_package/"  # the folder of the whole as one package
ONNX = "onnx"  # what the published model itself goes by among the targets


class Limit(Struct, frozen=True, omit_defaults=True):
    """What an output was allowed to be off; None where only equality would do, or `comparators` with their options."""

    rtol: float | None
    atol: float | None
    comparators: dict[str, dict[str, Any]] = {}
    reason: str = ""


class Proof(Struct, frozen=True):
    """How files were held against the source model, and what came of it.

    `verdict` is "passed" where every comparison was within `tolerances` and one of them could have failed, "vacuous" where
    none could, "not run" where none was made; `why` says why not, or what an emulation bounds.
    """

    verdict: Literal["passed", "vacuous", "not run"]
    level: Literal["run", "emulated", "built, not run", "skipped"]
    why: str
    cases: list[str]
    tolerances: dict[str, Limit]


class Metric(Struct, frozen=True):
    """What the recipe's metric is of these files and of the source model; all but `samples` in the function's own unit."""

    function: str
    value: float
    source_model: float
    drop: float  # how much worse than the source model's, negative where it is better
    max_drop: float
    higher_is_better: bool
    samples: int


class Loadable(Struct, frozen=True):
    """What one runtime loads. `load` is the file that it is given, "" where there is none; the others lie beside that."""

    target: str  # "onnx" for the published model itself
    runtime: str
    precision: str  # of the weights, in the target's own word where it has one
    options: dict[str, Any]  # the target's, as the recipe and its defaults have them
    load: str
    files: list[Artifact]
    parity: Proof
    metric: Metric | None  # None where the recipe has none, or nothing ran these files at the data's sizes


class Manifest(Struct, frozen=True, kw_only=True):
    """Every target takes `inputs` and gives `outputs` by these names; an axis is a size, a dimension's name, or None.

    `sizes` are those of each dimension that the published model was compared at.
    """

    version: Literal[1]
    name: str
    recipe: RecipeReport
    inputs: list[Tensor]
    outputs: list[Tensor]
    sizes: dict[str, list[int]]
    targets: list[Loadable]


def of(report: Report) -> Manifest | None:
    """The manifest of a build; None of one that is not done, or published nothing."""
    if report.status != "done" or not report.artifacts or not report.graphs:
        return None
    graph = report.graphs[-1]
    rows = _rows(report, graph.stage)
    return Manifest(
        version=1,
        name=report.name,
        recipe=report.recipe,
        inputs=graph.inputs,
        outputs=graph.outputs,
        sizes=_sizes(rows),
        targets=[
            _model(report, graph, rows),
            *(_target(report, graph, target) for target in report.targets),
            *_packed(report, graph, rows),
        ],
    )


def to_json(manifest: Manifest) -> bytes:
    """Indented JSON: fields in the order of their types, mappings sorted by key."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"


def _model(report: Report, graph: Graph, rows: Sequence[Verdict]) -> Loadable:
    """The published model itself: what is published and no target's own; the model comes last there, and first here."""
    folders = (PACKED, *(f"{target.name}/" for target in report.targets))
    files = [made for made in report.artifacts if not made.path.startswith(folders)][::-1]
    why = next((row.note for row in rows if row.status == "not run"), "")
    ran = any(row.status != "not run" for row in rows)
    proof = _proof(rows, "run" if ran else "built, not run", why)
    return Loadable(
        ONNX, "onnxruntime", figures.precision(graph), {}, files[0].path, files, proof, _metric(report, graph.stage)
    )


def _packed(report: Report, graph: Graph, rows: Sequence[Verdict]) -> list[Loadable]:
    """The model package of onnxruntime, where the recipe asks for it: the same model, and every target's files again."""
    files = [made for made in report.artifacts if made.path.startswith(PACKED)]
    one = _model(report, graph, rows)
    return [msgspec.structs.replace(one, target=PACKED[:-1], load=files[0].path, files=files)] if files else []


def _target(report: Report, graph: Graph, target: Target) -> Loadable:
    own = next((str(value) for name, value in target.options.items() if name.endswith("precision")), "")
    load = target.files[0].path if target.files else ""
    proof = _proof(_rows(report, target.stage), target.level, target.why)
    precision = own or figures.precision(graph)
    metric = _metric(report, target.stage)
    return Loadable(target.name, target.runtime, precision, target.options, load, target.files, proof, metric)


def _metric(report: Report, of: str) -> Metric | None:
    """What the metric of a stage's result came to."""
    for row in report.scores:
        if row.of == of and row.drop is not None:
            source = report.scores[0].value
            return Metric(row.function, row.value, source, row.drop, row.max_drop, row.higher_is_better, row.rows)
    return None


def _rows(report: Report, graph: str) -> list[Verdict]:
    """The comparisons of what a stage gave."""
    proofs = {stage.name for stage in report.stages if graph in stage.needs}
    return [row for row in report.parity if row.stage in proofs]


def _proof(rows: Sequence[Verdict], level: Literal["run", "emulated", "built, not run", "skipped"], why: str) -> Proof:
    compared = [row for row in rows if row.status != "not run"]
    verdict: Literal["passed", "vacuous", "not run"] = "passed" if compared else "not run"
    if compared and all(row.status == "vacuous" for row in compared):
        verdict = "vacuous"
    tolerances = {row.output: _limit(row) for row in compared}
    return Proof(verdict, level, why, list(dict.fromkeys(row.case for row in compared)), tolerances)


def _limit(row: Verdict) -> Limit:
    return Limit(row.rtol, row.atol, {gate.comparator: gate.options for gate in row.gates}, row.reason)


def _sizes(rows: Sequence[Verdict]) -> dict[str, list[int]]:
    found: dict[str, set[int]] = {}
    for row in rows:
        for dim, size in row.dims.items() if row.status != "not run" else ():
            found.setdefault(dim, set()).add(size)
    return {dim: sorted(sizes) for dim, sizes in found.items()}
