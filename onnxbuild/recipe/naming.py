"""What the pass `rename` makes of an interface, and what is wrong with it. Pure: from the recipe's types to findings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from onnxbuild.graphs import dimensions
from onnxbuild.recipe import export_rules
from onnxbuild.recipe.findings import Finding, Path
from onnxbuild.recipe.types import Export, Input
from onnxbuild.text.wording import did_you_mean

if TYPE_CHECKING:
    from onnxbuild.passes import rename

KEY = "rename"
PLACE: Path = ("optimize", 0, KEY)


def of(optimize: Sequence[Any]) -> rename.Options | None:
    """The options of a recipe's `rename`; None where it has none."""
    found = getattr(optimize[0], KEY) if optimize else UNSET
    return None if found is UNSET else found


def renamed(export: Export, options: rename.Options | None) -> Export:
    """An interface with the names that it is published by."""
    if options is None:
        return export
    axes: dict[str, dict[str, str]] = {}
    for names, own in ((export.inputs, options.inputs), (export.outputs, options.outputs)):
        for name in names:
            if name in export.dynamic_axes:
                dims = export.dynamic_axes[name].items()
                axes[own.get(name, name)] = {axis: options.dims.get(dim, dim) for axis, dim in dims}
    return msgspec.structs.replace(
        export,
        inputs={options.inputs.get(name, name): _with_key(name, one) for name, one in export.inputs.items()},
        outputs=[options.outputs.get(name, name) for name in export.outputs],
        dynamic_axes=axes,
        dims={
            options.dims.get(name, name): dimensions.renamed(dim, options.dims) if isinstance(dim, str) else dim
            for name, dim in export.dims.items()
        },
        arguments=UNSET,
    )


def _with_key(name: str, one: Input) -> Input:
    """An input whose array in a file still goes by the name that it has where the recipe describes it."""
    if one.data is UNSET or one.data.npz is UNSET or one.data.npz.key:
        return one
    npz = msgspec.structs.replace(one.data.npz, key=name)
    return msgspec.structs.replace(one, data=msgspec.structs.replace(one.data, npz=npz))


def input_before(optimize: Sequence[Any], name: str) -> str:
    """What a published input is called before it is renamed."""
    options = of(optimize)
    return _backwards(options.inputs).get(name, name) if options is not None else name


def told(findings: Iterable[Finding], optimize: Sequence[Any]) -> Iterator[Finding]:
    """Findings about a published interface, which say what to write in `export` by the names that it has there."""
    options = of(optimize)
    own = _backwards(options.dims) if options is not None else {}
    for one in findings:
        path = one.path
        if path[:2] == ("export", "dims") and path[2:]:
            path = ("export", "dims", own.get(str(path[2]), path[2]), *path[3:])
        hint = re.sub(r"(?<=export\.dims\.)\w+|\w+(?=: {max)", lambda found: own.get(found[0], found[0]), one.hint)
        yield one._replace(path=path, hint=hint)


def _backwards(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


def published(export: Export | None, optimize: Sequence[Any] | None) -> tuple[Export | None, list[Finding]]:
    """An interface by its published names, None where that can't be told; and all that is wrong with `rename`.

    `export` is what there is before, None where that can't be told.
    """
    passes = optimize or []
    found = [*_misplaced(passes)]
    options = of(passes)
    if optimize is None or export is None:
        return None, found
    if options is None:
        return (export if not found else None), found
    found += _wrong(export, options)
    whole = renamed(export, options)
    if not found and not [*export_rules.check(export)]:
        found += [Finding(PLACE, one.fact, one.hint, key=True) for one in export_rules.check(whole)]
    return (whole if not found else None), found


def _misplaced(optimize: Sequence[Any]) -> Iterator[Finding]:
    for number, one in enumerate(optimize):
        if number and getattr(one, KEY) is not UNSET:
            fact = "rename comes first, right after the export: from there on the published names hold"
            hint = "say it in the first one" if of(optimize) is not None else "make it the first pass"
            yield Finding(("optimize", number, KEY), fact, hint, key=True)


def _wrong(export: Export, options: rename.Options) -> Iterator[Finding]:
    if not (options.inputs or options.outputs or options.dims):
        hint = "name something under inputs, outputs or dims, or take it out"
        yield Finding(PLACE, "rename renames nothing", hint, key=True)
    dims = [*dict.fromkeys((*export.dims, *(dim for axes in export.dynamic_axes.values() for dim in axes.values())))]
    groups: list[tuple[str, str, Sequence[str], Mapping[str, str]]] = [
        ("inputs", "input", [*export.inputs], options.inputs),
        ("outputs", "output", export.outputs, options.outputs),
        ("dims", "dimension", dims, options.dims),
    ]
    for group, kind, known, names in groups:
        for old, new in names.items():
            path = (*PLACE, group, old)
            if old not in known:
                yield Finding(path, f"unknown {kind} '{old}'", did_you_mean(old, known), key=True)
            elif old == new:
                yield Finding(path, f"'{old}' is its name already", "take it out")
            elif new in _others(export, options, group, old, known):
                other = "dimension" if group == "dims" else "input or output"
                yield Finding(path, f"'{new}' is the name of another {other}", "give it a name of its own")


def _others(export: Export, options: rename.Options, group: str, old: str, known: Sequence[str]) -> set[str]:
    """The names of everything else of that kind, once all are renamed. An input that is an output too is one value."""
    own = getattr(options, group)
    found = {own.get(name, name) for name in known if name != old}
    if group == "inputs":
        found |= {options.outputs.get(name, name) for name in export.outputs if name != old}
    elif group == "outputs":
        found |= {options.inputs.get(name, name) for name in export.inputs if name != old}
    return found
