"""What another environment makes of recipes: the source of `schemas/canary.schema.json` and of every form of it.

Types only. "before" is this environment, "after" the one that is tried.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from onnxbuild.report.changes import Diff, Fact


class Environment(Struct, frozen=True):
    """A Python interpreter, as its path was given, and its version."""

    python: str
    version: str


class ErrorChange(Struct, frozen=True):
    """The largest error of an output against the source model. `of` is "onnx" for the published model, else a target.

    `worse` where it is ten times the one before or more, rounding steps aside, or no number; None is what wasn't compared.
    """

    of: str
    output: str
    before: float | None
    after: float | None
    worse: bool


class Latency(Struct, frozen=True):
    """Medians in milliseconds, measured by turns. `times` is the median of the turns' own ratios, after to before;
    `slower` where it is above the limit and nearly every turn says so.
    """

    before_p50: float
    after_p50: float
    times: float
    turns: int
    slower_in: int
    slower: bool


class Tried(Struct, frozen=True, kw_only=True):
    """A recipe in both environments. `graph` is None where either build failed.

    "weights" says that the graph is the same and the weights in it are not; "interface" that inputs, outputs or ranges of
    dimensions are others. `why` holds what is wrong, and what failed, in words.
    """

    path: str
    name: str
    build: Literal["passes", "fails", "fails in both", "passes now"]
    graph: Literal["same", "weights", "changed", "interface"] | None = None
    errors: list[ErrorChange] = []  # of outputs whose errors are not the same
    lost: list[str] = []  # what was compared before, and is no longer
    latency: Latency | None = None
    latency_note: str = ""  # why there is none
    tools: list[Fact] = []  # that it was built with, and that differ
    why: list[str] = []
    diff: Diff | None = None
    ok: bool


class Canary(Struct, frozen=True, kw_only=True):
    """What came of all recipes. `ok` where each is: it passes there, its interface is the same, nothing that was compared
    is missing, no error is worse and it is not slower; with `strict`, its graph and its weights are the same, too.
    """

    version: Literal[1]
    before: Environment
    after: Environment
    constraints: list[str]
    packages: list[Fact]  # that differ: the recipes' tools, then others that both have; None is absent
    slower: float  # the limit, as a share
    strict: bool
    ok: bool
    recipes: list[Tried]
