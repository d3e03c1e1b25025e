"""The package stage: the final graph as files that stand alone, verified before they take their names."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from onnxbuild import report as reports
from onnxbuild.contracts import Outcome, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile
from onnxbuild.stages import model_package
from onnxbuild.system import failpoints, files, oserrors

VERSION = 1
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "protobuf")
TRAITS = frozenset({Trait.MAKES, Trait.PUBLISHES})
FIELDS: dict[str, tuple[str, ...]] = {
    "external_data": ("package", "external_data"),
    "variants": ("package", "layout"),
}
MODEL = "model.onnx"
WEIGHTS = "model.onnx.data"  # where the recipe or the size asks for it


def run(task: Task) -> Outcome:
    """Write every target's files, the model package if asked for, and model.onnx into `task.dest`, the model last.

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
    packed: dict[str, Path] = {}
    if task.options.get("variants"):
        packed = model_package.lay_out(
            Path(task.inputs["graph"]), task.options["variants"], targets, Path(task.scratch)
        )
        _verify(packed[f"{model_package.FOLDER}/{model_package.COMPONENT}/{model_package.ONNX}/{MODEL}"])
    made = {**targets, **packed, **{path.name: path for path in written}}
    artifacts = [
        {"path": name, "sha256": files.sha256_file(path), "bytes": path.stat().st_size} for name, path in made.items()
    ]
    try:
        reports.withdraw(dest)  # it lists what is about to be replaced
        _publish_files(targets, target_files(), dest)
        _publish_package(packed, dest)
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


def may_publish(name: str) -> bool:
    """Whether a file of that name, relative to the output folder, can be a package's."""
    return name in (MODEL, WEIGHTS) or name in target_files() or model_package.is_ours(name)


def _publish_files(made: Mapping[str, Path], possible: AbstractSet[str], dest: Path) -> None:
    """Each file under its name; others that an earlier build may have left go, and nothing else that lies there."""
    for name, path in made.items():
        with open(path, "rb") as file:
            files.write_atomic(dest / name, iter(lambda: file.read(files.CHUNK), b""))
    for name in possible - set(made):
        (dest / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody's files are in it, or it was never there
            for folder in (dest / name).parents:
                if folder == dest:
                    break
                folder.rmdir()


def _publish_package(packed: Mapping[str, Path], dest: Path) -> None:
    """Its manifest goes first and comes last: it never lists what lies there half."""
    if not packed and not (dest / model_package.FOLDER).is_dir():
        return
    (dest / model_package.MANIFEST).unlink(missing_ok=True)
    failpoints.reach("package.withdrawn", dest / model_package.MANIFEST)
    others = {name: path for name, path in packed.items() if name != model_package.MANIFEST}
    _publish_files(others, model_package.published(dest), dest)
    _publish_files({name: packed[name] for name in packed.keys() - others.keys()}, set(), dest)


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
