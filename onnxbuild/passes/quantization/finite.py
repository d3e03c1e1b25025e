"""Whether there is a range to measure: what goes into a model for calibration, and what its nodes make of it, is finite.

onnxruntime's calibrators stop at an assertion, or at numpy's words, where a NaN or an infinity is among the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile
from onnxbuild.text.wording import flow, some

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from onnxbuild.contracts import Arrays

_OF_RANGES = ("_ReduceMin", "_ReduceMax")  # what the calibrator of minima and maxima calls its outputs
_WHAT = "NaN or infinities"


class Watched:
    """A calibrator's session that looks at what it is given and gives. `nodes` are those that are to be quantized; values
    of no other have to be finite, and are taken out of `calibrated` where they are not.
    """

    def __init__(self, name: str, session: Any, model: Path, nodes: Collection[str], calibrated: set[str]) -> None:
        self.session = session
        self._name = name
        self._outputs = [value.name for value in session.get_outputs()]
        self._calibrated = calibrated
        self._number = 0
        self._nodes: dict[str, list[str]] = {}
        for node in modelfile.structure(model).graph.node:
            if node.name in nodes:
                for value in dict.fromkeys((*node.input, *node.output)):
                    self._nodes.setdefault(value, []).append(node.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    @property
    def values(self) -> set[str]:
        """The values that need a range."""
        return {*self._nodes}

    def run(self, names: list[str] | None, feed: Arrays) -> Any:
        """As the session's. Raises StageError, with the number of the run and what is not finite in it."""
        self._number += 1
        if wrong := [f"'{name}'" for name, array in feed.items() if not _is_finite(array)]:
            fact = f"run {self._number} of the data has {_WHAT} in input {some(wrong)}"
            raise StageError(f"{self._name}: {fact}", "take them out of the data")
        results = self.session.run(names, feed)
        found = {
            _value(name): None for name, array in zip(self._outputs, results, strict=True) if not _is_finite(array)
        }
        if wrong := [name for name in self._nodes if name in found]:
            shown = some([f"'{name}'" for name in wrong])
            fact = f"run {self._number} of the data gives {_WHAT} in {shown}"
            nodes = flow(node for name in wrong for node in self._nodes[name])
            hint = f"take that run out of the data, or exclude the nodes: nodes_to_exclude: {nodes}"
            raise StageError(f"{self._name}: {fact}", hint)
        self._calibrated.difference_update(found)
        return results


def _value(output: str) -> str:
    return next((output.removesuffix(end) for end in _OF_RANGES if output.endswith(end)), output)


def _is_finite(array: Any) -> bool:
    import numpy as np

    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
