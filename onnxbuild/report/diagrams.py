"""A recipe's stages and their states as a picture: text, Mermaid, dot or JSON. Pure; knows no recipe and no store.

An arrow is a result that a stage takes. That a stage waits for another one without taking anything of it is a dashed arrow,
and is left out where other arrows say so already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec


class Node(NamedTuple):
    """A stage: what it takes from, and what it only waits for."""

    name: str
    state: str
    needs: list[str]
    after: list[str]


_FILL = {"up to date": "#e6f4ea", "run": "#fde7c7", "maybe": "#fff8e1", "fails": "#fad2cf", "skip": "#eeeeee"}


def text(title: str, nodes: Sequence[Node], width: int) -> Iterator[str]:
    """One line per stage in an order in which they can run, with what it takes from."""
    from onnxbuild.text import table

    waits = reduced(nodes)
    yield title
    cells = []
    for node in nodes:
        parts = [", ".join(node.needs)] if node.needs else []
        parts += [f"after {', '.join(waits[node.name])}"] if waits[node.name] else []
        cells.append((node.state, node.name, f"<- {'; '.join(parts)}" if parts else ""))
    yield from table.rows(cells, width)


def mermaid(title: str, nodes: Sequence[Node]) -> Iterator[str]:
    """A Mermaid flowchart, as Markdown on GitHub draws it."""
    numbers = {node.name: f"s{number}" for number, node in enumerate(nodes)}
    yield from ("---", f"title: {title}", "---", "flowchart TD")
    for node in nodes:
        yield f'  {numbers[node.name]}["{node.name}<br/>{node.state}"]:::{_class(node.state)}'
    for start, end, takes in edges(nodes):
        yield f"  {numbers[start]} {'-->' if takes else '-.->'} {numbers[end]}"
    for state in dict.fromkeys(node.state for node in nodes):
        yield f"  classDef {_class(state)} fill:{_FILL[state]},stroke:#555,color:#111"


def dot(title: str, nodes: Sequence[Node]) -> Iterator[str]:
    """A Graphviz graph."""
    yield f"digraph {_quoted(title)} {{"
    yield '  node [shape=box, style=filled, fontname="sans-serif"];'
    for node in nodes:
        label = _quoted(f"{node.name}\n{node.state}")
        yield f"  {_quoted(node.name)} [label={label}, fillcolor={_quoted(_FILL[node.state])}];"
    for start, end, takes in edges(nodes):
        yield f"  {_quoted(start)} -> {_quoted(end)}{'' if takes else ' [style=dashed]'};"
    yield "}"


def as_json(title: str, nodes: Sequence[Node]) -> str:
    """{"version", "name", "nodes": [{"name", "state"}], "edges": [{"from", "to", "takes"}]}; every edge is there."""
    whole = [(start, node.name, start in node.needs) for node in nodes for start in (*node.needs, *node.after)]
    data = {
        "version": 1,
        "name": title,
        "nodes": [{"name": node.name, "state": node.state} for node in nodes],
        "edges": [{"from": start, "to": end, "takes": takes} for start, end, takes in dict.fromkeys(whole)],
    }
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()


def edges(nodes: Sequence[Node]) -> Iterator[tuple[str, str, bool]]:
    """The arrows of a picture: from, to, and whether a result is taken."""
    waits = reduced(nodes)
    for node in nodes:
        yield from ((start, node.name, True) for start in node.needs)
        yield from ((start, node.name, False) for start in waits[node.name])


def reduced(nodes: Sequence[Node]) -> dict[str, list[str]]:
    """What each stage waits for beside what it takes, without what is waited for anyway. `nodes` are in order."""
    above: dict[str, set[str]] = {}
    kept: dict[str, list[str]] = {}
    for node in nodes:
        direct = dict.fromkeys((*node.needs, *node.after))
        above[node.name] = set(direct).union(*(above[name] for name in direct))
        implied = _implied(direct, above)
        kept[node.name] = [name for name in dict.fromkeys(node.after) if name not in implied and name not in node.needs]
    return kept


def _implied(direct: Mapping[str, None], above: Mapping[str, set[str]]) -> set[str]:
    return set().union(*(above[name] for name in direct)) if direct else set()


def _class(state: str) -> str:
    return state.replace(" ", "_")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
