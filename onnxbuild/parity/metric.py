"""A metric on data: what a recipe asks for, and how far a graph may be below the source model by it. Pure.

Measured is the figure alone; the drop is judged afterwards, so that another `max_drop` runs nothing.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from onnxbuild.parity.datasets import Dataset

ROUNDING = 1e-9  # of the larger figure: 0.97 - 0.95 is 0.020000000000000018, and no more than 0.02


class Metric(Struct, frozen=True, forbid_unknown_fields=True):
    """A figure of the whole data set, of the source model and of every graph."""

    function: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$",
            description="module:function, from the project root: f(outputs, data) gives a number. Both are arrays by name "
            "of all samples along axis 0; data holds the inputs and what else the data set has, such as labels.",
        ),
    ]
    data: Annotated[Dataset, Meta(description="What the model is run on.")]
    max_drop: Annotated[
        float,
        Meta(ge=0, description="How much worse than the source model a graph may be, in the function's own unit."),
    ]
    higher_is_better: Annotated[bool, Meta(description="false for a figure such as a loss or an error rate.")] = True


class Judged(NamedTuple):
    """A graph's figure beside the source model's: `drop` is how much worse it is, negative where it is better."""

    drop: float
    passed: bool


def judge(value: float, reference: float, asked: Metric) -> Judged:
    """What a graph's figure comes to beside the source model's."""
    drop = reference - value if asked.higher_is_better else value - reference
    return Judged(drop, drop <= asked.max_drop + ROUNDING * max(abs(value), abs(reference)))
