"""What a comparison comes to: the types that judging gives and the report holds, and what a comparator module must have.

Types only; needs no numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Json

Value: TypeAlias = float | int | bool | str
Kind = Literal["", "beyond", "unsure", "unequal", "nonfinite", "interface", "not run"]


class Element(Struct, frozen=True):
    """One element of an output, on both sides; NaN and infinities are strings."""

    index: list[int]
    got: Value
    reference: Value


class Verdict(Struct, frozen=True):
    """One output of one graph at one case. `rtol` and `atol` are None where only equality will do.

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


class Judgement(Struct, frozen=True):
    """What a comparator says of two arrays; `kind` and `note` are "" where they are alike enough."""

    worst: Element | None = None
    kind: Kind = ""
    note: str = ""
    headroom: float | None = None


class Comparator(Protocol):
    """A way of comparing: one module in `comparators/`.

    `Options` is its tolerance, which is in no key: `measure` gives facts from which any tolerance can be judged later.
    `judge` decides from them; `remedy` words a tolerance, as the recipe would have it, under which two results that are
    `apart` by these facts don't pass for each other, "" where there is none.
    """

    Options: Any

    def measure(self, got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> dict[str, Json]: ...
    def judge(self, row: Json, options: Any) -> Judgement: ...
    def remedy(self, apart: Json, options: Any) -> str: ...
