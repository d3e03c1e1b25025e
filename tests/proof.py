"""A target's files, changed after they were built, and held against the source model once more: is a fault found?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from workspace import Workspace

from onnxbuild.contracts import Task
from onnxbuild.stages import parity
from onnxbuild.store.store import LocalStore

Files: TypeAlias = dict[str, Path]  # by the name that each is published under


def proven(built: Workspace, recipe: str, target: str, scratch: Path, change: Callable[[Files], None]) -> list[dict]:
    """What a target's parity measures of its files, as `change` leaves them; one row by case and output."""
    stages = {stage["name"]: stage for stage in built.report(recipe)["stages"]}
    store = LocalStore(built.root / ".onnxbuild", pytest.fail)
    proof, reference = (store.any_trace(stages[name]["key"]) for name in (f"parity/{target}", "reference"))
    names = proof.document["options"]["target"]["files"]
    files = {name: scratch / Path(name).name for name in names}
    for name, path in files.items():
        path.write_bytes((built.root / "build" / recipe / target / name).read_bytes())
    change(files)
    taken = {"graph" if name == names[0] else name: str(path) for name, path in files.items()}
    known = {"reference": str(store.workplace().objects / reference.outcome.outputs["reference"])}
    task = Task(
        f"parity/{target}", parity.__name__, proof.document["options"], taken | known, str(built.root), "", str(scratch)
    )
    return parity.run(task).facts["results"]
