"""The build report as frozen types: the source of `schemas/report.schema.json`, of report.md and of report.html.

Knows no files. What varies from run to run on the same inputs is in `run`, `benchmark` and each stage's `status`, `why`,
`seconds` and `peak_rss_bytes`; everything else is equal for equal builds.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from onnxbuild.parity.verdict import Verdict

Shape = list[int | str | None]
Status = Literal["built", "cached", "failed", "skipped"]


class Failure(Struct, frozen=True):
    """Why a stage failed: the fact, what to do about it, and the end of what the child process printed."""

    stage: str
    fact: str
    hint: str = ""
    log: str = ""
    kept: list[str] = []  # files that show it without onnxbuild, relative to the output folder


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
    facets: list[str] = []  # what of the machine is in the key: "system", "cpu_flags", "gpu", "python"


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
    dtypes: dict[str, int] = {}  # how many of the parameters are of which dtype
    graph_sha256: str = ""  # of the graph without the values of its weights
    weights_sha256: str = ""  # of the weights: names, dtypes, shapes and values
    modified: bool = True  # False where a pass gave the very bytes that it was given


class Artifact(Struct, frozen=True):
    path: str  # relative to the output folder
    sha256: str
    bytes: int


class Aside(Struct, frozen=True):
    """How far an output is from the source model's at worst, where a target runs at other settings than those judged."""

    setting: str
    output: str
    max_abs: float | None
    spread: float | None  # of the source model's values


class Target(Struct, frozen=True):
    """What another runtime loads, made from the final graph."""

    name: str  # "ort"
    stage: str  # "target/ort"
    # run: this machine ran it, and compared; emulated: something stood in for its runtime; skipped: it is not built
    level: Literal["run", "emulated", "built, not run", "skipped"]
    files: list[Artifact]
    why: str = ""  # what an emulation bounds, or why it was not run, or not built
    p50: float | None = None  # latency in milliseconds, and that of onnxruntime in the same run, taking turns
    onnxruntime_p50: float | None = None
    asides: list[Aside] = []  # the same files at other settings: told, and judged by nothing
    runtime: str = ""  # what loads it
    options: dict[str, Any] = {}  # its own, with their defaults


class Score(Struct, frozen=True):
    """The recipe's metric of the source model, of a graph, or of a target; all numbers are in the function's own unit."""

    stage: str  # "metric/2-quantize_static"
    of: str  # the stage whose result it is of; "" for the source model
    function: str
    value: float
    rows: int  # samples that it was made of
    drop: float | None  # how much worse than the source model's, negative where it is better; None for that itself
    max_drop: float
    higher_is_better: bool
    passed: bool


class Before(Struct, frozen=True):
    """The graph before the first pass that loses precision on purpose, timed in the same run as the final one."""

    stage: str  # "export" or "optimize/1-onnxsim"
    p50: float  # in milliseconds


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
    quantiles: list[float] = []  # in equal steps from the fastest run to the slowest; every run where there are few
    before: Before | None = None  # where there is no such pass, or it could not be timed


class RecipeReport(Struct, frozen=True):
    path: str  # relative to the project root
    sha256: str
    content_sha256: str = ""  # of what it says with its bases, whatever its comments and layout
    resolved_sha256: str = ""  # of the same with all that it leaves out: by this it is known in what is built from it
    bases: dict[str, str] = {}  # the files merged under it, the undermost first, each with its SHA-256


class Revision(Struct, frozen=True):
    """The commit of the project's repository, and whether anything in the work tree was not in it."""

    commit: str
    changed: bool


class LastBuild(Struct, frozen=True):
    """The last run that built anything: when, from which revision, and which stages for which reasons."""

    started: str
    seconds: float
    why: dict[str, list[str]]
    revision: Revision | None = None


class RunReport(Struct, frozen=True):
    started: str  # ISO 8601, UTC
    seconds: float
    platform: str
    cpu: str
    cores: int
    machine: str = ""  # what decides how numbers are rounded: "linux-x86_64-avx512"
    revision: Revision | None = None  # only where something was built, in a repository
    last_build: LastBuild | None = None  # only where nothing was built, and an earlier run is known that did


class Source(Struct, frozen=True):
    """A file that the model was made from or proved with: weights and data, and what its code was found to load and read.

    A folder of data, whose path ends in a slash, is one, by the files that are taken of it.
    """

    path: str  # as the recipe names it, or relative to the project root, or to where packages are installed
    sha256: str  # of a folder: of what sha256sum prints of its files, in order of their paths
    bytes: int | None = None  # None where it could not be read any more
    declared: bool = False  # the recipe names it


class Package(Struct, frozen=True):
    """Something installed that stages used: a distribution of Python's, a package of npm's, or Python or node itself."""

    name: str
    version: str
    kind: Literal["pypi", "npm", "generic"]  # as in a package URL


class Report(Struct, frozen=True, kw_only=True):
    version: Literal[1]
    name: str
    description: str
    status: Literal["done", "failed", "interrupted"]
    failures: list[Failure]
    recipe: RecipeReport
    source: dict[str, Any]  # the recipe's model section
    sources: list[Source] = []  # those that the recipe names come first
    stages: list[StageReport]
    graphs: list[Graph]
    parity: list[Verdict]
    scores: list[Score] = []  # of the recipe's metric, the source model's first
    cases_left_out: list[dict[str, Any]]  # {name, dims, reason}
    dims: dict[str, Any] = {}  # of each dynamic dimension, as declared: a range, or what it is of others
    targets: list[Target] = []
    benchmark: BenchmarkReport | None
    artifacts: list[Artifact]  # what was published; where a package failed at the very end, also then
    tools: dict[str, str]
    packages: list[Package] = []  # the tools, and what else the model's code was found to load
    notes: list[str]
    cautions: list[str] = []  # where the build proves less than it seems to: told before everything else
    run: RunReport
