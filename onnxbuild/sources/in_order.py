"""Sets that give their members in the order in which they came, for libraries whose results depend on the order of theirs.

A set's own order is that of hashes: of addresses, another one in each process, and of text under a seed. Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, MutableSet
from contextlib import contextmanager
from typing import Any


class InOrder(MutableSet[Any]):
    """A set as Python's, of what can be hashed, its members in the order in which they came."""

    def __init__(self, members: Iterable[Any] = ()) -> None:
        self._members = dict.fromkeys(members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"InOrder({[*self._members]})"

    def add(self, member: Any) -> None:
        """As Python's; one that is there stays where it is."""
        self._members.setdefault(member)

    def discard(self, member: Any) -> None:
        """As Python's."""
        self._members.pop(member, None)

    def copy(self) -> InOrder:
        """As Python's."""
        return InOrder(self)

    def update(self, *others: Iterable[Any]) -> None:
        """As Python's."""
        for other in others:
            self._members.update(dict.fromkeys(other))

    def union(self, *others: Iterable[Any]) -> InOrder:
        """As Python's: first its own members."""
        made = self.copy()
        made.update(*others)
        return made

    def intersection(self, *others: Iterable[Any]) -> InOrder:
        """As Python's, in the order of its own members."""
        kept = [dict.fromkeys(other) for other in others]
        return InOrder(member for member in self if all(member in other for other in kept))

    def difference(self, *others: Iterable[Any]) -> InOrder:
        """As Python's, in the order of its own members."""
        gone = dict.fromkeys(member for other in others for member in other)
        return InOrder(member for member in self if member not in gone)

    def issubset(self, other: Iterable[Any]) -> bool:
        """As Python's."""
        return len(self.difference(other)) == 0

    def issuperset(self, other: Iterable[Any]) -> bool:
        """As Python's."""
        return all(member in self for member in other)


@contextmanager
def sets_of(package: str) -> Iterator[None]:
    """Have what a package's loaded modules make by calling `set` be in order; set displays and comprehensions are not."""
    modules = [module for name, module in [*sys.modules.items()] if f"{name}.".startswith(f"{package}.")]
    own = [module for module in modules if "set" not in vars(module)]
    try:
        for module in own:
            vars(module)["set"] = InOrder
        yield
    finally:
        for module in own:
            vars(module).pop("set", None)
