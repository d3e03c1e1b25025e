"""What is said of one built model when it is reviewed: what came in, what came out, and how well it was proved.

Made of a report alone (report.json is enough), so that two builds are compared without onnx, and without building. Holds no
time, no key and no path of a machine. Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from msgspec import Struct

from onnxbuild.parity.comparators import allclose
from onnxbuild.parity.verdict import Verdict
from onnxbuild.report import manifest
from onnxbuild.report.types import Artifact, Graph, Report, StageReport, Tensor
from onnxbuild.targets import DIFFERENCES

# Facets of a key which say that the bytes are those of one machine; the others are versions, and stand among the tools.
MACHINE = frozenset({"system", "cpu", "cpu_flags", "cores", "gpu"})
SOURCE = "source"  # what the source model goes by beside targets
OF_GRAPH = ("opset_imports", "ops", "parameters", "bytes", "graph_sha256")  # by the machine where the last graph is


class File(Struct, frozen=True):
    """A file by its content; `bytes` is None where its size is not known, and `sha256` is "" where a compiler makes
    other bytes of the same each time.
    """

    sha256: str
    bytes: int | None


class Error(Struct, frozen=True):
    """How far an output is from the source model's, the worst of all cases.

    `used` is the share of what is allowed that it takes: 1 is at the limit. All have two significant digits, and are None
    where no number tells. `step` is one rounding step of the output's dtype at its largest value, 0 where all that is known
    of it is that values have to be equal. `losses` are how far off the figures of the comparators are that the recipe names,
    by comparator (see `Gate`), and `rounding` is one rounding step of the dtype at 1.
    """

    max_abs: float | None
    max_rel: float | None
    used: float | None
    step: float = 0.0
    losses: dict[str, float] = {}
    rounding: float = 0.0


class Score(Struct, frozen=True):
    """The recipe's metric, to four significant digits. `worse` is the step in which it gets worse: a tenth of what the
    recipe allows it to drop, below 0 where a lower value is better.
    """

    value: float
    worse: float = 0.0


class Facts(Struct, frozen=True, kw_only=True):
    """One built model. `parity` is by what was compared ("onnx" for the published model, else a target) and by output.

    `inputs` and `outputs` are in the model's order, each as "float32[batch, 3, 224, 224]"; `dims` as "1..64" or "past + 1".
    `bound` names the facts of the graph that are as they are because of the machine, `platform`. Errors, the values of
    weights (a seed's by the processor's vector instructions, a fold's by its sums) and the bytes of files always may be.
    """

    name: str
    recipe_sha256: str  # of what the recipe says, whatever its comments and layout
    sources: dict[str, File]  # weights and data by path; no code, since that is under review itself
    tools: dict[str, str]
    opset_imports: dict[str, int]
    ir_version: int
    inputs: dict[str, str]
    outputs: dict[str, str]
    dims: dict[str, str]
    ops: dict[str, int]
    parameters: int
    bytes: int  # graph and tensors together
    graph_sha256: str  # of the graph without the values of its weights
    weights_sha256: str  # of the weights: names, dtypes, shapes and values
    # By path in the output folder; where nothing was published, those of targets alone. A model's is of it without its
    # stamp: a recipe that says something else, of which nothing comes, makes no other model.
    files: dict[str, File]
    parity: dict[str, dict[str, Error]]
    platform: str
    bound: list[str]
    metric: dict[str, Score] = {}  # by what it is of, as `parity`, and "source" for the source model


def of(report: Report) -> Facts | None:
    """The facts of a build, of a failed one as far as it came; None where it has no graph, or is of an older version."""
    graph = report.graphs[-1] if report.graphs else None
    if graph is None or not graph.graph_sha256 or not report.recipe.content_sha256:
        return None
    chain = {one.stage for one in report.graphs}
    at_home = any(_is_bound(stage) for stage in report.stages if stage.name in chain)
    made = {one.path: one for one in (*(file for one in report.targets for file in one.files), *report.artifacts)}
    return Facts(
        name=report.name,
        recipe_sha256=report.recipe.content_sha256,
        sources={one.path: File(one.sha256, one.bytes) for one in report.sources if _is_data(one.path, one.declared)},
        tools=dict(sorted(report.tools.items())),
        opset_imports={domain or "ai.onnx": version for domain, version in sorted(graph.opset_imports.items())},
        ir_version=graph.ir_version,
        inputs={one.name: signature(one) for one in graph.inputs},
        outputs={one.name: signature(one) for one in graph.outputs},
        dims={name: _range(dim) for name, dim in sorted(report.dims.items())},
        ops=dict(sorted(graph.ops.items())),
        parameters=graph.parameters,
        bytes=graph.bytes,
        graph_sha256=graph.graph_sha256,
        weights_sha256=graph.weights_sha256,
        files={path: _file(path, one) for path, one in sorted(made.items())} | _unstamped(report),
        parity=_parity(report, graph),
        platform=report.run.machine,
        bound=list(OF_GRAPH) if at_home else [],
        metric=_metric(report, graph),
    )


def _file(path: str, one: Artifact) -> File:
    return File("" if path.rpartition("/")[2] in DIFFERENCES else one.sha256, one.bytes)


def _unstamped(report: Report) -> dict[str, File]:
    """The published models without what their metadata say of the recipe."""
    found = (stage.facts.get("unstamped", {}) for stage in report.stages)
    return {path: File(one["sha256"], one["bytes"]) for models in found for path, one in models.items()}


def _range(dim: Mapping[str, Any] | str) -> str:
    """The sizes that a dimension may take, as "1..64", "16.., multiples of 16" or "past + sequence"."""
    if isinstance(dim, str):
        return dim
    step = dim.get("multiple_of", 1)
    return f"{dim.get('min', 1)}..{dim.get('max', '')}{f', multiples of {step}' if step > 1 else ''}"


def signature(tensor: Tensor) -> str:
    """An input or an output's type: "float32[batch, 3, 224, 224]"; "?" is an axis without a name."""
    return f"{tensor.dtype}[{', '.join('?' if size is None else str(size) for size in tensor.shape)}]"


def rounded(value: float | None) -> float | None:
    """A number to two significant digits; None of what no number is."""
    return None if value is None or not isfinite(value) else float(f"{value:.2g}")


def _is_data(path: str, declared: bool) -> bool:  # noqa: FBT001  # private
    return declared or not path.endswith((".py", ".pyi"))


def _is_bound(stage: StageReport) -> bool:
    return not MACHINE.isdisjoint(stage.facets)


def _parity(report: Report, graph: Graph) -> dict[str, dict[str, Error]]:
    """What was compared; a target that was not run is not there, nor is an output of which no number tells anything."""
    of = {manifest.ONNX: graph.stage, **{target.name: target.stage for target in report.targets}}
    found = {}
    for name, stage in of.items():
        proofs = [one for one in report.stages if stage in one.needs]
        rows = [row for one in proofs for row in report.parity if row.stage == one.name and row.status != "not run"]
        outputs = dict.fromkeys(row.output for row in rows)
        errors = {output: _worst([row for row in rows if row.output == output], proofs) for output in outputs}
        if errors:
            found[name] = errors
    return found


def _metric(report: Report, graph: Graph) -> dict[str, Score]:
    """The metric of the source model, of the published model and of each target that was run."""
    of = {SOURCE: "", manifest.ONNX: graph.stage, **{target.name: target.stage for target in report.targets}}
    rows = {row.of: row for row in report.scores}
    return {
        name: Score(
            float(f"{rows[stage].value:.4g}"), rows[stage].max_drop / 10 * (1 if rows[stage].higher_is_better else -1)
        )
        for name, stage in of.items()
        if stage in rows
    }


def _worst(rows: Sequence[Verdict], proofs: Iterable[StageReport]) -> Error:
    output = rows[0].output
    measured = [one for stage in proofs for one in stage.facts.get("results", []) if one["output"] == output]
    apart = [stage.facts.get("resolution", {}).get(output) or {} for stage in proofs]
    largest = [abs(float(point["reference"])) for row in [*measured, *apart] for point in row.get("points", ())]
    largest += [float(one.get("spread") or 0.0) for one in apart]
    step = allclose.STEPS.get(measured[0].get("dtype") or "", 0.0) if measured and not measured[0].get("exact") else 0.0
    scale = max((one for one in largest if isfinite(one)), default=0.0)
    return Error(
        rounded(_most(row.max_abs for row in rows)),
        rounded(_most(row.max_rel for row in rows)),
        rounded(_most(row.headroom for row in rows)),
        step * scale,
        _losses(rows),
        step,
    )


def _losses(rows: Sequence[Verdict]) -> dict[str, float]:
    """How far off each comparator's figure is at worst, as far as a number tells."""
    found: dict[str, float] = {}
    for gate in (gate for row in rows for gate in row.gates):
        if (off := rounded(gate.loss)) is not None:
            found[gate.comparator] = max(found.get(gate.comparator, 0.0), off)
    return found


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
