"""At which sizes a graph holds and where it breaks: the dimension that decides, or the sum of dimensions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, permutations

from onnxbuild.parity.verdict import Verdict

SHOWN = 4  # cases listed before "and 3 more"
RUN = 6  # sizes that follow one another and are told as a range

# How the size of one dimension can follow from others', as a recipe's `dims` writes it; the plainest first.
_RELATIONS: tuple[tuple[int, str, Callable[..., bool]], ...] = (
    (2, "{0}: {1}", lambda a, b: a == b),
    (3, "{0}: {1} + {2}", lambda a, b, c: a == b + c),
    (3, "{0}: {1} * {2}", lambda a, b, c: a == b * c),
    (2, "{0}: {1} + 1", lambda a, b: a == b + 1),
    (2, "{0}: 2 * {1}", lambda a, b: a == 2 * b),
    (2, "{0}: {1} // 2", lambda a, b: a == b // 2),
)


def where(
    failed: Sequence[Verdict], peers: Sequence[Verdict], dynamic_axes: Mapping[str, Mapping[str, str]], dim: str
) -> list[str]:
    """At which sizes it holds and where it breaks: of the one dimension that decides, or by whole cases."""
    held = [verdict for verdict in peers if verdict.passed]
    if len(peers) == 1:
        return []
    if dim:
        tried = sorted({verdict.dims[dim] for verdict in (*held, *failed)})
        sizes = [_sizes(dim, cases, tried) for cases in (held, failed)]
        others = ", at every size of the others" if len(failed[0].dims) > 1 else ""
        return [f"holds at {sizes[0]}; breaks at {sizes[1]}{others}", f"{dim} is {_axes_of(dim, dynamic_axes)}"]
    if not held:
        return ["breaks at every case"]
    return [f"holds at {some([v.case for v in held])}", f"breaks at {some([v.case for v in failed])}"]


def deciding_dim(failed: Sequence[Verdict], held: Sequence[Verdict]) -> str:
    """The dimension none of whose sizes is on both sides, else ""; of several, the one that breaks at fewest sizes."""
    clear = [dim for dim in failed[0].dims if held and not {v.dims[dim] for v in failed} & {v.dims[dim] for v in held}]
    return min(clear, key=lambda dim: len({v.dims[dim] for v in failed}), default="")


def relation(failed: Sequence[Mapping[str, int]], held: Sequence[Mapping[str, int]]) -> str:
    """How the sizes must hang together, as `dims` would say it, where that tells all that hold from all that fail.

    "total: past + sequence"; "" where nothing so simple does, or where too few cases hold to tell.
    """
    if not failed or len({tuple(dims.items()) for dims in held}) < 2:
        return ""
    for count, text, true in _RELATIONS:
        for names in permutations(held[0], count):
            if names[1:] != tuple(sorted(names[1:], key=list(held[0]).index)):
                continue  # the same sum the other way round
            if all(true(*(dims[name] for name in names)) for dims in held) and not any(
                true(*(dims[name] for name in names)) for dims in failed
            ):
                return text.format(*names)
    return ""


def some(names: Sequence[str]) -> str:
    """The first few names, and how many there are besides."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more


def _sizes(dim: str, verdicts: Sequence[Verdict], tried: Sequence[int]) -> str:
    """The sizes of a dimension: "n=1, 2, 8 to 64"; a range holds RUN of the sizes that were tried, or more."""
    own = {verdict.dims[dim] for verdict in verdicts}
    parts: list[str] = []
    for inside, run in groupby(tried, own.__contains__):
        sizes = list(run)
        if inside:
            parts += [f"{sizes[0]} to {sizes[-1]}"] if len(sizes) >= RUN else map(str, sizes)
    return f"{dim}={', '.join(parts)}"


def _axes_of(dim: str, dynamic_axes: Mapping[str, Mapping[str, str]]) -> str:
    """Where a dimension is: "axis 0 of 'x' and 'y', axis 1 of 'z'"."""
    found: dict[str, list[str]] = {}
    for name, axes in dynamic_axes.items():
        for axis, named in axes.items():
            if named == dim:
                found.setdefault(axis, []).append(f"'{name}'")
    return ", ".join(f"axis {axis} of {' and '.join(names)}" for axis, names in found.items())
