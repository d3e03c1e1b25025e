"""A diff in sections of rows, as every form of it shows them: what changed alike in one row, the largest changes first.

Pure: takes a diff, knows no looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from onnxbuild.report.changes import Diff, Fact, Node, NodeChange, Number, TensorChange
from onnxbuild.text import units
from onnxbuild.text.wording import some

Mark = Literal["+", "-", "~"]


class Row(NamedTuple):
    """One difference: `before` and `after` are "" on the side where there is nothing; `note` says how large it is."""

    mark: Mark
    subject: str
    before: str
    after: str
    note: str = ""


class Section(NamedTuple):
    """Rows that belong together; `effect` where they are of what came out, and not of causes and measurements."""

    title: str
    rows: list[Row]
    effect: bool = True


def headline(diff: Diff) -> str:
    """What came of it, in a sentence."""
    if diff.before.kind == "nothing":
        return f"New: {diff.not_compared[0]}"
    if diff.after.kind == "nothing":
        return f"Gone: {diff.not_compared[-1]}"
    if diff.same:
        locked = "lock" in (diff.before.kind, diff.after.kind)  # code may have changed since
        return f"The same model{', as it was locked' if locked else ''}"
    return f"Different: {some(list(_counts(diff)), 9)}"


def sections(diff: Diff) -> list[Section]:
    """All differences; sections without any are left out."""
    structure = diff.structure
    nodes = [] if structure is None else [*_nodes(structure.removed, structure.added), *_changed(structure.changed)]
    found = [
        Section("Interface", [_fact(one) for one in diff.interface]),
        Section("Model", [_fact(one) for one in diff.model]),
        Section(
            "Operators",
            [
                Row(
                    _mark(one.before, one.after),
                    one.op,
                    str(one.before),
                    str(one.after),
                    units.signed(one.after - one.before),
                )
                for one in diff.ops
            ],
        ),
        Section("Nodes", nodes),
        Section("Weights", [] if structure is None else list(_tensors(structure.tensors))),
        Section("Digests", [_fact(one) for one in diff.files]),
        Section("Errors against the source model", [_number(one) for one in diff.parity]),
        Section("Size", [_number(one) for one in diff.sizes], effect=False),
        Section("Latency", [_number(one) for one in diff.latency], effect=False),
        Section("Made from", [_fact(one) for one in diff.inputs], effect=False),
    ]
    return [one for one in found if one.rows]


def place(node: Node) -> str:
    """A node with where it is: "Conv 'conv_1' in layer1.0, net.py:12", "Relu 'relu' after layer1.0"."""
    where = f" in {node.scope}" if node.scope else f" after {node.near}" if node.near else ""
    body = f", {node.body}" if node.body else ""
    line = f", {node.line}" if node.line else ""
    return f"{node.op} '{node.name}'{where}{body}{line}"


def recipe_pairs(lines: Sequence[str]) -> list[tuple[str, str, str]]:
    """The lines of a unified diff side by side: what kind of line ("same", "changed", "@"), before and after."""
    found: list[tuple[str, str, str]] = []
    gone: list[str] = []
    new: list[str] = []

    def flush() -> None:
        longest = max(len(gone), len(new))
        sides = (side + [""] * (longest - len(side)) for side in (gone, new))
        found.extend(("changed", a, b) for a, b in zip(*sides, strict=True))
        gone.clear()
        new.clear()

    for line in lines:
        if line.startswith("-"):
            gone.append(line[1:])
        elif line.startswith("+"):
            new.append(line[1:])
        else:
            flush()
            found.append(("@", line, line) if line.startswith("@") else ("same", line[1:], line[1:]))
    flush()
    return found


def _counts(diff: Diff) -> Iterator[str]:
    """How much of what is different."""
    structure = diff.structure
    if diff.interface:
        yield _plural(len(diff.interface), "change of the interface", "changes of the interface")
    yield from (one.subject for one in diff.model[:3])
    if structure is not None:
        for nodes, verb in ((structure.added, "added"), (structure.removed, "removed"), (structure.changed, "changed")):
            if nodes:
                yield f"{units.plural(len(nodes), 'node')} {verb}"
        kinds = {name: [one for one in structure.tensors if _kind(one) == name] for name in _KINDS}
        yield from (f"{units.plural(len(ones), 'weight')} {kind}" for kind, ones in kinds.items() if ones)
    else:
        yield from (f"{one.op} {units.signed(one.after - one.before)}" for one in diff.ops[:3])
    yield from (one.subject for one in diff.files[:3])
    if diff.parity:
        yield "errors against the source model"


_KINDS = ("added", "removed", "changed", "renamed")


def _kind(one: TensorChange) -> str:
    if one.before is None or one.after is None:
        return "added" if one.before is None else "removed"
    return "renamed" if one.changed == 0 and one.before == one.after else "changed"


def _plural(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def _fact(one: Fact) -> Row:
    return Row(_mark(one.before, one.after), one.subject, one.before or "", one.after or "")


def _mark(before: object, after: object) -> Mark:
    """None and no nodes at all are what isn't there."""
    return "+" if before in (None, 0) else "-" if after in (None, 0) else "~"


def _nodes(removed: Sequence[Node], added: Sequence[Node]) -> Iterator[Row]:
    yield from (Row("-", place(node), node.op, "") for node in removed)
    yield from (Row("+", place(node), "", node.op) for node in added)


def _changed(changes: Iterable[NodeChange]) -> Iterator[Row]:
    """Nodes that changed; those of one operator that changed alike in one row."""
    alike: dict[tuple[str, str | None, str | None, str], list[Node]] = {}
    for change in changes:
        for fact in change.facts:
            alike.setdefault((fact.subject, fact.before, fact.after, change.node.op), []).append(change.node)
    for (subject, before, after, op), nodes in alike.items():
        whose = place(nodes[0]) if len(nodes) == 1 else f"{len(nodes):,} {op}, such as {place(nodes[0])}"
        yield Row("~", f"{whose}: {subject}", before or "absent", after or "absent")


def _tensors(tensors: Sequence[TensorChange]) -> Iterator[Row]:
    """Weights that changed, the most first, then those that are on one side, then the renamed ones together."""
    kinds = {name: [one for one in tensors if _kind(one) == name] for name in _KINDS}
    cast: dict[tuple[str, str], list[TensorChange]] = {}
    for one in sorted(kinds["changed"], key=lambda one: (-(one.relative_norm or 0.0), one.name)):
        (before, _, dims), (after, _, now) = ((text or "").partition("[") for text in (one.before, one.after))
        cast.setdefault((before, after) if before != after and dims == now else (one.name, ""), []).append(one)
    for (before, after), ones in cast.items():
        if after and len(ones) > 1:
            yield Row(
                "~", f"{len(ones):,} of another type, the most changed {_named(ones[0])}", before, after, size(ones[0])
            )
        else:
            yield from (Row("~", _named(one), one.before or "", one.after or "", size(one)) for one in ones)
    yield from (Row("-", one.name, one.before or "", "") for one in kinds["removed"])
    yield from (Row("+", one.name, "", one.after or "") for one in kinds["added"])
    renamed = kinds["renamed"]
    if len(renamed) == 1:
        yield Row("~", "renamed, the same values", renamed[0].was, renamed[0].name)
    elif renamed:
        text = f"{len(renamed):,} renamed, the same values; the first"
        yield Row("~", text, renamed[0].was, renamed[0].name)


def _named(one: TensorChange) -> str:
    return f"{one.was}, now {one.name}" if one.was else one.name


def size(one: TensorChange) -> str:
    """How far apart two weights of one shape are, in words."""
    if one.changed is None:
        return ""
    text = f"{one.changed:,} of {one.elements:,} changed"
    if one.max_abs is not None and one.changed:
        text += f", at most by {one.max_abs:.2g}"
    if one.relative_norm is not None and one.changed:
        text += f", relative norm {one.relative_norm:.1g}"
    if one.not_finite:
        text += f", {one.not_finite:,} by no finite number"
    return text


_SHOWN: dict[str, Callable[[float], str]] = {
    "bytes": lambda value: f"{value:,.0f} B",
    "parameters": lambda value: f"{value:,.0f}",
    "nodes": lambda value: f"{value:,.0f}",
    "ms": units.milliseconds,
    "": lambda value: f"{value:.2g}",
}


def _number(one: Number) -> Row:
    shown = ["" if value is None else _SHOWN[one.unit](value) for value in (one.before, one.after)]
    note = ""
    if one.before and one.after is not None:
        share = one.after / one.before - 1
        note = f"{share:+.1%}" if abs(share) < 10 else f"{one.after / one.before:,.0f} times"
    mark: Mark = "+" if one.before is None else "-" if one.after is None else "~"
    return Row(mark, one.subject, shown[0], shown[1], note.replace("-", "\u2212"))
