"""A MIL program with open sizes, as it is at given ones: by coremltools' own pass for that. Knows no arrays."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxbuild.runtimes import mil
from onnxbuild.system import capture

# Shapes that were computed become constants; nothing else of the program is rewritten.
PASSES = ("common::const_elimination", "common::dead_code_elimination")


@contextmanager
def bound(spec: Any, weights: Path, sizes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[Any, Any, Path]]:
    """The one function of `spec` at these shapes by the inputs' names, its block, and the folder of its weights.

    `weights` is the folder that the program's own weights are relative to. What coremltools can't bring to these shapes
    (a size that was baked in) raises ValueError.
    """
    mil.library()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = capture.output_to(log, lambda: _materialized(spec, weights, sizes, Path(folder)))
        function = made.mlProgram.functions["main"]
        yield (
            function,
            function.block_specializations[function.opset],
            Path(folder) / "at.mlpackage/Data/com.apple.CoreML",
        )


def _materialized(spec: Any, weights: Path, sizes: Mapping[str, tuple[int, ...]], folder: Path) -> Any:
    from coremltools import ComputeUnit
    from coremltools.converters.mil.converter import mil_convert
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipeline, PassPipelineManager

    program = load(spec, spec.specificationVersion, str(weights / "weights"))
    first = "common::materialize_symbolic_shape_program"
    pipeline = PassPipeline([first, *PASSES], "at given sizes")
    pipeline.set_options(first, {"function_name_to_materialization_map": {"main": dict(sizes)}})
    PassPipelineManager.apply_pipeline(program, pipeline)
    program.skip_all_passes = True
    made = mil_convert(
        program,
        convert_from="milinternal",
        convert_to="mlprogram",
        specification_version=spec.specificationVersion,
        compute_units=ComputeUnit.CPU_ONLY,
        skip_model_load=True,
        package_dir=str(folder / "at.mlpackage"),
    )
    return made.get_spec()
