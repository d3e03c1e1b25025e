"""Recipes shared out among machines, so that all end at about the same time. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping


def balanced(seconds: Mapping[str, float | None], count: int) -> list[list[str]]:
    """Names in at most `count` shards, none empty, by the seconds that each takes; one that is not known takes a median.

    The longest first, each to the shard that has the least so far (Graham, 1969: at most 4/3 of the best).
    """
    known = [one for one in seconds.values() if one is not None]
    usual = statistics.median(known) if known else 1.0
    costs = {name: usual if one is None else one for name, one in seconds.items()}
    shards: list[list[str]] = [[] for _ in range(min(count, len(costs)))]
    loads = [0.0] * len(shards)
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        least = min(range(len(shards)), key=lambda at: (loads[at], len(shards[at])))
        shards[least].append(name)
        loads[least] += costs[name]
    return [sorted(shard) for shard in shards]
