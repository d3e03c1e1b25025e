"""The build report as frozen types: the source of `schemas/report.schema.json`, of report.md and of report.html.

Knows no files. What varies from run to run on the same inputs is in `run`, `benchmark` and each stage's `status`, `why`,
`seconds` and `peak_rss_bytes`; everything else is equal for equal builds.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Shape = list[int | str | None]
Status = Literal["built", "cached", "failed", "skipped"]


class Failure(Struct, frozen=True):
    """Why a stage failed: the fact, what to do about it, and the end of what the child process printed."""

    stage: str
    fact: str
    hint: str = ""
    log: str = ""


class StageReport(Struct, frozen=True):
    name: str  # "optimize/1-onnxsim"
    kind: str  # "optimize"
    status: Status
    key: str  # SHA-256 of the stage's document; "" where it never got that far
    why: list[str]  # why it ran, why it was skipped, or which stage before it gave the same
    needs: list[str]  # names of the stages whose results it takes
    seconds: float | None = None  # wall clock of this run, or of the run that built it where cached
    peak_rss_bytes: int | None = None
    warnings: list[str] = []
    notes: list[str] = []
    facts: dict[str, Any] = {}  # what the stage found out, as its module describes it; a benchmark's is `benchmark`
    failure: Failure | None = None


class Tensor(Struct, frozen=True):
    name: str
    dtype: str
    shape: Shape  # int: static; str: a named dynamic dimension; None: unknown


class Graph(Struct, frozen=True):
    """One graph of the chain: after the export, or after a pass."""

    stage: str  # "export" or "optimize/1-onnxsim"
    opset_imports: dict[str, int]
    ir_version: int
    inputs: list[Tensor]
    outputs: list[Tensor]
    nodes: int
    ops: dict[str, int]  # op type (with its domain where not the default one) to count
    parameters: int
    bytes: int  # graph and tensors together


class Worst(Struct, frozen=True):
    index: list[int]
    got: float | int | bool | str
    reference: float | int | bool | str


class ParityRow(Struct, frozen=True):
    stage: str  # "parity/export"
    case: str  # "batch=3"
    output: str
    passed: bool
    status: Literal["passed", "failed", "vacuous", "not run"]
    max_abs: float | None = None
    max_rel: float | None = None
    rtol: float | None = None
    atol: float | None = None
    worst: Worst | None = None
    note: str = ""  # why it failed, is vacuous or was not run


class Artifact(Struct, frozen=True):
    path: str  # relative to the output folder
    sha256: str
    bytes: int


class BenchmarkReport(Struct, frozen=True):
    """Latencies in milliseconds, throughput in runs per second."""

    providers: list[str]
    dims: dict[str, int]
    warmup: int
    runs: int
    mean: float
    p50: float
    p90: float
    p99: float
    throughput: float
    notes: list[str] = []


class RecipeReport(Struct, frozen=True):
    path: str  # relative to the project root
    sha256: str


class RunReport(Struct, frozen=True):
    started: str  # ISO 8601, UTC
    seconds: float
    platform: str
    cpu: str
    cores: int


class Source(Struct, frozen=True):
    """A file that the model was made from: its weights and data, and what its code was found to load and to read."""

    path: str  # as the recipe names it, or relative to the project root, or to where packages are installed
    sha256: str


class Report(Struct, frozen=True, kw_only=True):
    version: Literal[1]
    name: str
    description: str
    status: Literal["done", "failed", "interrupted"]
    failures: list[Failure]
    recipe: RecipeReport
    source: dict[str, Any]  # the recipe's model section
    sources: list[Source] = []  # of the export; those that the recipe names come first
    stages: list[StageReport]
    graphs: list[Graph]
    parity: list[ParityRow]
    cases_left_out: list[dict[str, Any]]  # {name, dims, reason}
    benchmark: BenchmarkReport | None
    artifacts: list[Artifact]  # what was published; where a package failed at the very end, also then
    tools: dict[str, str]
    notes: list[str]
    run: RunReport
