"""Whose fault it is that a model was not built: decided by what plain tools make of the same model.

Pure. What plain tools get right, and we refuse, is our fault, unless a pass of the recipe broke it, or the refusal is one
that the project makes on purpose, for a reason that is true of the model: `DELIBERATE` lists those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from building import Outcome

# What plain tools say (`plain.py`, `plain_onnx.py`), and whose fault that is.
BLAME = {
    "model": "model", "checker": "model",
    "export": "exporter", "wrong": "exporter",
    "runtime": "runtime", "load": "runtime", "run": "runtime", "crash": "runtime",
}  # fmt: skip

# Refusals on purpose: what onnxbuild says, and what it is about.
DELIBERATE = {
    r"only tensors can be (fed|built)|a type that no recipe can say": "a type that no recipe can say",
    r"the model gives another result for the same data": "random numbers",
}
# These are lifted by `parity.allow_vacuous`; such a recipe is run again with it.
VACUOUS = r"no comparison proves anything|larger than the signal"


class Verdict(NamedTuple):
    """`result` is built, built unproven or refused; `fault` whose it is, "" for nobody's; `reason` in a line."""

    result: str
    fault: str = ""
    reason: str = ""
    plain: str = ""


def judge(plain: Mapping[str, Any], ours: Outcome, *, unproven: bool = False) -> Verdict:
    """The verdict on a model, from what plain tools and what onnxbuild made of it."""
    status = plain["status"]
    if ours.built:
        if plain.get("same") is False:
            return Verdict("built", "ours", "the built file gives other numbers than the original", status)
        return Verdict("built unproven" if unproven else "built", plain=status)
    reason = f"{ours.stage}: {ours.fact.splitlines()[0]}" if ours.fact else ours.stage
    if status != "right":
        return Verdict("refused", BLAME[status], reason, f"{status}: {plain['said']}")
    if ours.stage.startswith(("optimize/", "check/", "parity/")) and not ours.stage.endswith("/export"):
        return Verdict("refused", "pass", reason, status)
    why = next((why for said, why in DELIBERATE.items() if re.search(said, ours.fact)), "")
    return Verdict("refused", "" if why else "ours", f"{why} ({reason})" if why else reason, status)


def is_vacuous(ours: Outcome) -> bool:
    """Whether a recipe was refused because no comparison proves anything."""
    return not ours.built and bool(re.search(VACUOUS, ours.fact))
