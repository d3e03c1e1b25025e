"""Where in the model's code an exporter met what it could not take, in the places that torch's exceptions leave out.

torch.export says that a dimension "was specialized", and not by which line; the exporters say which operator they lack, and
not who called it. Both are listened to while they work.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from onnxbuild.sources import failures, lines
from onnxbuild.sources.failures import Place


class Seen:
    """What was met until now: the lines at which a size became a number, and the one that called a lacking operator."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.sizes: list[Place] = []
        self.operator: Place | None = None

    def size(self) -> None:
        """A size was compared with a number, or became one."""
        frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_stack()]
        if place := self._deepest(frames):
            self.sizes.append(place)

    def node(self, told: str) -> None:
        """An operator could not be translated; `told` has the Python frames that led to it, in some form."""
        self.operator = self.operator or self._deepest(lines.frames(told))

    def _deepest(self, frames: list[tuple[str, int]]) -> Place | None:
        where = failures.models_line(frames, self._root)
        if where is None:
            return None
        import linecache

        return Place(failures.named(*where, self._root), linecache.getline(*where).strip())


def _replacing(seen: Seen, call: Callable[..., Any]) -> Callable[..., Any]:
    """Torch's replacing of a size's symbol, listened to where a number takes its place."""

    def listened(self: Any, symbol: Any, target: Any, *rest: Any, **named: Any) -> Any:
        if getattr(target, "is_Integer", False):
            seen.size()
        return call(self, symbol, target, *rest, **named)

    return listened


def _translating(seen: Seen, call: Callable[..., Any], told: Callable[..., str]) -> Callable[..., Any]:
    """An exporter's translation of one operator, listened to where it fails."""

    def listened(*arguments: Any, **named: Any) -> Any:
        try:
            return call(*arguments, **named)
        except Exception:
            seen.node(told(*arguments, **named))
            raise

    return listened


def _of_fx(_model: Any, node: Any, *_: Any, **__: Any) -> str:
    """The frames of a node of torch.export's graph."""
    return str(getattr(node, "meta", {}).get("stack_trace") or "")


def _of_torchscript(_graph: Any, _block: Any, node: Any, *_: Any, **__: Any) -> str:
    """The frames of a node of TorchScript's graph."""
    return str(node.sourceRange()) if hasattr(node, "sourceRange") else ""


def _translating_fx(seen: Seen, call: Callable[..., Any]) -> Callable[..., Any]:
    return _translating(seen, call, _of_fx)


def _translating_torchscript(seen: Seen, call: Callable[..., Any]) -> Callable[..., Any]:
    return _translating(seen, call, _of_torchscript)


# By exporter, what is listened to: a module of torch, what holds a private function there ("" for the module itself), and
# the function. The other exporter's modules are not imported: a build depends on what its process imports.
_WATCHED: dict[str, list[tuple[str, str, str, Callable[[Seen, Any], Any]]]] = {
    "dynamo": [
        ("torch.fx.experimental.symbolic_shapes", "ShapeEnv", "_set_replacement", _replacing),
        ("torch.onnx._internal.exporter._core", "", "_handle_call_function_node_with_lowering", _translating_fx),
    ],
    "torchscript": [
        ("torch.onnx._internal.torchscript_exporter.utils", "", "_run_symbolic_function", _translating_torchscript),
    ],
}


@contextmanager
def watched(exporter: str, root: Path) -> Iterator[Seen]:
    """Listen to torch while it exports. torch's own functions are wrapped meanwhile; what they do stays the same."""
    seen = Seen(root)
    wrapped: list[tuple[Any, str, Any]] = []
    for module, holder, name, wrap in _WATCHED[exporter]:
        owner = importlib.import_module(module)
        owner = getattr(owner, holder) if holder else owner
        if (call := getattr(owner, name, None)) is not None:  # a private function: another torch may lack it
            wrapped.append((owner, name, wrap(seen, call)))
    with ExitStack() as undone:
        for owner, name, listened in wrapped:
            undone.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, listened)
        yield seen
