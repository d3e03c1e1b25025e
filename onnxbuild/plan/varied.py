"""A recipe with other nodes listed in one of its passes, or without that pass, for measuring what the nodes cost. Pure.

Neither is ever published.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from onnxbuild.parity.tolerance import Tolerances
from onnxbuild.passes import EXCLUDING, PASSES
from onnxbuild.plan import making
from onnxbuild.plan.dag import Plan, Stage
from onnxbuild.plan.resolved import as_json
from onnxbuild.recipe.types import Recipe, chosen

CANDIDATES = "candidates"


def listing(recipe: Recipe, number: int, names: Sequence[str]) -> Recipe:
    """The recipe up to the pass at `optimize[number]`, which lists these nodes besides its own."""
    passes: list[Any] = list(recipe.optimize)
    name, options = chosen(passes[number])
    option = EXCLUDING[name].option
    more = msgspec.structs.replace(options, **{option: [*getattr(options, option), *names]})
    passes[number] = msgspec.structs.replace(passes[number], **{name: more})
    return msgspec.structs.replace(recipe, optimize=passes[: number + 1])


def candidates(recipe: Recipe, number: int, plan: Plan) -> Stage:
    """The stage that lists the nodes which the pass at `optimize[number]` would change, of the last graph of a plan."""
    name, options = chosen(recipe.optimize[number])
    return making.stage(
        CANDIDATES,
        "candidates",
        {"pass": name, "options": as_json(options)},
        version=PASSES[name].VERSION,
        tools=PASSES[name].DISTRIBUTIONS,
        needs={"graph": (making.last_graph(plan.stages), "graph")},
    )


def before(recipe: Recipe, number: int) -> Recipe:
    """The recipe up to the pass before `optimize[number]`, what is allowed being as from that pass on."""
    every: list[Any] = list(recipe.optimize)
    own = [one.parity for one in every[: number + 1] if one.parity is not UNSET]
    passes = every[:number]
    allowed: Tolerances | None = own[-1] if own else None
    parity = recipe.parity
    if allowed is not None and passes:
        passes[-1] = msgspec.structs.replace(passes[-1], parity=allowed)
    elif allowed is not None:
        fields = {field: getattr(allowed, field) for field in Tolerances.__struct_fields__}
        parity = msgspec.structs.replace(parity, **fields)
    return msgspec.structs.replace(recipe, optimize=passes, parity=parity)
