"""What is to be done about one stage: nothing, since the store answers it, or run it, and why.

The one place that decides it: a run, a plan and a verification all ask here. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.plan.dag import Stage
from onnxbuild.queries import reasons
from onnxbuild.queries.lookup import Found, Lookup
from onnxbuild.queries.reasons import Reason
from onnxbuild.store.traces import Trace
from onnxbuild.system import oserrors


class Given(Struct, frozen=True):
    """What a stage takes: the refs of what other stages gave, and the declared files with their companions, all by role;
    and why a companion is `refused`, where one is: its stage will fail with that.
    """

    refs: dict[str, str]
    files: dict[str, Path]
    refused: dict[str, str] = {}


class Decision(Struct, frozen=True):
    """`held`: the store answers it with `trace`. `run`: it is to be run, for `reasons`. `skip`: it can't be run here, and
    need not be. `fails`: one of its files can't be read; `fact` and `hint` say so.
    """

    state: Literal["held", "run", "skip", "fails"]
    reasons: list[Reason] = []
    found: Found | None = None
    trace: Trace | None = None
    fact: str = ""
    hint: str = ""

    @property
    def why(self) -> list[str]:
        """The reasons in words."""
        return [reason.text for reason in self.reasons]


def given(stage: Stage, outputs: Mapping[str, Mapping[str, str]], root: Path) -> Given:
    """What a stage takes, `outputs` being what each stage gave, by output role. Raises KeyError where one gave nothing."""
    refs = {role: outputs[name][output] for role, (name, output) in stage.needs.items()}
    files = {role: recipes.resolve(root, path) for role, path in stage.files.items()}
    companions = stage.companions(files) if stage.companions else {}
    good = {role: one.path for role, one in companions.items() if not one.refused}
    return Given(refs, files | good, {role: one.refused for role, one in companions.items() if one.refused})


def not_run(stage: Stage, outcomes: Mapping[str, Outcome]) -> str:
    """Why the runtime can't run the graph that a stage takes, where the recipe allows that it can't; else ""."""
    proof = outcomes.get(stage.proof)
    return proof.facts.get("not_run") or "" if proof is not None else ""


def decide(stage: Stage, taken: Given, lookup: Lookup, dest: Path, unrunnable: str = "") -> Decision:
    """What is to be done about a stage; `dest` is where its recipe publishes, `unrunnable` what `not_run` says."""
    if unrunnable:
        return Decision("skip", [reasons.of_store(unrunnable)])
    try:
        found = lookup.find(stage, taken.refs, taken.files, taken.refused)
    except OSError as error:
        fact, hint = oserrors.explain(error)
        return Decision("fails", [reasons.of_store(f"{error.filename}: {error.strerror}")], fact=fact, hint=hint)
    if found.trace is None:
        return Decision("run", found.reasons, found)
    if stage.is_a(Trait.PUBLISHES) and not lookup.is_published(found.trace.outcome, dest):
        why = reasons.of_store(lookup.unpublished(found.trace.outcome, dest))
        return Decision("run", [why], found, found.trace)
    return Decision("held", [], found, found.trace)


def task_for(stage: Stage, taken: Given, objects: Path, root: Path, scratch: Path, dest: Path) -> Task:
    """The task that runs a stage. `objects` is the folder that holds what the refs name, `dest` where it would publish."""
    inputs = {role: str(objects / ref) for role, ref in taken.refs.items()}
    inputs |= {role: str(path) for role, path in taken.files.items()}
    published = str(dest.absolute()) if stage.is_a(Trait.PUBLISHES) else ""
    return Task(stage.name, stage.module, stage.options, inputs, str(root), str(objects), str(scratch), published)
