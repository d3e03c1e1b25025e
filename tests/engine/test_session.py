"""The report beside what was published: true after any run, and left alone by one that finds nothing to do."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time

import pytest
import several
from workspace import REPOSITORY, Workspace

PAGES = ("build/a/report.html", "build/a/report.md")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A recipe that was built once; tests take a copy."""
    workspace = Workspace.make(tmp_path_factory.mktemp("built") / "project")
    several.add(workspace, "a", several.PASSES, several.BENCHMARK)
    workspace.write("a.yaml", workspace.read("a.yaml") + "parity: {rtol: 1.0e-3, atol: 1.0e-5}\n")
    workspace.run("run", "a.yaml")
    return workspace


def listing(workspace: Workspace) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in workspace.root.rglob("*")
        if "leases" not in path.parts
    }


def content(report: dict) -> dict:
    """A report less all that may vary from run to run on the same inputs, as `report.types` says."""
    varies = ("status", "why", "seconds", "peak_rss_bytes")
    stages = [{name: value for name, value in stage.items() if name not in varies} for stage in report["stages"]]
    return {name: value for name, value in report.items() if name not in ("run", "benchmark")} | {"stages": stages}


def test_with_nothing_to_do_nothing_is_written(edited):
    edited.run("run", "a.yaml")
    before = listing(edited)
    edited.run("run", "a.yaml")

    assert listing(edited) == before


def test_a_verdict_that_changes_while_every_stage_is_cached_is_on_the_pages(workspace):
    """No tolerance is in any key."""
    several.add(workspace, "a", text=several.REWRITTEN)
    loose, tight = (several.LOOSE, "parity: {rtol: 0.0, atol: 0.0}\n")
    recipe = workspace.read("a.yaml")
    for parity, code, verdict in ((loose, 0, "Built in"), (tight, 1, "Failed at"), (loose, 0, "Up to date")):
        workspace.write("a.yaml", recipe + parity)
        workspace.run("run", "a.yaml", code=code)

        assert all(verdict in workspace.read(page) for page in PAGES)


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("rtol: 1.0e-3", "rtol: 2.5e-3, reason: rounding", "0.0025"),
        ("version: 1\n", "version: 1\ndescription: other words\n", "other words"),
    ],
)
def test_an_edit_that_runs_nothing_is_on_the_pages(edited, old, new, shown):
    before = edited.report("a")["recipe"]["sha256"]
    edited.replace("a.yaml", old, new)
    edited.run("run", "a.yaml")

    assert shown in edited.read(PAGES[0])
    for page in PAGES:
        assert before not in edited.read(page)
        assert edited.report("a")["recipe"]["sha256"] in edited.read(page)


def test_pages_that_a_killed_run_did_not_come_to_are_written_by_the_next(edited):
    edited.replace("a.yaml", "version: 1\n", "version: 1\ndescription: other words\n")
    edited.env["ONNXBUILD_FAILPOINT"] = "write.done@*/report.json"
    edited.run("run", "a.yaml", code=-9)
    del edited.env["ONNXBUILD_FAILPOINT"]
    assert "other words" in edited.read("build/a/report.json") and "other words" not in edited.read(PAGES[0])

    edited.run("run", "a.yaml")
    assert "other words" in edited.read(PAGES[0])


@pytest.mark.parametrize(
    ("point", "published"),
    [("move.begun@*/model.onnx", False), ("move.done@*/model.onnx", True), ("move.done@*/model.onnx.data", False)],
)
def test_a_package_that_fails_says_what_it_left(edited, point, published):
    several.weighty(edited, "a", rows=32, seed=1)
    edited.env["ONNXBUILD_FAILPOINT"] = point
    edited.run("run", "a.yaml", code=1)
    report = edited.report("a")

    assert report["stages"][-1]["status"] == "failed"
    assert [made["path"] for made in report["artifacts"]] == (["model.onnx.data", "model.onnx"] if published else [])
    for page in PAGES:
        assert ("Nothing was published" in edited.read(page)) == (not published)
        assert ("is whole and was written during this run" in edited.read(page)) == published
    assert "the last build failed" in edited.run("verify", "a.yaml", code=1).out


def test_a_graph_that_can_not_be_run_here_is_up_to_date_all_the_same(workspace):
    """Its benchmark is skipped, run after run, and nothing waits for that."""
    workspace.write("models/gate.py", (REPOSITORY / "recipes/models/gate.py").read_text())
    recipe = (REPOSITORY / "recipes/gate-torchscript.yaml").read_text().replace("recipes.models", "models")
    workspace.write("gate.yaml", recipe + several.BENCHMARK)
    (foreseen,) = json.loads(workspace.run("plan", "gate.yaml", "--json").out)["recipes"]
    assert {stage["state"] for stage in foreseen["stages"]} == {"run"}
    workspace.run("run", "gate.yaml")
    name = json.loads(workspace.run("plan", "gate.yaml", "--json").out)["recipes"][0]["name"]
    assert workspace.statuses(name)["benchmark"] == "skipped" and workspace.statuses(name)["package"] == "built"
    ran = workspace.run("run", "gate.yaml")
    before = listing(workspace)

    assert f"{name}: up to date, " in ran.out
    workspace.run("run", "gate.yaml")
    assert listing(workspace) == before
    planned = json.loads(workspace.run("plan", "gate.yaml", "--check", "--json").out)
    assert planned["up_to_date"] is planned["recipes"][0]["up_to_date"] is True
    states = {stage["name"]: stage["state"] for stage in planned["recipes"][0]["stages"]}
    assert states.pop("benchmark") == "skip" and set(states.values()) == {"up to date"}
    assert "up to date (" in workspace.run("plan", "gate.yaml").out


def test_equal_builds_have_equal_reports_but_for_what_was_measured(built, tmp_path):
    other = Workspace.make(tmp_path / "other")
    other.write("a.yaml", built.read("a.yaml"))
    (other.root / "a.onnx").write_bytes((built.root / "a.onnx").read_bytes())
    ran = other.run("run", "a.yaml")

    assert "latency p50" in ran.out
    assert content(other.report("a")) == content(built.report("a"))
    assert other.report("a")["benchmark"]["p50"] != built.report("a")["benchmark"]["p50"]


def test_the_recipes_path_is_written_with_slashes(workspace):
    several.add(workspace, "a")
    workspace.write("recipes/a.yaml", workspace.read("a.yaml"))
    workspace.run("run", "recipes/a.yaml")

    assert workspace.report("a")["recipe"]["path"] == "recipes/a.yaml"


def test_a_model_of_an_earlier_build_is_told_of_only_where_there_is_one(workspace):
    note = "model.onnx in this folder is from an earlier build"
    several.add(workspace, "a", text=several.REWRITTEN)
    recipe = workspace.read("a.yaml")
    workspace.write("a.yaml", recipe + "parity: {rtol: 0.0, atol: 0.0}\n")
    workspace.run("run", "a.yaml", code=1)
    assert not any(note in said for said in workspace.report("a")["notes"])

    workspace.write("a.yaml", recipe + several.LOOSE)
    workspace.run("run", "a.yaml")
    workspace.write("a.yaml", recipe + "parity: {rtol: 0.0, atol: 0.0}\n")
    workspace.run("run", "a.yaml", code=1)
    assert any(note in said for said in workspace.report("a")["notes"])


def test_a_report_that_can_not_take_its_place_fails(edited):
    path = edited.root / "build/a/report.json"
    path.unlink()
    path.mkdir()
    ran = edited.run("run", "a.yaml", code=1)

    assert f"{path}: Is a directory" in ran.text and "move it away" in ran.text
    path.rmdir()
    edited.run("run", "a.yaml")
    assert path.is_file()


def test_declared_files_are_in_the_report_with_their_digests(built):
    model = (built.root / "a.onnx").read_bytes()

    assert built.report("a")["sources"] == [
        {"path": "a.onnx", "sha256": hashlib.sha256(model).hexdigest(), "bytes": len(model), "declared": True}
    ]
    assert "exported by" not in built.read("build/a/report.md")


def test_an_interrupted_run_is_remembered(workspace):
    """Which result each finished stage took: for explanations, and against the collector."""
    several.add(workspace, "a")
    workspace.env["ONNXBUILD_FAILPOINT"] = "stop package.moved"
    command, environment = workspace.command("run", "a.yaml")
    with subprocess.Popen(command, cwd=workspace.root, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (workspace.root / "build/a/model.onnx").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10)
    workspace.env.clear()

    finished = set(several.STAGES) - {"package"}
    workspace.replace("a.yaml", "max: 4", "max: 5")
    stages = json.loads(workspace.run("explain", "a.yaml", "export", "--json").out)["stages"]
    assert [reason["field"] for reason in stages[0]["reasons"]] == ["export.dims.batch.max"]
    workspace.replace("a.yaml", "max: 5", "max: 4")
    workspace.run("cache", "gc", "--max-size", "0")
    planned = json.loads(workspace.run("plan", "a.yaml", "--json").out)["recipes"][0]["stages"]
    assert {stage["name"] for stage in planned if stage["state"] == "up to date"} == finished
