"""Where the nodes of a diff's side come from: of a build what the store has beside its graphs, of a file what it notes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from onnxbuild.errors import UserError
from onnxbuild.queries.workspace import Places
from onnxbuild.store.objects import digest_of
from onnxbuild.system import project

if TYPE_CHECKING:
    from onnxbuild.contracts import Outcome
    from onnxbuild.graphs.lines import Lines
    from onnxbuild.report.types import Report
    from onnxbuild.review.sides import Read
    from onnxbuild.store.interface import Store
    from onnxbuild.store.traces import Trace


def lines(read: Read, places: Places, root: Path | None = None) -> Lines | None:
    """What traces the nodes of a side's model back, None where nothing does.

    `root` is the project that the build is of, where that is not the one it lies in. Raises UserError where the model
    can't be read.
    """
    if read.model is None:
        return None
    if read.report is None:
        return _of_file(read.model)
    from onnxbuild.queries import lines as of_store

    try:
        store, _ = places.store(root or Path(project.root_of(str(read.model))))
    except UserError:  # it is not ours to read: nodes are told without their lines
        return None
    found = of_store.traced(store, _outcomes(read.report, store))
    return found[1] if found else None


def _of_file(path: Path) -> Lines:
    from onnxbuild.graphs import mapped
    from onnxbuild.graphs.lines import Lines
    from onnxbuild.sources import lines as noted

    model = mapped.read(path)
    return Lines(noted.of(model, "", path.parent, authored=True), [model])


def _outcomes(report: Report, store: Store) -> list[Outcome]:
    """What the stages gave that led to the published graph, from the export on; [] where the store lacks one of them."""
    keys = [one for one in report.stages if re.fullmatch("[0-9a-f]{64}", one.key)]
    made = msgspec.to_builtins(report.artifacts)
    last = next((one for one in keys if one.facts.get("artifacts") == made), None)
    trace = store.find(last.key, lambda trace: trace.outcome.facts.get("artifacts") == made) if last else None
    found: list[Outcome] = []
    for one in reversed(keys):
        if trace is None or (wanted := trace.document["inputs"].get("graph")) is None:
            break

        def gives(held: Trace, wanted: str = wanted) -> bool:
            return digest_of(held.outcome.outputs.get("graph", "")) == wanted

        if (before := store.find(one.key, gives)) is not None:
            trace = before
            found.insert(0, before.outcome)
    return found
