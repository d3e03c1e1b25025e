"""What an exporter noted of where nodes come from, as a line map. Its own notes are normalised away afterwards.

Lines are told relative to the project, those of installed packages from the package on: a map holds no path of a machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from onnxbuild.graphs import lines, tensors
from onnxbuild.graphs.lines import LineMap, Noted
from onnxbuild.sources import failures, naming

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

FRAME = re.compile(
    r'File "([^"]+)", line (\d+)|^\s*(\S.*\.py)\((\d+)\): ', re.MULTILINE
)  # Python's form, TorchScript's


def frames(told: str) -> list[tuple[str, int]]:
    """The frames of Python in a text, the deepest last."""
    found = FRAME.findall(told)
    if found and found[0][2]:
        found.reverse()  # TorchScript tells the deepest one first
    return [(one[0] or one[2], int(one[1] or one[3])) for one in found]


def of(model: ModelProto, exporter: str, root: Path, *, authored: bool) -> LineMap:
    """The line map of a model as its exporter left it. One that is `authored` was exported in another project: of its
    lines the paths are told as the file has them.
    """
    found = []
    for body in tensors.bodies(model):
        for node in body.node:
            scope = lines.scope(node)
            place = _place(node, None if authored else root)
            if scope or place:
                scope = scope if authored else _own(scope)
                found.append(Noted(lines.op(node), [name for name in node.output if name], scope, place))
    return LineMap(exporter, found)


def of_file(node: NodeProto) -> str:
    """The line that a node of somebody's file was noted to come from, "" where nothing is noted."""
    return _place(node, None)


def _own(scope: str) -> str:
    """A scope without what wrapping the model in an adapter puts before it."""
    return "" if scope == naming.PREFIX.rstrip(".") else scope.removeprefix(naming.PREFIX)


def _place(node: NodeProto, root: Path | None) -> str:
    told = frames(lines.note(node, lines.STACK))
    if root is None:
        return _as_written(told)
    where = failures.models_line(told, root)
    return failures.named(*where, root) if where else ""


def _as_written(told: Sequence[tuple[str, int]]) -> str:
    """The deepest of these lines that is of no tool that models are made with."""
    for file, line in reversed(told):
        path = PurePath(file)
        at = max((index for index, part in enumerate(path.parts) if part in failures.INSTALLED), default=-1)
        if at < 0:
            return f"{file}:{line}"
        if path.parts[at + 1].partition(".")[0] not in {*failures.TOOLS, "onnxbuild"}:
            return f"{PurePath(*path.parts[at + 1 :]).as_posix()}:{line}"
    return ""
