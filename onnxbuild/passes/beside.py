"""What a pass is given beside the graph, and where it leaves what it has to say. No pass itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from onnxbuild.contracts import Arrays

# Of options that don't fit together: the key that is wrong, as a path below the pass, what is wrong with it, the remedy.
Problem: TypeAlias = "tuple[tuple[str, ...], str, str]"


class Beside(Struct):
    """`feeds` gives arrays by input name, in a fixed order, anew each time it is called: the cases of the recipe, or the
    data that the pass's own options name. `notes` are sentences for the report, which the pass adds to.
    """

    feeds: Callable[[], Iterator[Arrays]] = lambda: iter(())
    notes: list[str] = []


class OfData(Protocol):
    """What a pass has besides that looks at data. `data(options)` is the dataset that its option `data` holds, None where
    it takes the recipe's own cases; the planner asks, so it imports nothing heavy.
    """

    def data(self, options: Any) -> Any: ...
