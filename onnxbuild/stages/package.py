"""The package stage: the final graph as files that stand alone, verified before they take their names."""

from __future__ import annotations

from pathlib import Path

from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile
from onnxbuild.system import failpoints, files, oserrors

VERSION = 1
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "protobuf")
TRAITS = frozenset({Trait.MAKES, Trait.PUBLISHES})
FIELDS: dict[str, tuple[str, ...]] = {"external_data": ("package", "external_data")}
MODEL = "model.onnx"
WEIGHTS = "model.onnx.data"  # where the recipe or the size asks for it


def run(task: Task) -> Outcome:
    """Write model.onnx, and model.onnx.data where `external_data` or protobuf's 2 GiB ask for it, into `task.dest`.

    Facts: {"artifacts": [{"path": relative to dest, "sha256", "bytes"}]}. Raises StageError where onnx refuses the
    written model; nothing in `task.dest` has changed then.
    """
    dest = Path(task.dest)
    written = modelfile.write(
        Path(task.inputs["graph"]), Path(task.scratch) / MODEL, external_data=task.options["external_data"]
    )
    _verify(written[-1])
    artifacts = [
        {"path": path.name, "sha256": files.sha256_file(path), "bytes": path.stat().st_size} for path in written
    ]
    try:
        _publish(written, dest)
    except OSError as error:
        if error.errno in oserrors.OUTSIDE:  # the store may be hit too: told for the whole machine
            raise
        raise StageError(oserrors.explain(error, dest)[0], "move it away, or give --out another folder") from error
    return Outcome(facts={"artifacts": artifacts})


def _publish(written: list[Path], dest: Path) -> None:
    """Weights first, and any older model out of the way before: no model is ever there with weights that aren't its own."""
    if len(written) > 1:
        files.remove(dest / MODEL)
        failpoints.reach("package.cleared", dest / MODEL)
    for path in written:
        files.move(path, dest / path.name)
    failpoints.reach("package.moved", dest / MODEL)
    if len(written) == 1:
        (dest / WEIGHTS).unlink(missing_ok=True)


def _verify(model: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(model))
    except Exception as error:
        raise StageError(f"the packaged model is not valid ONNX: {error}") from error
