"""How far one array is from another: facts from which any tolerance can be judged later, without the arrays.

`numpy.allclose` asks d <= atol + rtol * r of every element, d = |got - reference| and r = |reference|, in float64. For
rtol >= 0 the largest d - rtol * r lies on the upper hull of the points (r, d), between the smallest r and the largest
d; so the few corners of that part of the hull decide every pair of tolerances. Knows nothing of cases or runtimes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxbuild.parity.samples import is_float

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Json

    Array: TypeAlias = np.ndarray[Any, Any]

CHUNK = 1 << 17  # elements at a time: a few MB of float64, whatever the size of the output
CORNERS = 256
TRIAL_RTOLS = (0.0, 1e-6, 1e-4, 1e-2, 1.0, 1e3)  # any choice is right; these sort out nearly all points at once


def compare(got: Array, reference: Array) -> dict[str, Json]:
    """The facts about two arrays of one shape and dtype.

    `exact`: whether only equality will do (no floats). `max_abs` and `max_rel` (the largest d, and d / r where r is not
    0) are over elements that are finite on both sides. `points` are elements as `{"index", "got", "reference"}`: for
    floats the hull's corners, else the worst mismatch; `slack` is how far the hull may rise above them, mostly 0.
    `nonfinite` is None, or what is NaN or infinite on a side: how many `equal` (NaN on both sides, or the same
    infinity), how many `mismatches`, and the first of those. Infinities and NaN are written as strings.
    """
    if not is_float(reference.dtype):
        return _compare_exact(got.reshape(-1), reference.reshape(-1))
    return _compare_floats(got.reshape(-1), reference.reshape(-1))


def unravel(facts: dict[str, Json], shape: tuple[int, ...]) -> dict[str, Json]:
    """Turn the flat indices in the facts of `compare` into one number per axis."""
    import numpy as np

    nonfinite = facts["nonfinite"]
    for point in [*facts["points"], *([nonfinite] if nonfinite and "index" in nonfinite else [])]:
        point["index"] = [int(i) for i in np.unravel_index(point["index"], shape)]
    return facts


def plain(value: Any) -> Json:
    """A numpy scalar as a value that JSON can hold: infinities and NaN as strings."""
    if isinstance(value, str):
        return value
    if is_float(value.dtype):
        number = float(value)
        return number if abs(number) < float("inf") else str(number)
    return value.item()


def _compare_exact(got: Array, reference: Array) -> dict[str, Json]:
    """Integers, booleans and strings: how many differ, and the worst one, by distance where there is one."""
    import numpy as np

    mismatches, worst, largest = 0, -1, -1
    for start in range(0, got.size, CHUNK):
        a, b = got[start : start + CHUNK], reference[start : start + CHUNK]
        differ = a != b
        if not differ.any():
            continue
        mismatches += int(np.count_nonzero(differ))
        if a.dtype.kind in "iu":
            # The larger less the smaller, wrapped around as unsigned, is right for 64-bit extremes too.
            unsigned = np.dtype(f"u{a.dtype.itemsize}")
            distance = np.maximum(a, b).view(unsigned) - np.minimum(a, b).view(unsigned)
        else:
            distance = differ.astype(np.uint8)
        at = int(distance.argmax())
        if int(distance[at]) > largest:
            worst, largest = start + at, int(distance[at])
    points = [_point(got, reference, worst)] if mismatches else []
    numeric = got.dtype.kind in "iub"
    return {
        "exact": True,
        "max_abs": float(max(largest, 0)) if numeric else None,
        "max_rel": None,
        "points": points,
        "slack": 0.0,
        "nonfinite": None,
        "mismatches": mismatches,
    }


def _compare_floats(got: Array, reference: Array) -> dict[str, Json]:
    import numpy as np

    top = float(np.finfo(np.float64).max)
    max_abs = max_rel = 0.0
    hull = _Hull()
    counts = {"equal": 0, "mismatches": 0}
    first: int | None = None
    for start, a, b in _chunks(got, reference):
        finite = np.isfinite(a) & np.isfinite(b)
        unequal = ~finite & (a != b) & ~(np.isnan(a) & np.isnan(b))
        where = np.flatnonzero(finite)
        counts["mismatches"] += int(np.count_nonzero(unequal))
        counts["equal"] += finite.size - where.size - int(np.count_nonzero(unequal))
        if first is None and unequal.any():
            first = start + int(unequal.argmax())
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            d, r = np.minimum(np.abs(a[where] - b[where]), top), np.abs(b[where])
            relative = np.where(r > 0, d / r, 0.0)
        max_abs = max(max_abs, float(d.max(initial=0.0)))
        max_rel = max(max_rel, min(float(relative.max(initial=0.0)), top))
        hull.add(r, d, start + where)
    nonfinite: dict[str, Json] | None = dict(counts) if any(counts.values()) else None
    if nonfinite is not None and first is not None:
        nonfinite |= _point(got, reference, first)
    return {
        "exact": False,
        "max_abs": max_abs,
        "max_rel": max_rel,
        "points": [_point(got, reference, int(i)) for i in hull.index],
        "slack": hull.slack,
        "nonfinite": nonfinite,
        "mismatches": counts["mismatches"],
    }


def _chunks(got: Array, reference: Array) -> Iterator[tuple[int, Array, Array]]:
    """Both arrays piece by piece in float64, each piece with its first index."""
    import numpy as np

    for start in range(0, got.size, CHUNK):
        piece = slice(start, start + CHUNK)
        yield start, got[piece].astype(np.float64), reference[piece].astype(np.float64)


def _point(got: Array, reference: Array, index: int) -> dict[str, Json]:
    return {"index": index, "got": plain(got[index]), "reference": plain(reference[index])}


class _Hull:
    """The corners of the upper hull of all points (r, d) added so far, from the smallest r to the largest d.

    An error that is a smooth function of the value makes a corner of every element; beyond CORNERS some are
    dropped, and `slack` is how far the hull may rise above those that are left.
    """

    def __init__(self) -> None:
        import numpy as np

        self.r = np.empty(0)
        self.d = np.empty(0)
        self.index = np.empty(0, np.int64)
        self.slack = 0.0

    def add(self, r: Array, d: Array, index: Array) -> None:
        """Add points by their index in the output; nearly all are sorted out before anything is sorted."""
        import numpy as np

        if not r.size:
            return
        with np.errstate(over="ignore"):
            trial = np.unique([int(np.argmax(d - rtol * r)) for rtol in TRIAL_RTOLS] + [int(np.argmin(r))])
        self._merge(r[trial], d[trial], index[trial])
        # The smallest r is among the trial points, so no point lies left of the hull.
        above = np.flatnonzero(d > np.interp(r, self.r, self.d))
        self._merge(r[above], d[above], index[above])

    def _merge(self, r: Array, d: Array, index: Array) -> None:
        import numpy as np

        r, d = np.concatenate([self.r, r]), np.concatenate([self.d, d])
        index = np.concatenate([self.index, index])
        order = np.lexsort((index, -d, r))
        rising = order[d[order] > np.concatenate([[-1.0], np.maximum.accumulate(d[order])[:-1]])]
        kept = [int(rising[at]) for at in _upper_hull(r[rising].tolist(), d[rising].tolist())]
        corners = few = np.array(kept, np.int64)
        if len(kept) > CORNERS:
            # Evenly along the hull's length, each axis by its own span.
            steps = np.diff(r[corners]) / np.ptp(r[corners]) + np.diff(d[corners]) / np.ptp(d[corners])
            along = np.concatenate([[0.0], np.cumsum(steps)])
            few = corners[np.unique(np.searchsorted(along, np.linspace(0.0, along[-1], CORNERS)))]
        self.r, self.d, self.index = r[few], d[few], index[few]
        self.slack += float((d[corners] - np.interp(r[corners], self.r, self.d)).max())


def _upper_hull(r: list[float], d: list[float]) -> list[int]:
    """Which points, given in rising order of both, are corners of their upper hull."""
    kept: list[int] = []

    def slope(i: int, j: int) -> float:
        # Slopes, not cross products: products of two tiny numbers vanish, and a corner with them.
        return (d[j] - d[i]) / (r[j] - r[i])

    for at in range(len(r)):
        while len(kept) > 1 and slope(kept[-2], kept[-1]) <= slope(kept[-1], at):
            kept.pop()
        kept.append(at)
    return kept
