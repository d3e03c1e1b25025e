"""The package stage: the final graph as files that stand alone, verified before they take their names."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from onnxbuild import report as reports
from onnxbuild.contracts import Json, Outcome, Task, Trait
from onnxbuild.errors import StageError
from onnxbuild.graphs import modelfile, stamps
from onnxbuild.stages import model_package
from onnxbuild.store import keys, layout
from onnxbuild.system import failpoints, files, oserrors
from onnxbuild.targets import file_names

VERSION = 2
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "protobuf")
TRAITS = frozenset({Trait.MAKES, Trait.PUBLISHES})
FIELDS: dict[str, tuple[str, ...]] = {
    "external_data": ("package", "external_data"),
    "variants": ("package", "layout"),
    "recipe": (),
}
MODEL = "model.onnx"
WEIGHTS = "model.onnx.data"  # where the recipe or the size asks for it


def run(task: Task) -> Outcome:
    """Write every target's files, the model package if asked for, and model.onnx into `task.dest`, the model last.

    What vouches for older files goes before that. Weights go to model.onnx.data where `external_data` or protobuf's 2 GiB
    ask for it. Models are stamped with the recipe. An input's role is the name that a target's file is published under.
    Facts: {"artifacts": [{"path": relative to dest, "sha256", "bytes"}], "unstamped": {path of a model: {"sha256",
    "bytes"} without its stamp}}. Raises StageError where onnx refuses the written model; nothing in `task.dest` has
    changed then.
    """
    dest = Path(task.dest)
    written = modelfile.write(
        Path(task.inputs["graph"]),
        Path(task.scratch) / MODEL,
        external_data=task.options["external_data"],
        room=stamps.room(task.options["recipe"]["name"]),
    )
    unstamped = {MODEL: _stamped(task, written)}
    targets = {role: Path(path) for role, path in task.inputs.items() if role != "graph"}
    packed = _packed(task, targets)
    if packed:
        weights = [path for name, path in packed.items() if name.endswith(f"/{WEIGHTS}")]
        unstamped[model_package.GRAPH] = _stamped(task, [*weights, packed[model_package.GRAPH]])
    made = {**targets, **packed, **{path.name: path for path in written}}
    digests = {name: files.sha256_file(path) for name, path in made.items()}
    artifacts = [{"path": name, "sha256": digests[name], "bytes": path.stat().st_size} for name, path in made.items()]
    try:
        reports.withdraw(dest)  # it vouches for what is about to be replaced
        _publish_folders({**targets, **packed}, dest, digests)
        _publish(written, dest)
        _clear_left(dest)
    except OSError as error:
        if error.errno in oserrors.OUTSIDE:  # the store may be hit too: told for the whole machine
            raise
        in_the_way = isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError)
        hint = "move it away, or give --out another folder" if in_the_way else "give --out another folder"
        raise StageError(oserrors.explain(error, dest)[0], hint) from error
    return Outcome(facts={"artifacts": artifacts, "unstamped": unstamped})


def may_publish(name: str) -> bool:
    """Whether a file of that name, relative to the output folder, can be a package's."""
    return name in (MODEL, WEIGHTS) or name in file_names() or model_package.is_ours(name)


def weights_of(model: Path, name: str) -> Path:
    """Where a published model's external data lies: beside it, or among what a model package's variants share."""
    shared = sorted(model.parent.glob(f"../../{model_package.SHARED}/*/{WEIGHTS}")) if name == WEIGHTS else []
    return next((path for path in (model.parent / name, *shared) if path.exists()), model.parent / name)


def possible(dest: Path) -> set[str]:
    """What a package may have written into folders of an output folder, relative to it; not all of it need be there."""
    return file_names() | model_package.published(dest)


def _packed(task: Task, targets: dict[str, Path]) -> dict[str, Path]:
    """The files of onnxruntime's model package, where the recipe asks for it. Raises StageError as `run`."""
    if not task.options.get("variants"):
        return {}
    return model_package.lay_out(Path(task.inputs["graph"]), task.options["variants"], targets, Path(task.scratch))


def _stamped(task: Task, written: list[Path]) -> Json:
    """Stamp a model, the last of its files, and see that onnx takes it; what it is without. Raises StageError as `run`."""
    *weights, model = written
    recipe = task.options["recipe"]
    bare = stamps.append(model, recipe["name"], keys.key_of(recipe), weights[0] if weights else None)
    _verify(model)
    return {"sha256": bare.sha256, "bytes": bare.bytes}


def _publish_folders(found: dict[str, Path], dest: Path, made: dict[str, str]) -> None:
    """Each folder's files, the one that is loaded last and an older one out of the way before: it never lies with files that
    aren't its own. Those that are there already stay. What an earlier build left of targets or of a model package that the
    recipe no longer has goes, and nothing else that lies there. `made` are the digests by name.
    """
    by_folder: dict[str, list[str]] = {}
    for name in found:  # the one that is loaded is a folder's first
        by_folder.setdefault(name.partition("/")[0], []).append(name)
    for loaded, *others in by_folder.values():
        if all(_holds(dest / name, made[name]) for name in (loaded, *others)):
            continue
        if others:
            files.remove(dest / loaded)
            failpoints.reach("package.cleared", dest / loaded)
        for name in (*others, loaded):
            with open(found[name], "rb") as file:
                files.write_atomic(dest / name, iter(lambda: file.read(files.CHUNK), b""))
    for name in possible(dest) - set(found):
        if (dest / name).is_file():
            (dest / name).unlink()
        with contextlib.suppress(OSError):  # somebody's files are in it, or it was never there
            for folder in (dest / name).parents:
                if folder == dest:
                    break
                folder.rmdir()


def _holds(path: Path, digest: str) -> bool:
    try:
        return files.sha256_file(path) == digest
    except OSError:
        return False


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


def _clear_left(dest: Path) -> None:
    """Take away what killed processes of this machine left there half written, of targets and of the model."""
    for folder in {dest, *((dest / name).parent for name in possible(dest))}:
        for path in folder.glob(f"{files.TEMPORARY}*"):
            if layout.is_temporary(path.name) and not _is_alive(int(path.name.split("-")[1])):
                path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    """Whether there is such a process; true where the system doesn't tell."""
    if os.name == "nt":  # a signal of 0 would end it there
        return True
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


def _verify(model: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(model))
    except Exception as error:
        raise StageError(f"the packaged model is not valid ONNX: {error}") from error
