"""Which nodes a lossy pass has to leave as they are: a search that asks for measurements and makes none. Pure.

    1. Each node is left alone by itself: what that gains ranks them.
    2. The first so many of that ranking are left together, twice as many each time, until the gate passes.
    3. Parts of the list, halves first and single nodes last, are taken off again where it passes without them.

Of many nodes 1 and 2 are passed over: the list starts as all of them. What comes out passes, and does not without any one
of its nodes; another list may be shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

Names = tuple[str, ...]


class Cost(Struct, frozen=True, order=True):
    """How far a graph is from passing; a smaller one is nearer. `broken` says that it could not be made or run, `unknown` is
    how many comparisons no number tells anything of, `excess` the shares of what is allowed, on average.
    """

    broken: bool
    unknown: int
    excess: float


class Answer(Struct, frozen=True):
    """What came of one measurement; `refused` names nodes which the pass does not know, and is then all that is known."""

    passed: bool
    cost: Cost
    refused: bool = False


class LimitError(Exception):
    """As many measurements were made as may be; `best` is a list that passes, where one is known."""

    def __init__(self, best: Names | None) -> None:
        super().__init__()
        self.best = best


class Search:
    """One search over nodes in the graph's order. `measure` leaves each of some lists of nodes as they are, and answers in
    order; `limit` is how many different lists it may be asked for.
    """

    def __init__(
        self, nodes: Sequence[str], measure: Callable[[Sequence[Names]], Sequence[Answer]], limit: int
    ) -> None:
        self.nodes = list(nodes)
        self.known: dict[Names, Answer] = {}
        self._measure, self._limit = measure, limit
        self._best: Names | None = None

    @property
    def is_ranked(self) -> bool:
        """Whether there are few enough nodes to measure each by itself."""
        return len(self.nodes) <= self._limit // 2

    def expected(self) -> int:
        """About how many measurements it takes, two fragile nodes in mind."""
        count = len(self.nodes)
        steps = max(count - 1, 1).bit_length()
        return count + steps + 2 if self.is_ranked else 5 * steps

    def run(self) -> Names | None:
        """The list, in the graph's order; None where no list passes but one of all nodes. Raises LimitError."""
        start = self._prefix() if self.is_ranked else (*self.nodes,)
        found = self._reduced(start)
        return None if set(found) == set(self.nodes) else self._ordered(found)

    def ask(self, lists: Sequence[Names]) -> list[Answer]:
        """Measure these lists, each once. Raises LimitError."""
        lists = [self._ordered(one) for one in lists]
        new = [one for one in dict.fromkeys(lists) if one not in self.known]
        room = self._limit - len(self.known)
        asked = new[:room]
        for one, answer in zip(asked, self._measure(asked) if asked else (), strict=True):
            self.known[one] = answer
            if answer.passed and (self._best is None or len(one) < len(self._best)):
                self._best = one
        if len(new) > room:
            raise LimitError(self._best)
        return [self.known[one] for one in lists]

    def _ordered(self, names: Sequence[str]) -> Names:
        wanted = set(names)
        return tuple(name for name in self.nodes if name in wanted)

    def _prefix(self) -> Names:
        """The shortest list of 1, 2, 4, … nodes in the order of their cost that passes; all nodes where none does."""
        alone = self.ask([(name,) for name in self.nodes])
        kept = [(answer, name) for answer, name in zip(alone, self.nodes, strict=True) if not answer.refused]
        self.nodes = [name for _, name in kept]
        ranked = [name for _, name in sorted(kept, key=lambda pair: (not pair[0].passed, pair[0].cost))]
        size = 1
        while size < len(ranked):
            if self.ask([tuple(ranked[:size])])[0].passed:
                return tuple(ranked[:size])
            size *= 2
        return tuple(ranked)

    def _reduced(self, names: Names) -> Names:
        """Those of a list that passes without any of which it does not; the last ones are tried first."""
        left = list(names)
        size = max(len(left) // 2, 1)
        while left:
            before = len(left)
            for start in reversed(range(0, len(left), size)):
                rest = left[:start] + left[start + size :]
                if rest and self.ask([tuple(rest)])[0].passed:
                    left = rest
            if size > 1:
                size //= 2
            elif len(left) == before:
                break
        return tuple(left)
