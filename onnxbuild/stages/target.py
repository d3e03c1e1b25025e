"""The target stage: the final graph, or the source's own model, as the files that another runtime loads.

Which targets there are, `targets` knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from onnxbuild.contracts import Outcome, Shapes, Task, Trait
from onnxbuild.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnxbuild.contracts import Json, TargetModule

VERSION = 1
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "protobuf")
TRAITS = frozenset({Trait.MAKES, Trait.TARGETS})
FIELDS: dict[str, tuple[str, ...]] = {}


def run(task: Task) -> Outcome:
    """Build the target `task.options["target"]` from the graph, and keep its files, each an output by its own name.

    With `source` among the options it is made from the source's own model, and the graph is not looked at. One that loads
    the published model itself is handed that, and passes the graph on: its files are the package's.

    Facts: {"target": name, "runtime": what runs it, "files": [{"path": in the output folder, "sha256", "bytes"}],
    "notes"}. Raises StageError where the converter refuses.
    """
    from onnxbuild.store import objects
    from onnxbuild.targets import TARGETS

    name = task.options["target"]
    module = TARGETS[name]
    options = msgspec.convert(task.options["options"], module.Options)
    shapes = msgspec.convert(task.options.get("shapes", {}), Shapes)
    if "published" in task.options:
        return _of_published(task, module, options, shapes)
    if "source" in task.options:
        made, notes, warnings = _of_program(task, options, shapes)
    else:
        made, notes, warnings = *_of_graph(task, module, options, shapes), []
    sizes = {file: path.stat().st_size for file, path in made.items()}
    outputs = {file: objects.add_file(Path(task.objects), path) for file, path in made.items()}
    files = [
        {"path": f"{name}/{file}", "sha256": objects.digest_of(ref), "bytes": sizes[file]}
        for file, ref in outputs.items()
    ]
    facts = {"target": name, "runtime": module.RUNTIME, "files": files, "notes": list(notes)}
    return Outcome(outputs, list(outputs.values()), facts, warnings)


def _of_graph(
    task: Task, module: TargetModule, options: Json, shapes: Shapes
) -> tuple[Mapping[str, Path], Sequence[str]]:
    """What the target makes of the graph; where it refuses one whose source could be taken instead, that is said."""
    try:
        return module.build(Path(task.inputs["graph"]), options, Path(task.scratch), shapes)
    except StageError as error:
        if not task.options.get("programs") or not error.hint:
            raise
        other = f"give targets.{task.options['target']}.source: program, to try the source model itself"
        raise StageError(error.fact, f"{other}; or {error.hint}") from error


def _of_program(task: Task, options: Json, shapes: Shapes) -> tuple[Mapping[str, Path], Sequence[str], list[str]]:
    """What the target makes of the source's own model; and what was heard as that was captured."""
    from onnxbuild.sources import PROGRAMS, SOURCES
    from onnxbuild.system.capture import listening
    from onnxbuild.targets import OF_PROGRAMS

    (name,) = task.options["source"]
    with listening(Path(task.root), SOURCES[name].NOISE) as heard:
        program = PROGRAMS[name].program(task)
    made, notes = OF_PROGRAMS[task.options["target"]].build_from(program, options, Path(task.scratch), shapes)
    return made, [*notes, *SOURCES[name].remarks(heard)], list(heard)


def _of_published(task: Task, module: TargetModule, options: Json, shapes: Shapes) -> Outcome:
    """The model as the package writes it, tried by a target that adds no file to it."""
    from onnxbuild.graphs import external, modelfile
    from onnxbuild.stages import package
    from onnxbuild.system.files import sha256_file

    graph, scratch = Path(task.inputs["graph"]), Path(task.scratch)
    written = modelfile.write(graph, scratch / "published" / package.MODEL, **task.options["published"])
    (scratch / "target").mkdir()
    _, notes = module.build(written[-1], options, scratch / "target", shapes)
    files = [{"path": path.name, "sha256": sha256_file(path), "bytes": path.stat().st_size} for path in written[::-1]]
    ref = graph.relative_to(task.objects).as_posix()
    facts = {"target": task.options["target"], "runtime": module.RUNTIME, "files": files, "notes": list(notes)}
    return Outcome({"graph": ref}, [ref, *external.locations(graph)], facts)
