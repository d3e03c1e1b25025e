"""What is different between two builds of a model: the source of `schemas/diff.schema.json` and of every form of a diff.

Types only. "before" and "after" are the two sides in the order in which they were asked for; None is what isn't there.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Fact(Struct, frozen=True):
    """Something said of both sides in words, and not the same."""

    subject: str  # "output 'y'", "opset", "attribute axis"
    before: str | None
    after: str | None


class Node(Struct, frozen=True):
    """A node, and where in the model it is."""

    op: str  # with its domain where that is not the default one
    name: str
    scope: str = ""  # of the module that it comes from: by its notes, its name or its weights
    near: str = ""  # the nearest node before it that has a scope, where this one has none
    body: str = ""  # the subgraph or function that it is in, "" for the main graph
    line: str = ""  # "models/net.py:12", the line of Python that it was exported from, where that is known


class NodeChange(Struct, frozen=True):
    """A node that is on both sides: its attributes, inputs and outputs that are not the same."""

    node: Node  # as it is after
    facts: list[Fact]


class TensorChange(Struct, frozen=True):
    """A weight. `before` and `after` are its type and shape, "float32[64, 3, 7, 7]", with its elements where they are few.

    `relative_norm` is the norm of the difference divided by the norm of the values before. Figures are None where there
    are no two arrays of one shape to compare.
    """

    name: str
    before: str | None
    after: str | None
    was: str = ""  # its name before, where that is another
    elements: int = 0
    changed: int | None = None  # how many elements are not the same, bit by bit; None where they were not compared
    max_abs: float | None = None
    relative_norm: float | None = None
    not_finite: int = 0  # elements whose difference is no finite number; they are in none of the figures


class OpCount(Struct, frozen=True):
    """How many nodes of an operator there are, in subgraphs and functions too."""

    op: str
    before: int
    after: int


class Structure(Struct, frozen=True):
    """Two graphs side by side: names of nodes and of values between them, and the order of nodes, say nothing."""

    matched: int  # nodes that are on both sides
    removed: list[Node]
    added: list[Node]
    changed: list[NodeChange]
    tensors: list[TensorChange]


class Number(Struct, frozen=True):
    """A figure of both sides. `unit` is bytes, parameters, nodes, ms, or "" for an error."""

    subject: str
    before: float | None
    after: float | None
    unit: Literal["bytes", "parameters", "nodes", "ms", ""] = ""


class Side(Struct, frozen=True):
    """One of the two: what was asked for, and what was read of it."""

    name: str
    kind: Literal["build", "lock", "file", "nothing"]


class Diff(Struct, frozen=True, kw_only=True):
    """All that is different. `same` looks at what came out: not at `inputs` and `recipe`, which are causes, not at `sizes`,
    which follow from the rest, and not at `latency`, which no two runs share.

    `structure` is None where no two graphs were there to compare: a lock file holds none.
    """

    version: Literal[1]
    before: Side
    after: Side
    same: bool
    interface: list[Fact]
    model: list[Fact]  # opset, IR version, producer, metadata, functions
    ops: list[OpCount]
    structure: Structure | None
    sizes: list[Number]
    parity: list[Number]  # the largest error of each output, absolute and relative, and as a share of what is allowed
    latency: list[Number]
    inputs: list[Fact]  # files and tools that it was made from
    files: list[Fact]  # what was published, by digest, where no structure says more
    recipe: list[str]  # a unified diff of the recipe's text, its head left out
    not_compared: list[str]  # what isn't known of both sides, in words
