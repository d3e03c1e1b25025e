"""The package stage: the final graph as files that stand alone, verified before they take their names."""

from __future__ import annotations

import contextlib
from pathlib import Path

from onnxbuild import report as reports
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
    """Write every target's files, and model.onnx, into `task.dest`, the model last.

    An older manifest.json goes before that. Weights go to model.onnx.data where `external_data` or protobuf's 2 GiB ask for
    it. An input's role is the name that a target's file is published under. Facts: {"artifacts": [{"path": relative to
    dest, "sha256", "bytes"}]}. Raises StageError where onnx refuses the written model; nothing in `task.dest` has changed
    then.
    """
    dest = Path(task.dest)
    written = modelfile.write(
        Path(task.inputs["graph"]), Path(task.scratch) / MODEL, external_data=task.options["external_data"]
    )
    _verify(written[-1])
    targets = {role: Path(path) for role, path in task.inputs.items() if role != "graph"}
    made = {**targets, **{path.name: path for path in written}}
    artifacts = [
        {"path": name, "sha256": files.sha256_file(path), "bytes": path.stat().st_size} for name, path in made.items()
    ]
    try:
        reports.withdraw(dest)  # it lists what is about to be replaced
        _publish_targets(targets, dest)
        _publish(written, dest)
    except OSError as error:
        if error.errno in oserrors.OUTSIDE:  # the store may be hit too: told for the whole machine
            raise
        in_the_way = isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError)
        hint = "move it away, or give --out another folder" if in_the_way else "give --out another folder"
        raise StageError(oserrors.explain(error, dest)[0], hint) from error
    return Outcome(facts={"artifacts": artifacts})


def target_files() -> set[str]:
    """Every file of a target that a package may have published, relative to the output folder."""
    from onnxbuild.targets import TARGETS

    return {f"{name}/{file}" for name, module in TARGETS.items() for file in module.FILES}


def _publish_targets(targets: dict[str, Path], dest: Path) -> None:
    """Each file under its name; those of targets that the recipe no longer has go, and nothing else that lies there."""
    for name, path in targets.items():
        with open(path, "rb") as file:
            files.write_atomic(dest / name, iter(lambda: file.read(files.CHUNK), b""))
    for name in target_files() - set(targets):
        (dest / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody's files are in it, or it was never there
            for folder in (dest / name).parents:
                if folder == dest:
                    break
                folder.rmdir()


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
