"""onnxsim: simplifies a graph by constant folding, shape inference and the optimizer passes it carries along.

The options are `onnxsim.simplify`'s own. Its random check of the result (`check_n`) is not among them: the parity stage
that follows every pass compares with the source framework, at more sizes. Options that trace, profile, prove or take
Python objects have no place in a recipe either. Knows nothing of stores.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from onnxbuild.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from onnxbuild.contracts import Json
    from onnxbuild.passes.beside import Beside

VERSION = 1
DISTRIBUTIONS: tuple[str, ...] = (
    "onnxsim",
    "onnx",
    "onnxruntime",
    "numpy",
)  # it folds constants by running them in onnxruntime

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
_FOLDED = {
    "Constant",
    "ConstantOfShape",
    "Shape",
    "Identity",
    "Cast",
    "Reshape",
    "Unsqueeze",
    "BatchNormalization",
    "Slice",
}


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of onnxsim.simplify, with its defaults."""

    perform_optimization: Annotated[bool, Meta(description="Run the optimizer passes that it carries along.")] = True
    skip_fuse_bn: Annotated[bool, Meta(description="Leave BatchNormalization out of Conv.")] = False
    skipped_optimizers: Annotated[list[str], Meta(description="Optimizer passes to leave out, by name.")] = []
    extra_optimizers: Annotated[list[str], Meta(description="Optimizer passes to run besides the default ones.")] = []
    skip_constant_folding: Annotated[bool, Meta(description="Fold no constants.")] = False
    skip_shape_inference: Annotated[bool, Meta(description="Infer no shapes.")] = False
    overwrite_input_shapes: Annotated[
        dict[str, list[Annotated[int, Meta(ge=0)]]],
        Meta(description="Fix inputs to these shapes; a dimension declared dynamic then fails the check."),
    ] = {}
    unused_output: Annotated[list[str], Meta(description="Outputs to remove from the graph.")] = []
    tensor_size_threshold: Annotated[
        str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(B|KB|MB|GB)$", description="Fold no constant larger than this.")
    ] = "1.5GB"
    mutable_initializer: Annotated[bool, Meta(description="Keep initializers that are inputs replaceable.")] = False
    initializers_as_constants: Annotated[bool, Meta(description="Fold what depends on initializers only.")] = True
    inline_functions: Annotated[bool, Meta(description="Inline the model's own functions first.")] = False
    gemm_fusion_backend: Annotated[
        Literal["ort_cpu", "unrestricted", "webgpu", "webnn"],
        Meta(description="Which runtime MatMul+Add to Gemm fusion should suit."),
    ] = "ort_cpu"


def run(
    path: Path,
    options: Options,
    scratch: Path,
    beside: Beside | None = None,  # noqa: ARG001  # the protocol's
) -> tuple[ModelProto, Path]:
    """Simplify. It reads the external tensors itself, and leaves its result in the scratch folder.

    Raises StageError where onnxsim refuses the model or its own result, or doesn't know an optimizer pass.
    """
    onnxsim = _without_torch()
    _know(options)
    arguments = msgspec.structs.asdict(options)
    arguments["skipped_optimizers"] = list(options.skipped_optimizers)  # simplify adds to the list it is given
    try:
        # certify=False: a proof that runs only where z3 happens to be installed would make equal builds differ. What comes
        # beside the model is the outcome of comparisons (check_n), which are not asked for.
        model, _ = onnxsim.simplify(str(path), **arguments, output_path=str(scratch / "simplified.onnx"), certify=False)
    except Exception as error:
        raise StageError(f"onnxsim: {type(error).__name__}: {error}") from error
    return model, scratch


def _without_torch() -> ModuleType:
    """The library, less its optional bridge to torch, whose import alone takes seconds and which no option uses."""
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        return importlib.import_module("onnxsim")
    finally:
        if hide:
            sys.modules.pop("torch", None)


def _know(options: Options) -> None:
    """Refuse names that onnxsim would pass over in silence."""
    import onnxsim.onnxsim_cpp2py_export as native

    known = {*native._list_optimizers(), *native._list_other_optimizers()}  # noqa: SLF001  # no public list
    unknown = sorted({*options.skipped_optimizers, *options.extra_optimizers} - known)
    if unknown:
        names = ", ".join(f"'{name}'" for name in unknown)
        raise StageError(f"onnxsim knows no optimizer pass {names}", f"Known: {', '.join(sorted(known))}.")


def opset(options: Options, before: int) -> int:  # noqa: ARG001  # the protocol's
    """It leaves the opset as it is."""
    return before


def proposed(operators: Mapping[str, int]) -> tuple[dict[str, Json], str] | None:
    """What it does to nearly every exported graph: constants and shapes are folded. Not where random numbers are drawn."""
    if _RANDOM.intersection(operators) or not _FOLDED.intersection(operators):
        return None  # it takes two random nodes of equal inputs for one
    return {}, "folds constants and shapes"


def notes(options: Options) -> Sequence[str]:  # noqa: ARG001  # the protocol's
    """Sentences for the report."""
    return []
