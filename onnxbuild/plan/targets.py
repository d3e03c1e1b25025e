"""The branch of the targets: what other runtimes load, and the parity of each that can be run here. Pure, but for what is
installed here, which it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from onnxbuild.contracts import Json, Trait
from onnxbuild.plan import cases, making
from onnxbuild.plan.dag import Stage
from onnxbuild.plan.resolved import Resolved, as_json
from onnxbuild.recipe.types import Recipe, given
from onnxbuild.runtimes import RUNTIMES
from onnxbuild.sources import installed
from onnxbuild.targets import TARGETS


def branch(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    """What other runtimes load, made from the final graph; the parity and the latency of each that can be run here."""
    stages: list[Stage] = []
    for name, options in wanted(resolved):
        made = _target(resolved, before, name, options)
        runtime = RUNTIMES[TARGETS[name].RUNTIME]
        if why := runtime.missing(resolved.root):
            stages.append(msgspec.structs.replace(made, notes=[*made.notes, f"built, not run: {why}"], unrun=why))
        else:
            stages += [made, _target_parity(resolved, made, name, options)]
            stages += _latency(resolved, before, stages[-1], name, options)
    return stages


def _latency(resolved: Resolved, before: Sequence[Stage], proof: Stage, name: str, options: Any) -> list[Stage]:
    """How fast a target runs, beside the graph that it was made of; one whose runtime is only stood in for has no speed."""
    timed = [stage for stage in before if stage.is_a(Trait.TIMES)]
    runtime = RUNTIMES[TARGETS[name].RUNTIME]
    if not timed or runtime.BOUNDS:
        return []
    one = timed[0]
    bound = _bound(resolved.recipe, name, options)
    if bound is not None and bound["shapes"] != one.options["case"]["shapes"]:
        return []  # the files are bound to other sizes
    needs = {role: of for role, of in proof.needs.items() if role != "reference"}
    return [
        msgspec.structs.replace(
            one,
            name=f"{one.name}/{name}",
            options={**one.options, "target": proof.options["target"], "outputs": resolved.export["outputs"]},
            needs={**needs, "onnx": one.needs["graph"]},
            after=[*one.after, proof.name],
            tools=tuple(dict.fromkeys((*one.tools, *runtime.DISTRIBUTIONS))),
            facets=tuple(dict.fromkeys((*one.facets, *runtime.FACETS))),
            fields={**one.fields, "target": ("targets", name)},
        )
    ]


def wanted(resolved: Resolved) -> list[tuple[str, Any]]:
    """The targets of a recipe, less the optional ones whose tools are missing."""
    left = left_out(resolved.recipe, resolved.root)
    return [(name, options) for name, options in given(resolved.recipe.targets) if name not in left]


def left_out(recipe: Recipe, root: Path) -> dict[str, str]:
    """The optional targets that can't be built here, each with what is missing. `root` is the project's.

    One that gives no file is only there to be run: it needs what runs it.
    """
    found = {}
    for name, options in given(recipe.targets):
        module = TARGETS[name]
        absent = [package for package in module.requires(options) if installed.folder_of(package) is None]
        why = f"{', '.join(absent)} is not installed" if absent else ""
        if not why and not module.files(options):
            why = RUNTIMES[module.RUNTIME].missing(root)
        if options.optional and why:
            found[name] = why
    return found


def _target(resolved: Resolved, before: Sequence[Stage], name: str, options: Any) -> Stage:
    module, graph = TARGETS[name], making.last_graph(before)
    section = as_json(options)
    own = {key: section[key] for key in module.Options.__struct_fields__ if key in section}
    shapes = as_json(resolved.recipe.export.shapes()) if module.SHAPED else None
    bound = _bound(resolved.recipe, name, options)
    if shapes is not None and bound is not None:
        shapes["inputs"] = {key: {**spec, "shape": bound["shapes"][key]} for key, spec in shapes["inputs"].items()}
    return making.stage(
        f"target/{name}",
        "target",
        {
            "target": name,
            "options": own,
            "shapes": shapes,
            "published": None if module.files(options) else {"external_data": resolved.recipe.package.external_data},
        },
        version=module.VERSION,
        tools=module.DISTRIBUTIONS,
        needs={"graph": (graph, "graph")},
        after=making.proofs_of(graph),
        facets=tuple(module.facets(options)),
        fields={
            "target": ("targets", name),
            "options": ("targets", name),
            "shapes": ("export",),
            "published": ("package",),
        },
        entry=("targets", name),
        proof=f"parity/{making.short(graph)}",
        notes=list(module.notes(options)),
    )


def _target_parity(resolved: Resolved, made: Stage, name: str, options: Any) -> Stage:
    """What holds the files of a target against the source model."""
    module = TARGETS[name]
    runtime = RUNTIMES[module.RUNTIME]
    first, *others = module.files(options) or ("graph",)
    stage = making.parity(resolved, f"parity/{name}", (made.name, first))
    target = {"name": name, "files": list(module.files(options)), "example": resolved.samples["cases"][0]["name"]}
    if not module.files(options):
        target["published"] = made.options["published"]
    own = options.parity
    compared, told = _comparable(resolved, name, options)
    return msgspec.structs.replace(
        stage,
        options={**stage.options, "cases": compared, "target": target},
        needs={**stage.needs, **{file: (made.name, file) for file in others}},
        tools=tuple(dict.fromkeys((*stage.tools, *runtime.DISTRIBUTIONS))),
        facets=tuple(dict.fromkeys((*stage.facets, *runtime.FACETS))),
        fields={**stage.fields, "target": ("targets", name)},
        tolerances=stage.tolerances if own is UNSET else own,
        notes=told,
    )


def more_cases(recipe: Recipe, taken: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """The cases at the sizes that targets are bound to, where none of those `taken` is."""
    found: list[dict[str, Json]] = []
    for name, options in given(recipe.targets):  # missing tools change no other stage
        case = _bound(recipe, name, options)
        if case is not None and case["shapes"] not in [one["shapes"] for one in (*taken, *found)]:
            found.append(case)
    return found


def _bound(recipe: Recipe, name: str, options: Any) -> dict[str, Json] | None:
    """The case at the sizes that a target's files are bound to; None where they take any."""
    sizes = TARGETS[name].fixed(options)
    return None if sizes is None else cases.case_at(recipe.export, sizes)


def _comparable(resolved: Resolved, name: str, options: Any) -> tuple[list[dict[str, Json]], list[str]]:
    """The cases that a target's files can be run at, and what is to be said of the others."""
    every, bound = resolved.samples["cases"], _bound(resolved.recipe, name, options)
    if bound is None:
        return every, []
    own = [case for case in every if case["shapes"] == bound["shapes"]]
    others = len(every) - len(own)
    sizes = cases.name_of(bound["dims"])
    said = f"the files are bound to {sizes}: compared there alone, and at none of the sizes of {others} other "
    return own, [f"{said}{'cases' if others > 1 else 'case'}"] if others else []
