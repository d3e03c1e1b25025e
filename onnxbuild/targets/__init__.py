"""What other runtimes load, by the name that a recipe's `targets` uses. To add one: a module here and a line below.

A target takes the final graph and gives files. It knows no stage, no store and no tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from onnxbuild.targets import coreml, openvino, ort, tensorrt, tensorrt_engine, web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from onnxbuild.contracts import Shapes, TargetModule

__all__ = ["DIFFERENCES", "OF_PROGRAMS", "TARGETS", "file_names"]

TARGETS: dict[str, TargetModule] = {
    "openvino": openvino,
    "coreml": coreml,
    "ort": ort,
    "web": web,
    "tensorrt": tensorrt,
}

# What is to be said of two builds of a file that are not the same bytes, by the file's name; "" where there is nothing.
DIFFERENCES: dict[str, Callable[[bytes, bytes], str]] = {tensorrt.ENGINE: tensorrt_engine.difference}


def file_names() -> set[str]:
    """Every file of a target that a build may publish, relative to the output folder."""
    return {f"{name}/{file}" for name, module in TARGETS.items() for file in module.FILES}


class ProgramTarget(Protocol):
    """A target that can be made from the source's own model too, without the graph: one that is in `OF_PROGRAMS`.

    `of_program(options)` says whether the recipe asks for that. `build_from` is as `build`, with a program of
    torch.export in place of the graph.
    """

    def of_program(self, options: Any) -> bool: ...
    def build_from(
        self, program: Any, options: Any, scratch: Path, shapes: Shapes
    ) -> tuple[Mapping[str, Path], Sequence[str]]: ...


OF_PROGRAMS: dict[str, ProgramTarget] = {"coreml": coreml}
