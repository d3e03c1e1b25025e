"""Faults between the graph and a target: files that load, run and look right, and were made of another graph.

They are planted where a converter would have put them: in the store, as what the target's stage gave. All that comes after
is the command's own: it finds the files there, runs them, and has to say which target is wrong.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import onnx
import pytest
from several_outputs import model, project
from workspace import REPOSITORY, Workspace

from onnxbuild.contracts import Task
from onnxbuild.graphs import modelfile
from onnxbuild.runtimes import web
from onnxbuild.stages import target
from onnxbuild.store.store import LocalStore

INSTALLED = REPOSITORY / "tests/web"  # by `make test`
TARGETS = ["openvino", "ort", *([] if web.missing(INSTALLED) else ["web"])]
FAULTS = {
    "a scaled weight": (model(times=1.1), {"y", "z"}),
    "swapped outputs": (model(swapped=True), {"y", "z"}),
    "a dropped axis": (model(dropped=True), {"y"}),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "node_modules").symlink_to(INSTALLED / "node_modules")  # where node finds it from the project
    made = project(folder / "project", f"targets: {{{', '.join(f'{name}: {{}}' for name in TARGETS)}}}\n")
    made.run("run", "several.yaml")
    return made


def plant(workspace: Workspace, name: str, graph: bytes, scratch: Path) -> None:
    """Let a target's stage have given the files of another graph, which its own code makes."""
    keys = {stage["name"]: stage["key"] for stage in workspace.report("several")["stages"]}
    store = LocalStore(workspace.root / ".onnxbuild", pytest.fail)
    objects, stage = store.workplace().objects, f"target/{name}"
    ref, _ = modelfile.save(onnx.load_from_string(graph), None, objects)
    given = store.any_trace(keys[stage])
    scratch.mkdir()
    task = Task(
        stage, target.__name__, given.document["options"], {"graph": str(objects / ref)},
        str(workspace.root), str(objects), str(scratch),
    )  # fmt: skip
    outcome = target.run(task)
    assert outcome.outputs != given.outcome.outputs
    store.keep(keys[stage], msgspec.structs.replace(given, outcome=outcome, sizes=store.sizes(outcome.objects)))
    store.close()


def published(workspace: Workspace) -> dict[str, str]:
    folder = workspace.root / "build/several"
    own = ("report.", "manifest.", "bom.", "provenance.")  # these tell of the run, or vouch for what it built
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(own))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_between_the_graph_and_a_target_is_found_of_each(built, tmp_path, fault):
    graph, wrong = FAULTS[fault]
    (tmp_path / "node_modules").symlink_to(INSTALLED / "node_modules")
    edited = built.copy(tmp_path / "project")
    before = published(edited)
    for name in TARGETS:
        plant(edited, name, graph, tmp_path / name)
    ran = edited.run("run", "several.yaml", code=1)
    report, statuses = edited.report("several"), edited.statuses("several")

    assert edited.built("several") == {f"parity/{name}" for name in TARGETS}
    assert statuses["package"] == "skipped"
    assert published(edited) == before
    for name in TARGETS:
        assert statuses[f"parity/{name}"] == "failed"
        assert f"✗ parity/{name} failed" in ran.text
        rows = [row for row in report["parity"] if row["stage"] == f"parity/{name}"]
        assert {row["output"] for row in rows if not row["passed"]} == wrong
        (told,) = (one for one in report["targets"] if one["name"] == name)
        assert told["level"] == "run"
    if fault == "a dropped axis":
        assert "rank 1 instead of 2" in ran.text
