"""From a recipe to its stages: names, options, order, and what needs what.

Touches no file, no store, no clock; a source that takes weights from an installed package asks where that is. The stages
come branch by branch, see `branches`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path as FilePath

import msgspec
from msgspec import Struct

from onnxbuild.contracts import Companion, Json, Trait
from onnxbuild.parity.tolerance import Tolerances

Path = tuple[str | int, ...]


class Stage(Struct, frozen=True):
    """One node of the DAG.

    `module` is the Python module that runs it. `needs` maps a role to the stage and output role it takes; `files` a role
    to the path of a declared input file, and `companions` gives what those name in turn, or what lies in a declared
    `folder`; `after` names stages that must
    have succeeded first though nothing of theirs is taken; one that is `early` may run beside those, and counts once they
    are done. `fields` maps the parts of `options` to the recipe's fields
    that they come from; `entry` is the one of a plug-in that asks for the stage. `proof` names the stage that finds out
    whether the runtime can run the graph that this one takes: where it can't and need not, this one is skipped.
    `tolerances` are what the facts of one that proves a graph are judged by, and `allowed_at` where the recipe
    says so; they are in no key. `unrun` is why what it
    makes can't be run here. `published` are the names that steps and `rename` give to what is published, each with where
    the recipe says so.
    """

    name: str
    kind: str
    module: str
    version: str
    options: dict[str, Json]
    needs: dict[str, tuple[str, str]] = {}
    files: dict[str, str] = {}
    companions: Callable[[Mapping[str, FilePath]], Mapping[str, Companion]] | None = None
    folder: str = ""
    after: list[str] = []
    early: bool = False
    preload: str = "onnx"
    tools: tuple[str, ...] = ()
    facets: tuple[str, ...] = ()
    traits: frozenset[Trait] = frozenset()
    fields: dict[str, Path] = {}
    entry: Path = ()
    proof: str = ""
    tolerances: Tolerances | None = None
    allowed_at: Path = ()
    unrun: str = ""
    notes: list[str] = []
    published: dict[str, Path] = {}

    @property
    def upstream(self) -> list[str]:
        """Every stage that must be done before this one: those that it takes from first, in the order of `needs`."""
        return list(dict.fromkeys([stage for stage, _ in self.needs.values()] + self.after))

    @property
    def first(self) -> list[str]:
        """Every stage that must be done before this one may be started."""
        return [stage for stage, _ in self.needs.values()] if self.early else self.upstream

    def is_a(self, trait: Trait) -> bool:
        """Whether its kind has a trait."""
        return trait in self.traits


class Plan(Struct, frozen=True):
    """The stages of a recipe in an order in which they can run, the cases that were left out and why, and what a reader
    has to know of the sizes. `source` is the stage that brings the model in.
    """

    stages: list[Stage]
    source: str
    cases_left_out: list[dict[str, Json]]
    remarks: list[str] = []
    targets_left_out: dict[str, str] = {}  # optional ones whose tools are missing, and which

    def without(self, trait: Trait) -> Plan:
        """The plan without the stages that have a trait, of which no other takes anything."""
        kept = [stage for stage in self.stages if not stage.is_a(trait)]
        names = {stage.name for stage in kept}
        stages = [
            msgspec.structs.replace(stage, after=[name for name in stage.after if name in names]) for stage in kept
        ]
        return msgspec.structs.replace(self, stages=stages)

    def those(self, trait: Trait) -> list[Stage]:
        """The stages whose kind has a trait, in order."""
        return [stage for stage in self.stages if stage.is_a(trait)]
