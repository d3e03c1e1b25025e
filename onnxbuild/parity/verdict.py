"""What a comparison comes to: the types that judging gives and the report holds, and what a comparator module must have.

Types only; needs no numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, TypeAlias

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections.abc import Callable

Value: TypeAlias = float | int | bool | str
Kind = Literal["", "beyond", "unsure", "unequal", "nonfinite", "below", "unfit", "interface", "not run"]
Agreement = Annotated[float, Meta(gt=0, le=1, description="The least share at any case; each case has to hold.")]


class Element(Struct, frozen=True):
    """One element of an output, on both sides; NaN and infinities are strings."""

    index: list[int]
    got: Value
    reference: Value


class Gate(Struct, frozen=True):
    """What a comparator that gives one figure of an output makes of it; `least` is the smallest figure that is right.

    `figure` is None where there is none, and where it is infinite: `told` says it in words, with its unit and what is left.
    `loss` is how far off it is, 0 being not at all: 1 less a share or a cosine, the noise's amplitude of a ratio in dB.
    `used` is that as a share of what is allowed. `hollow` is why its agreement proves nothing, `unseen` what it
    does not see.
    """

    comparator: str
    figure: float | None
    least: float
    told: str
    options: dict[str, Any] = {}
    loss: float | None = None
    used: float | None = None
    passed: bool = True
    hollow: str = ""
    unseen: str = ""


class Verdict(Struct, frozen=True):
    """One output of one graph at one case. `rtol` and `atol` are None where they don't judge: where only equality will do,
    and where `gates` do.

    `headroom` is the share of what is allowed that the error takes, in the comparator's own measure: 1 is at the limit.
    It is None where nothing was compared, and where no number tells how far off the graph is (a NaN on one side).
    `resolution` is the same of the source model's own result for other data: at 1 or less any graph would pass.
    """

    stage: str  # "parity/export"
    case: str  # "batch=3"
    output: str
    passed: bool
    status: Literal["passed", "failed", "vacuous", "not run"]
    max_abs: float | None = None
    max_rel: float | None = None
    rtol: float | None = None
    atol: float | None = None
    worst: Element | None = None
    note: str = ""  # why it failed, is vacuous or was not run
    remedy: str = ""  # a tolerance, as the recipe has it, that would tell results apart where this one does not
    dims: dict[str, int] = {}
    varies: str | None = None  # the input that has other values at this case than the recipe's own description gives
    headroom: float | None = None
    resolution: float | None = None
    why: Kind = ""  # what kind of failure `note` tells
    ran: bool = True  # False where onnxruntime gave no result at this case
    gates: list[Gate] = []  # of the comparators that the recipe names for this output: each of them has to pass
    reason: str = ""  # why the recipe allows what it does


class Judgement(Struct, frozen=True):
    """What a comparator says of two arrays; `kind` and `note` are "" where they are alike enough."""

    worst: Element | None = None
    kind: Kind = ""
    note: str = ""
    headroom: float | None = None


class Look(NamedTuple):
    """What there is to say of two arrays before a figure: why they can't be compared (`refused`), why agreeing on this
    reference proves nothing (`hollow`), and how they differ in what the comparator does not see (`unseen`).
    """

    refused: str = ""
    hollow: str = ""
    unseen: str = ""


class Comparator(Protocol):
    """A way of comparing by one figure, the larger the better: one module in `comparators/`.

    `Options` is what the recipe says. Its field `LEAST` is the smallest figure that is right (1 where it has none): that is
    in no key, and another one is judged by what was measured. `PARAMETERS` are the fields that measuring needs: these are in
    the key of a parity that asks for them. The one called `BESIDE`, where there is one, names another output, and is handed
    over as the reference's array of that. `VARIES` is an axis, from the end, that need not be as long as the reference's.

    `figure` takes both arrays and the parameters by name. It is numpy alone and needs nothing around it: the script that is
    kept of a failing case holds its source. `look` is asked first, with the same.
    """

    Options: Any
    PARAMETERS: tuple[str, ...]
    BESIDE: str
    VARIES: int | None
    UNIT: str
    LEAST: str
    figure: Callable[..., float]
    look: Callable[..., Look]
