"""The branch of the targets: what other runtimes load, and the parity of each that can be run here. Pure, but for what is
installed here, which it asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from onnxbuild.contracts import Json, Trait
from onnxbuild.plan import cases, making, metrics
from onnxbuild.plan.dag import Stage
from onnxbuild.plan.resolved import Resolved, as_json, data_files, ordered
from onnxbuild.recipe.types import Export, Recipe, given
from onnxbuild.runtimes import RUNTIMES
from onnxbuild.sources import PROGRAMS, installed
from onnxbuild.targets import OF_PROGRAMS, TARGETS


def branch(resolved: Resolved, before: Sequence[Stage]) -> list[Stage]:
    """What other runtimes load, made from the final graph; the parity and the latency of each that can be run here."""
    stages: list[Stage] = []
    for name, options in wanted(resolved):
        made = _target(resolved, before, name, options)
        runtime = RUNTIMES[TARGETS[name].RUNTIME]
        if why := runtime.missing(resolved.root):
            stages.append(msgspec.structs.replace(made, notes=[*made.notes, f"built, not run: {why}"], unrun=why))
        else:
            proof = _target_parity(resolved, made, name, options, _allowed(resolved, before, name, options))
            stages += [made, proof, *metrics.of_target(resolved, before, proof, name, options)]
            stages += _latency(resolved, before, proof, name, options)
    return stages


def _latency(resolved: Resolved, before: Sequence[Stage], proof: Stage, name: str, options: Any) -> list[Stage]:
    """How fast a target runs, beside the graph that it was made of; one whose runtime is only stood in for has no speed."""
    timed = [stage for stage in before if stage.is_a(Trait.TIMES)]
    runtime = RUNTIMES[TARGETS[name].RUNTIME]
    if not timed or runtime.BOUNDS:
        return []
    one = timed[0]
    bound = _bound(resolved.published, name, options)
    if bound and one.options["case"]["shapes"] not in [case["shapes"] for case in bound]:
        return []  # the files are bound to other sizes
    needs = {role: of for role, of in proof.needs.items() if role != "reference"}
    return [
        msgspec.structs.replace(
            one,
            name=f"{one.name}/{name}",
            options={**one.options, "target": proof.options["target"], "outputs": resolved.interface["outputs"]},
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
    """The optional targets that can't be built here, each with what is missing and brings it. `root` is the project's.

    One that gives no file is only there to be run: it needs what runs it.
    """
    found = {}
    for name, options in given(recipe.targets):
        module = TARGETS[name]
        required = module.requires(options).items()
        absent = {package: extra for package, extra in required if installed.folder_of(package) is None}
        extras = ",".join(dict.fromkeys(absent.values()))
        why = f"{', '.join(absent)} is not installed: pip install 'onnxbuild[{extras}]'" if absent else ""
        if not why and not module.files(options):
            why = RUNTIMES[module.RUNTIME].missing(root)
        if options.optional and why:
            found[name] = why
    return found


def _target(resolved: Resolved, before: Sequence[Stage], name: str, options: Any) -> Stage:
    module, graph = TARGETS[name], making.last_graph(before)
    section = as_json(options)
    own = {key: section[key] for key in module.Options.__struct_fields__ if key in section}
    (kind,) = resolved.model
    asked = {
        "target": name,
        "options": own,
        "shapes": _shapes(resolved, name, options),
        "published": None if module.files(options) else {"external_data": resolved.recipe.package.external_data},
        "programs": (kind in PROGRAMS and name in OF_PROGRAMS and not _of_program(name, options)) or None,
    }
    made = making.stage(
        f"target/{name}",
        "target",
        asked,
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
            "source": ("model",),
            "export": ("export",),
        },
        entry=("targets", name),
        proof=f"parity/{making.short(graph)}",
        notes=list(module.notes(options)),
    )
    return _from_source(resolved, made, name, options) if _of_program(name, options) else made


def _of_program(name: str, options: Any) -> bool:
    """Whether a target is to be made from the source's own model."""
    return name in OF_PROGRAMS and OF_PROGRAMS[name].of_program(options)


def _from_source(resolved: Resolved, made: Stage, name: str, options: Any) -> Stage:
    """The stage of a target that is made from the source's own model: it takes that, and no graph."""
    of_model = making.of_source(
        "target",
        {"source": resolved.model, "export": _captured(resolved, name, options), "order": ordered(resolved)},
        resolved,
        data_files(resolved.export["inputs"], []),
    )
    return msgspec.structs.replace(
        made,
        options={**made.options, **of_model.options},
        version=f"{made.version}.{resolved.source.VERSION}",
        tools=tuple(dict.fromkeys((*made.tools, *of_model.tools))),
        needs={},
        files=of_model.files,
        companions=of_model.companions,
        preload=of_model.preload,
        facets=tuple(dict.fromkeys((*made.facets, *of_model.facets))),
        proof="",
    )


def _captured(resolved: Resolved, name: str, options: Any) -> dict[str, Json]:
    """The `export` section for the program: dynamic in the dimensions that the target leaves several sizes of, those at
    the example's sizes; fixed at the target's own in all others. What the exporter and its opset are does not matter.
    """
    export, sizes = resolved.export, TARGETS[name].fixed(options)
    choices = _choices(resolved.published, name, options)
    varied = [dim for dim in choices if sizes is None or len(sizes.get(dim, [0])) != 1]
    at = {dim: size for dim, (size, *_) in choices.items() if dim not in varied}
    shapes = cases.case_at(resolved.recipe.export, at)["shapes"]
    kept = {key: value for key, value in export.items() if key not in ("exporter", "opset")}
    axes = {
        input_: left
        for input_, own in export["dynamic_axes"].items()
        if input_ in shapes and (left := {axis: dim for axis, dim in own.items() if dim in varied})
    }
    inputs = {input_: {**spec, "shape": shapes[input_]} for input_, spec in export["inputs"].items()}
    return {**kept, "inputs": inputs, "dynamic_axes": axes}


def _shapes(resolved: Resolved, name: str, options: Any) -> dict[str, Json] | None:
    """What is declared, as the target is handed it: at the sizes that its files are bound to."""
    if not TARGETS[name].SHAPED:
        return None
    shapes: dict[str, Json] = as_json(resolved.published.shapes())
    bound = _bound(resolved.published, name, options)
    if bound:
        shapes["inputs"] = {key: {**spec, "shape": bound[0]["shapes"][key]} for key, spec in shapes["inputs"].items()}
    if len(bound) > 1:
        free = cases.example_dims(resolved.published)
        shapes["variants"] = [
            {"dims": {dim: case["dims"][dim] for dim in free}, "shapes": case["shapes"]} for case in bound
        ]
    return shapes


def _allowed(resolved: Resolved, before: Sequence[Stage], name: str, options: Any) -> making.Allowed:
    """A target's own tolerances, else those of the graph that it is made of: what a pass may cost, it may."""
    if options.parity is not UNSET:
        return making.Allowed(options.parity, ("targets", name, "parity"))
    last = [stage for stage in before if stage.is_a(Trait.PROVES)][-1]
    if _of_program(name, options) or last.tolerances is None:
        return making.allowed(resolved.recipe)
    return making.Allowed(last.tolerances, last.allowed_at)


def _target_parity(resolved: Resolved, made: Stage, name: str, options: Any, allowed: making.Allowed) -> Stage:
    """What holds the files of a target against the source model."""
    module = TARGETS[name]
    runtime = RUNTIMES[module.RUNTIME]
    first, *others = module.files(options) or ("graph",)
    stage = making.parity(resolved, f"parity/{name}", (made.name, first), allowed)
    target = {"name": name, "files": list(module.files(options)), "example": resolved.samples["cases"][0]["name"]}
    if not module.files(options):
        target["published"] = made.options["published"]
    compared, told = _comparable(resolved, name, options)
    return msgspec.structs.replace(
        stage,
        options={**stage.options, "cases": compared, "target": target},
        needs={**stage.needs, **{file: (made.name, file) for file in others}},
        tools=tuple(dict.fromkeys((*stage.tools, *runtime.DISTRIBUTIONS))),
        facets=tuple(dict.fromkeys((*stage.facets, *runtime.FACETS))),
        fields={**stage.fields, "target": ("targets", name)},
        notes=[*told, *metrics.untold(resolved, name, options)],
    )


def more_cases(recipe: Recipe, published: Export, taken: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    """The cases at the sizes that targets are bound to, where none of those `taken` is."""
    found: list[dict[str, Json]] = []
    for name, options in given(recipe.targets):  # missing tools change no other stage
        for case in _bound(published, name, options):
            if case["shapes"] not in [one["shapes"] for one in (*taken, *found)]:
                found.append(case)
    return found


def _choices(published: Export, name: str, options: Any) -> dict[str, Sequence[int]]:
    """The sizes of each dimension that a target's files are bound to, the example's for one that may have any."""
    sizes = TARGETS[name].fixed(options) or {}
    return {dim: sizes.get(dim) or [size] for dim, size in cases.example_dims(published).items()}


def _bound(published: Export, name: str, options: Any) -> list[dict[str, Json]]:
    """The cases at the sizes that a target's files are bound to, all combinations of them; none where they take any."""
    if TARGETS[name].fixed(options) is None:
        return []
    choices = _choices(published, name, options)
    rows = (dict(zip(choices, row, strict=True)) for row in product(*choices.values()))
    return [cases.case_at(published, row) for row in rows]


def _comparable(resolved: Resolved, name: str, options: Any) -> tuple[list[dict[str, Json]], list[str]]:
    """The cases that a target's files can be run at, and what is to be said of the others."""
    every, sizes = resolved.samples["cases"], TARGETS[name].fixed(options)
    if sizes is None:
        return every, []
    example = cases.example_dims(resolved.published)
    allowed = {dim: sizes.get(dim, [size]) for dim, size in example.items()}
    own = [case for case in every if all(not some or case["dims"][dim] in some for dim, some in allowed.items())]
    others = len(every) - len(own)
    bound = ", ".join(f"{dim}={'|'.join(map(str, some))}" for dim, some in allowed.items() if some)
    said = f"the files are bound to {bound}: compared there alone, and at none of the sizes of {others} other "
    return own, [f"{said}{'cases' if others > 1 else 'case'}"] if others else []
