"""A recipe as text, for people: sections in their usual order, short values on one line, and comments that say why.

Pure: takes what is known of a model, gives YAML. Nothing of it is decided here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from msgspec import Struct

from onnxbuild.contracts import Inspection, Json
from onnxbuild.recipe import scalars
from onnxbuild.recipe.filling import Exporters, complete

WIDTH = 110
SCHEMA = "schemas/recipe.schema.json"


class Draft(Struct, frozen=True):
    """What a recipe is to say. `model` is that section; `passes` are entries of `optimize`, each with why; `schema` the path
    of the published schema, as seen from the recipe, "" where there is none.
    """

    name: str
    command: str
    model: dict[str, Json]
    export: dict[str, Json]
    looked: Sequence[str] = ()
    symbolics: Mapping[str, str] = {}  # operators, each with the function that decomposes it, "" where nobody said
    passes: Sequence[tuple[Json, str]] = ()
    parity: Mapping[str, Json] = {}
    parity_because: str = ""
    schema: str = ""


def export_of(inspection: Inspection, exporters: Exporters) -> dict[str, Json]:
    """The section `export` that an inspected model gets."""
    given = {name: {"data": data} for name, data in inspection.data.items()}
    data: dict[str, Json] = {"export": {"exporter": inspection.exporter} if inspection.exporter else {}}
    export = complete(data, inspection.interface, exporters)["export"]
    for value in inspection.interface.outputs:  # names that no input has, seen to have several sizes
        for axis, size in enumerate(value.shape or ()):
            if (
                isinstance(size, str)
                and size.isidentifier()
                and str(axis) not in export["dynamic_axes"].get(value.name, {})
            ):
                export["dynamic_axes"].setdefault(value.name, {})[str(axis)] = size
    export["inputs"] = {name: {**spec, **given.get(name, {})} for name, spec in export["inputs"].items()}
    return {key: export[key] for key in _ORDER if export.get(key)}


_ORDER = ("exporter", "opset", "inputs", "outputs", "dynamic_axes", "dims", "arguments")


def text(draft: Draft, *, trial: bool = False) -> str:
    """The recipe; a `trial` measures nothing."""
    benchmark = [] if trial else ["benchmark: {warmup: 3, runs: 30}"]
    return "\n".join([*_head(draft), *_export(draft), *_rest(draft), *benchmark]) + "\n"


def _head(draft: Draft) -> Iterator[str]:
    if draft.schema:
        yield f"# yaml-language-server: $schema={draft.schema}"
        yield "#"
    yield from _comment(f"Written by `{draft.command}`, and yours from now on. What it looked at:")
    for sentence in draft.looked:
        yield from _comment(sentence, "- ")
    yield "version: 1"
    yield f"name: {inline(draft.name)}"
    yield ""
    yield "model:"
    yield from _block(draft.model, 1)
    yield ""


def _export(draft: Draft) -> Iterator[str]:
    yield "export:"
    for key, value in draft.export.items():
        if key in ("inputs", "dynamic_axes", "dims") and value:
            yield f"  {key}:{_why(key)}"
            yield from (f"    {inline(name)}: {inline(_numbered(inner))}" for name, inner in value.items())
        else:
            yield f"  {key}: {inline(value)}"
    yield ""


def _numbered(value: Json) -> Json:
    """Axes as the numbers that they are."""
    if isinstance(value, dict) and all(str(key).isdigit() for key in value):
        return {int(key): inner for key, inner in value.items()}
    return value


def _why(key: str) -> str:
    return {
        "inputs": "  # the shapes are one example; an axis that is in no dynamic_axes has that size always",
        "dims": "  # parity is checked at several of these sizes, not only at the example's",
    }.get(key, "")


def _rest(draft: Draft) -> Iterator[str]:
    if said := {name: function for name, function in draft.symbolics.items() if function}:
        yield "symbolics:"
        yield from (f"  {name}: {inline({'decompose': function})}" for name, function in said.items())
        yield ""
    if unsaid := [name for name, function in draft.symbolics.items() if not function]:
        yield "# No exporter knows these operators of torch. Say what each becomes, as a function or as a node:"
        yield "# symbolics:"
        yield from (f"#   {name}: {{decompose: module:function}}" for name in unsaid)
        yield ""
    if draft.passes:
        yield "optimize:  # in order; parity is checked again after each"
        entries = [
            (f"  - {inline(name)}: {inline(options)}", why)
            for one, why in draft.passes
            for name, options in one.items()
        ]
        width = max(len(line) for line, _ in entries)
        for line, why in entries:
            yield f"{line.ljust(width)}  # {why}" if width + len(why) < WIDTH else line
        yield ""
    if draft.parity_because:
        yield from _comment(draft.parity_because)
    if draft.parity:
        yield f"parity: {inline(dict(draft.parity))}"
        yield ""


def _block(value: Mapping[str, Json], depth: int) -> Iterator[str]:
    """A mapping over several lines, with what is in its values on one line each from the second level on."""
    for key, inner in value.items():
        if isinstance(inner, dict) and depth == 1:
            yield f"{'  ' * depth}{inline(key)}:"
            yield from _block(inner, depth + 1)
        else:
            yield f"{'  ' * depth}{inline(key)}: {inline(inner)}"


def inline(value: Any) -> str:
    """A value as YAML on one line."""
    dumped = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return dumped.removesuffix("\n...\n").strip()


class _Dumper(yaml.SafeDumper):
    """Floats as YAML 1.2 reads them too: with a dot."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # yaml's own signature
        """Equal parts are written out, each where it stands."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Quoted where YAML 1.2 would read a number, such as 1e3, which YAML 1.1 does not."""
    is_text = isinstance(scalars.plain(value)[0], str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if is_text else "'")


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    shown = f"{value:g}"
    if "e" in shown and "." not in shown:
        shown = shown.replace("e", ".0e")
    elif "." not in shown and shown.lstrip("-").isdigit():
        shown += ".0"
    return dumper.represent_scalar("tag:yaml.org,2002:float", shown)


_Dumper.add_representer(float, _float)
_Dumper.add_representer(str, _text)


def _comment(sentence: str, bullet: str = "") -> Iterator[str]:
    below = " " * len(bullet)
    for number, line in enumerate(textwrap.wrap(sentence, WIDTH - 2 - len(bullet), break_long_words=False)):
        yield f"# {below if number else bullet}{line}".rstrip()
