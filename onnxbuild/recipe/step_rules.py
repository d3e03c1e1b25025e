"""What must hold between the steps of `prepend` and `append` and what the model takes and gives. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnxbuild.recipe import export_rules, interface, relations
from onnxbuild.recipe.findings import Finding, Path, exactly_one
from onnxbuild.recipe.types import Append, Export, Prepend, given
from onnxbuild.steps import STEPS, chains, function
from onnxbuild.steps.interface import OPSET, UnfitError, shown
from onnxbuild.text.wording import did_you_mean

KEY = "function"


def published(
    export: Export, prepend: Mapping[str, Prepend] | None, append: Mapping[str, Append] | None
) -> tuple[Export | None, list[Finding]]:
    """The published interface, None where that can't be told; and everything that is wrong with the steps."""
    if prepend is None or append is None:
        return None, []
    if not prepend and not append:
        return export, []
    found = [*_each_one_key("prepend", prepend), *_each_one_key("append", append)]
    if not found and export.opset < OPSET:
        fact = f"prepend and append need opset {OPSET} or later, not {export.opset}"
        found.append(Finding(("export", "opset"), fact, f"raise it to {OPSET}, or take the steps out"))
    for name, one in prepend.items() if not found else ():
        found += _prepended(export, name, one, prepend)
    found = found or [*_appended(export, append)]
    if found or list(export_rules.check(export)):
        return None, found
    try:
        whole = interface.of(export, prepend, append)
    except UnfitError as error:
        path: Path = ("append", error.output)
        return None, [_of_step(path, interface.steps_of(append[error.output].steps), error)]
    return whole, [*_unique(export, prepend, append), *_rows(append)] or [*_of_whole(whole, prepend)]


def _each_one_key(section: str, those: Mapping[str, Prepend] | Mapping[str, Append]) -> Iterator[Finding]:
    for name, one in those.items():
        for number, step in enumerate(one.steps):
            keys = [key for key, _ in given(step)]
            if len(keys) != 1:
                yield exactly_one((section, name, "steps", number), keys, [*STEPS])


def _prepended(export: Export, name: str, one: Prepend, prepend: Mapping[str, Prepend]) -> Iterator[Finding]:
    """The steps before one input: they give what the model takes."""
    path: Path = ("prepend", name)
    if name not in export.inputs:
        yield Finding(path, f"unknown input '{name}'", did_you_mean(name, export.inputs), key=True)
        return
    for axis in one.dynamic_axes:
        if int(axis) >= len(one.shape):
            fact = f"axis {axis} is out of range: the shape {one.shape} has {len(one.shape)} axes"
            yield Finding((*path, "dynamic_axes", axis), fact, "axes are counted from 0", key=True)
            return
    for dim in one.dims:
        if dim in export.dims:
            yield Finding((*path, "dims", dim), f"'{dim}' is in export.dims already", "say it in one place", key=True)
    steps = interface.steps_of(one.steps)
    try:
        results = chains.gives(interface.fed(one), steps, {}, interface.least(export, prepend))
    except UnfitError as error:
        yield _of_step(path, steps, error)
        return
    spec = export.inputs[name]
    wanted = interface.tensor(spec.dtype, spec.shape, export.dynamic_axes.get(name, {}))
    if len(results) != 1:
        fact = f"the last step gives {len(results)} values, and the model's input is one"
        yield Finding((*path, "steps"), fact, "such a step belongs into append")
    elif results[0] != wanted:
        yield Finding(
            (*path, "steps"),
            f"the steps give {shown(results[0])}, and the model takes {shown(wanted)}",
            (_to_fit(name, results[0].shape, wanted.shape)),
        )


def _to_fit(name: str, got: list[int | str], wanted: list[int | str]) -> str:
    """What to do about steps that give another shape or dtype than the model takes."""
    if len(got) == len(wanted):
        for axis, (has, needs) in enumerate(zip(got, wanted, strict=True)):
            if isinstance(needs, str) and isinstance(has, int):
                return f"the steps fix axis {axis}: take it out of export.dynamic_axes.{name}"
            if isinstance(has, str) and isinstance(needs, int):
                return f"resize what is '{has}' to {needs}, or name axis {axis} so in export.dynamic_axes.{name}"
            if has != needs and isinstance(needs, str):
                return f"call '{has}' '{needs}' in prepend.{name}.dynamic_axes, as the model does"
    return f"change the steps, or what export.inputs.{name} says"


def _appended(export: Export, append: Mapping[str, Append]) -> Iterator[Finding]:
    """Each output that steps take: there is such a one, of that shape, and its results have names."""
    sizes = relations.all_sizes(export, relations.free(export))[0]
    for name, one in append.items():
        path: Path = ("append", name)
        if name not in export.outputs:
            yield Finding(path, f"unknown output '{name}'", did_you_mean(name, export.outputs), key=True)
            continue
        for axis, dim in export.dynamic_axes.get(name, {}).items():
            if int(axis) >= len(one.shape):
                fact = f"the shape {one.shape} has no axis {axis}, which export.dynamic_axes.{name} names"
                yield Finding((*path, "shape"), fact, "give the size of every axis at the example")
            elif sizes.get(dim, one.shape[int(axis)]) != one.shape[int(axis)]:
                fact = (
                    f"the dimension '{dim}' has the size {sizes[dim]} in the example, and {one.shape[int(axis)]} here"
                )
                yield Finding((*path, "shape", int(axis)), fact, f"make it {sizes[dim]}")
        if not one.steps and (one.outputs or one.keep):
            yield Finding((*path, "steps"), "there are no steps, and so no results", "take out outputs and keep")


def functions(opset: int, prepend: Mapping[str, Prepend], append: Mapping[str, Append]) -> Iterator[Finding]:
    """What is wrong with functions by the opset of the model, whose nodes they become."""
    for section, those in (("prepend", prepend), ("append", append)):
        for name, one in those.items():
            texts = [
                (number, options) for number, step in enumerate(one.steps) for key, options in given(step) if key == KEY
            ]
            for number, options in texts:
                if (said := function.opset(options)) not in (None, opset):
                    fact = f"the function is of opset {said}, the model of {opset}"
                    path: Path = (section, name, "steps", number, KEY, "text")
                    yield Finding(path, fact, f'write opset_import: ["" : {opset}]')


def _rows(append: Mapping[str, Append]) -> Iterator[Finding]:
    """Of boxes that are left, each output has a number of its own."""
    first: dict[str, str] = {}
    for name, one in append.items():
        for number, (step, options) in enumerate(interface.steps_of(one.steps)):
            if step == "nms" and first.setdefault(options.dim, name) != name:
                fact = f"append.{first[options.dim]} has rows called '{options.dim}', too"
                path: Path = ("append", name, "steps", number, step, "dim")
                yield Finding(path, fact, "they are not as many: give each its own name")


def _of_step(path: Path, steps: chains.Steps, error: UnfitError) -> Finding:
    if error.step is None:
        return Finding((*path, "outputs"), error.fact, error.hint)
    name = steps[error.step][0]
    return Finding((*path, "steps", error.step, name), f"{name}: {error.fact}", error.hint, key=True)


def _unique(export: Export, prepend: Mapping[str, Prepend], append: Mapping[str, Append]) -> Iterator[Finding]:
    """Names of inputs and outputs: each stands for one value."""
    inputs = [(("prepend", name, "name"), one.name) for name, one in prepend.items() if one.name not in ("", name)]
    taken = {name for name in export.inputs if name not in prepend or prepend[name].name in ("", name)}
    kept = [name for name in export.outputs if name not in append or append[name].keep or not append[name].steps]
    results = [
        ((("append", name, "outputs", number) if one.outputs else ("append", name)), result)
        for name, one in append.items()
        for number, result in enumerate(interface.names(name, one))
    ]
    taken |= set(kept)
    for path, name in (*inputs, *results):
        if name in taken:
            yield Finding(path, f"'{name}' is the name of another input or output", "give it a name of its own")
        taken.add(name)


def _of_whole(whole: Export, prepend: Mapping[str, Prepend]) -> Iterator[Finding]:
    """What is wrong with axes, dimensions and examples of the new inputs, at the places where they are written."""
    called = {one.name or name: name for name, one in prepend.items()}
    owner = {dim: name for name, one in prepend.items() for dim in one.dims}
    for one in export_rules.check(whole):
        match one.path:
            case ("export", "inputs", name, *rest) if name in called:
                path: tuple[Any, ...] = ("prepend", called[str(name)], *rest)
            case ("export", "dims", dim, *rest) if dim in owner:
                path = ("prepend", owner[str(dim)], "dims", dim, *rest)
            case _:
                path = one.path
        hint = one.hint
        for dim, name in owner.items():
            hint = hint.replace(f"export.dims.{dim}", f"prepend.{name}.dims.{dim}")
        yield one._replace(path=path, hint=hint)
