"""Plans as types: the shape of `onnxbuild plan --json`, which `schemas/plan.schema.json` publishes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild.forecast import Foreseen, State


class PlannedStage(Struct, frozen=True):
    name: str  # "optimize/1-onnxsim"
    kind: str  # "optimize"
    state: State
    certain: bool  # False: by inputs as they were the last time, since a stage before would run
    why: list[str]  # the most telling reason first; empty where up to date
    needs: list[str]  # the stages whose results it takes
    after: list[str]  # stages that must have succeeded first, though nothing of theirs is taken
    key: str | None  # SHA-256 of its document; None while an input is not known
    seconds: float | None  # that it took the last time


class RecipePlan(Struct, frozen=True):
    name: str
    path: str  # as it was given
    up_to_date: bool
    stages: list[PlannedStage]  # in an order in which they can run


class Plans(Struct, frozen=True):
    """What a run of these recipes would do."""

    version: Literal[1]
    up_to_date: bool  # nothing would run, and nothing fails: at most a benchmark is skipped that can't be run here
    recipes: list[RecipePlan]


def encode(plans: Sequence[tuple[recipes.Loaded, Sequence[Foreseen]]]) -> str:
    """The plans of several recipes as JSON."""
    each = [
        RecipePlan(
            loaded.recipe.name, str(loaded.path), all(one.idle for one in stages), [_planned(one) for one in stages]
        )
        for loaded, stages in plans
    ]
    whole = Plans(1, all(plan.up_to_date for plan in each), each)
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def _planned(one: Foreseen) -> PlannedStage:
    stage = one.stage
    needs = list(dict.fromkeys(name for name, _ in stage.needs.values()))
    key = one.found.key if one.found is not None and not one.assumed else None
    seconds = round(one.last.seconds, 3) if one.last else None
    return PlannedStage(
        stage.name, stage.kind, one.state, not one.assumed, one.why, needs, list(stage.after), key, seconds
    )
