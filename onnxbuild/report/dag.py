"""Where the boxes and arrows of a stage graph go: a layered drawing after Sugiyama.

Layers by longest path, bends of long arrows as narrow lanes of their own, the order within a layer by barycentres, and
positions that are the least-squares fit to the neighbours'. Pure geometry in pixels: knows no stage, status or SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

BOX = (164.0, 68.0)  # width, height
ACROSS_GAP, DOWN_GAP = 46.0, 30.0  # between layers, from left to right and from top to bottom
LANE_GAP = 16.0
LANE = 8.0  # width of an arrow's own lane
WIDEST = 1300.0  # a drawing from left to right that is wider is turned to go from top to bottom
MARGIN = 6.0
SWEEPS = 12

_Node = tuple[str, int]  # a box (name, -1), or where the arrow numbered `name` passes a layer (name, layer)


@dataclass(frozen=True, slots=True)
class Box:
    name: str
    x: float  # left
    y: float  # top


@dataclass(frozen=True, slots=True)
class Arrow:
    source: str
    target: str
    path: str  # an SVG path


@dataclass(frozen=True, slots=True)
class Picture:
    width: float
    height: float
    boxes: list[Box]
    arrows: list[Arrow]


def layout(needs: Mapping[str, Sequence[str]]) -> Picture:
    """Place a graph given as name to the names it needs; arrows that others imply are left out, unknown names ignored."""
    needs = {name: [n for n in dict.fromkeys(of) if n in needs and n != name] for name, of in needs.items()}
    if not needs:
        return Picture(0, 0, [], [])
    rank = _ranks(needs)
    arrows = [(n, name) for name, of in _reduced(needs, rank).items() for n in of]
    chains = [_chain(source, target, index, rank) for index, (source, target) in enumerate(arrows)]
    layers: list[list[_Node]] = [[] for _ in range(max(rank.values()) + 1)]
    for name, layer in rank.items():
        layers[layer].append((name, -1))
    for chain in chains:
        for node in chain[1:-1]:
            layers[node[1]].append(node)
    links = [pair for chain in chains for pair in pairwise(chain)]
    _order(layers, links)
    across = len(layers) * (BOX[0] + ACROSS_GAP) <= WIDEST
    positions = _positions(layers, links, BOX[1] if across else BOX[0])
    return _picture(layers, positions, chains, arrows, across=across)


def _ranks(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Each name's layer: one below the lowest that it needs. Names on a cycle, which no plan has, go where they fall."""
    rank = dict.fromkeys(needs, 0)
    for _ in needs:
        changed = False
        for name, of in needs.items():
            lowest = max((rank[n] + 1 for n in of), default=0)
            if rank[name] < lowest < len(needs):
                rank[name], changed = lowest, True
        if not changed:
            break
    return rank


def _reduced(needs: Mapping[str, Sequence[str]], rank: Mapping[str, int]) -> dict[str, list[str]]:
    """The transitive reduction; arrows that don't go down, which only a cycle has, are dropped."""
    reach: dict[str, set[str]] = {}
    reduced: dict[str, list[str]] = {}
    for name in sorted(needs, key=lambda n: rank[n]):
        direct = [n for n in needs[name] if rank[n] < rank[name]]
        reach[name] = set(direct).union(*(reach[n] for n in direct))
        reduced[name] = [n for n in direct if not any(n in reach[other] for other in direct)]
    return {name: reduced[name] for name in needs}


def _chain(source: str, target: str, index: int, rank: Mapping[str, int]) -> list[_Node]:
    """An arrow's nodes: its two boxes and a bend on each layer between."""
    bends = [(f"{index}", layer) for layer in range(rank[source] + 1, rank[target])]
    return [(source, -1), *bends, (target, -1)]


def _neighbours(links: Sequence[tuple[_Node, _Node]]) -> tuple[dict[_Node, list[_Node]], dict[_Node, list[_Node]]]:
    above: dict[_Node, list[_Node]] = {}
    below: dict[_Node, list[_Node]] = {}
    for upper, lower in links:
        below.setdefault(upper, []).append(lower)
        above.setdefault(lower, []).append(upper)
    return above, below


def _order(layers: list[list[_Node]], links: Sequence[tuple[_Node, _Node]]) -> None:
    """Reorder each layer in place for few crossings: barycentre sweeps, the best order seen is kept."""
    above, below = _neighbours(links)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, below)
    for sweep in range(SWEEPS):
        side, walk = (above, range(1, len(layers))) if sweep % 2 == 0 else (below, range(len(layers) - 2, -1, -1))
        for depth in walk:
            places = {node: float(i) for layer in layers for i, node in enumerate(layer)}
            centre = {
                node: sum(places[n] for n in side[node]) / len(side[node]) if side.get(node) else places[node]
                for node in layers[depth]
            }
            layers[depth].sort(key=lambda node: centre[node])
        crossings = _crossings(layers, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best


def _crossings(layers: Sequence[Sequence[_Node]], below: Mapping[_Node, Sequence[_Node]]) -> int:
    total = 0
    for upper, lower in pairwise(layers):
        place = {node: i for i, node in enumerate(lower)}
        ends = [end for node in upper for end in sorted(place[n] for n in below.get(node, ()))]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _positions(
    layers: Sequence[Sequence[_Node]], links: Sequence[tuple[_Node, _Node]], extent: float
) -> dict[_Node, float]:
    """Each node's centre across the layers, the smallest edge at 0."""
    above, below = _neighbours(links)
    half = {node: (extent if node[1] < 0 else LANE) / 2 for layer in layers for node in layer}
    at = {node: 0.0 for layer in layers for node in layer}
    for layer in layers:
        at.update(_fit(layer, at, half))
    for sweep in range(SWEEPS * 2 + 1):
        last = sweep == SWEEPS * 2  # by what is above only: a chain that still leans gets straight at once
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = {}
            for node in layer:
                near = [*above.get(node, ()), *(() if last else below.get(node, ()))]
                wanted[node] = sum(at[n] for n in near) / len(near) if near else at[node]
            at.update(_fit(layer, wanted, half))
    least = min(at[node] - half[node] for node in at)
    return {node: place - least for node, place in at.items()}


def _fit(layer: Sequence[_Node], wanted: Mapping[_Node, float], half: Mapping[_Node, float]) -> dict[_Node, float]:
    """The places nearest to the wanted ones (least squares) that keep the order and the distances: isotonic regression
    by pooling adjacent violators, bends weighing more than boxes so that long arrows are straight.
    """
    offsets = [0.0]
    for left, right in pairwise(layer):
        offsets.append(offsets[-1] + half[left] + LANE_GAP + half[right])
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for node, offset in zip(layer, offsets, strict=True):
        mean, weight, members = wanted[node] - offset, 1.0 if node[1] < 0 else 2.0, 1
        while pools and pools[-1][0] > mean:
            other, heavy, more = pools.pop()
            mean, weight, members = (other * heavy + mean * weight) / (heavy + weight), heavy + weight, members + more
        pools.append((mean, weight, members))
    means = [mean for mean, _, members in pools for _ in range(members)]
    return {node: mean + offset for node, mean, offset in zip(layer, means, offsets, strict=True)}


def _picture(
    layers: Sequence[Sequence[_Node]],
    at: Mapping[_Node, float],
    chains: Sequence[Sequence[_Node]],
    arrows: Sequence[tuple[str, str]],
    *,
    across: bool,
) -> Picture:
    length, extent = BOX if across else BOX[::-1]
    step = length + (ACROSS_GAP if across else DOWN_GAP)
    depth = {node: MARGIN + i * step for i, layer in enumerate(layers) for node in layer}
    boxes = []
    for layer in layers:
        for node in layer:
            if node[1] < 0:
                x, y = depth[node], at[node] - extent / 2 + MARGIN
                boxes.append(Box(node[0], x, y) if across else Box(node[0], y, x))
    paths = [_path([(depth[n], at[n] + MARGIN) for n in chain], length, across=across) for chain in chains]
    main = (len(layers) - 1) * step + length + 2 * MARGIN
    cross = max(at[n] + (extent if n[1] < 0 else LANE) / 2 for n in at) + 2 * MARGIN
    drawn = [Arrow(source, target, path) for (source, target), path in zip(arrows, paths, strict=True)]
    return Picture(main, cross, boxes, drawn) if across else Picture(cross, main, boxes, drawn)


def _path(points: Sequence[tuple[float, float]], length: float, *, across: bool) -> str:
    """A smooth path from the end of the first box to the start of the last, straight where it passes a layer."""

    def point(main: float, cross: float) -> str:
        return f"{main:.1f} {cross:.1f}" if across else f"{cross:.1f} {main:.1f}"

    main, cross = points[0]
    path = f"M{point(main + length, cross)}"
    for index, (start, place) in enumerate(points[1:], 1):
        end = start if index < len(points) - 1 else start - 2.0  # the tip of the arrow touches the box, no more
        middle = (main + length + start) / 2
        path += f"C{point(middle, cross)} {point(middle, place)} {point(end, place)}"
        if index < len(points) - 1:
            path += f"L{point(start + length, place)}"
        main, cross = start, place
    return path
