"""The branch of the targets: what other runtimes load, and the parity of each that can be run here. Pure, but for what is
installed here, which it asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from onnxbuild.contracts import Trait
from onnxbuild.plan import making
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
            stages += _latency(resolved, before, stages[-1], name)
    return stages


def _latency(resolved: Resolved, before: Sequence[Stage], proof: Stage, name: str) -> list[Stage]:
    """How fast a target runs, beside the graph that it was made of; one whose runtime is only stood in for has no speed."""
    timed = [stage for stage in before if stage.is_a(Trait.TIMES)]
    runtime = RUNTIMES[TARGETS[name].RUNTIME]
    if not timed or runtime.BOUNDS:
        return []
    one = timed[0]
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
    return making.stage(
        f"target/{name}",
        "target",
        {
            "target": name,
            "options": own,
            "shapes": shapes,
            "published": None if module.files(options) else as_json(resolved.recipe.package),
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
    target = {"name": name, "files": list(module.files(options))}
    if not module.files(options):
        target["published"] = made.options["published"]
    own = options.parity
    return msgspec.structs.replace(
        stage,
        options={**stage.options, "target": target},
        needs={**stage.needs, **{file: (made.name, file) for file in others}},
        tools=tuple(dict.fromkeys((*stage.tools, *runtime.DISTRIBUTIONS))),
        facets=tuple(dict.fromkeys((*stage.facets, *runtime.FACETS))),
        fields={**stage.fields, "target": ("targets", name)},
        tolerances=stage.tolerances if own is UNSET else own,
    )
