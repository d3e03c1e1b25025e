"""The smallest and the largest size of each dimension at which a model runs, and that a recipe may promise.

Finds them by running it; a table of places that is too short, say, shows as a size at which it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnxbuild.sources.pytorch import pretrained
from onnxbuild.sources.pytorch.proposal import Proposal

BATCH, TOKENS = 16, 512  # proposed as the largest, where nothing says another
IMAGE, OTHER = 2, 2  # times the example's size, ditto


def find(made: Proposal) -> Iterator[str]:
    """Set the limits of every free dimension; gives sentences on what decided them."""
    for name in made.free:
        made.limits[name] = {"min": _smallest(made, name)}
    while made.free and not made.run({name: limits["min"] for name, limits in made.limits.items()}):
        raised = _raise(made)
        yield f"not all dimensions can be smallest together: {raised} starts at the example's size"
    for name in made.free:
        limits = made.limits[name]
        limits["max"], why = _largest(made, name)
        step = f", multiples of {made.free[name].step} only" if made.free[name].step > 1 else ""
        yield f"{name}: runs from {limits['min']} to {limits['max']}{step}{f'; {why}' if why else ''}"


def _smallest(made: Proposal, name: str) -> int:
    """The smallest size of one dimension, the others being the example's."""
    group, size = made.free[name], made.base()[name]
    step = group.step
    if any(axis and "values" in made.trials.example.inputs[of].get("data", {}) for of, axis in group.places):
        return min(size, max(2, _last(lambda tried: bool(made.run({name: tried})), size, step, step)))
    if name == "past" and made.run({name: 0}):
        return 0
    return _last(lambda tried: bool(made.run({name: tried})), size, step, step)


def _raise(made: Proposal) -> str:
    """Let the dimension start at the example's size that helps, else the first that does not yet."""
    base = made.base()
    lows = {name: limits["min"] for name, limits in made.limits.items()}
    lower = [name for name in made.free if lows[name] < base[name]]
    helping = [name for name in reversed(lower) if made.run({**lows, name: base[name]})]
    chosen = (helping or lower)[0]
    made.limits[chosen]["min"] = base[chosen]
    return chosen


def _largest(made: Proposal, name: str) -> tuple[int, str]:
    """The largest size to propose, the other dimensions being smallest, and what limits it, "" where nothing did."""
    group, size = made.free[name], made.base()[name]
    others = {other: limits["min"] for other, limits in made.limits.items() if other != name}

    def runs(tried: int) -> bool:
        return bool(made.run({**others, name: tried}))

    table = max((pretrained.positions(made.trials.model, place[0]) for place in group.places), default=0)
    wanted = table if table and _is_sequence(name) else _wanted(name, size)
    wanted = max(size, wanted // group.step * group.step)
    largest = wanted if runs(wanted) else _last(runs, size, wanted, group.step)
    after = {**others, name: largest + group.step}
    if made.run(after) or made.why(after).startswith("not tried"):
        return largest, ""
    return largest, f"at {largest + group.step}: {made.why(after)}"


def _is_sequence(name: str) -> bool:
    return name.endswith("sequence") or name == "past"


def _wanted(name: str, size: int) -> int:
    if name == "batch":
        return BATCH
    if _is_sequence(name):
        return TOKENS
    return (IMAGE if name in ("height", "width", "depth", "side") else OTHER) * size


def _last(runs: Callable[[int], bool], works: int, wanted: int, step: int) -> int:
    """The size nearest to `wanted` at which it runs, by halving what lies between that and one that works."""
    if works == wanted or runs(wanted):
        return wanted
    fails = wanted
    while abs(fails - works) > step:
        middle = (
            works + (fails - works) // 2 // step * step
            if fails > works
            else works - (works - fails) // 2 // step * step
        )
        if middle == works:
            break
        works, fails = (middle, fails) if runs(middle) else (works, middle)
    return works
