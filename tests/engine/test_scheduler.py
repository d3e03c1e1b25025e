"""Several recipes in one command: what runs beside what, what a failure stops, and that -j changes no result."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import onnx
import pytest
import several
from workspace import Workspace

from onnxbuild.engine import memory
from onnxbuild.engine.session import Session, Settings
from onnxbuild.executors import Template
from onnxbuild.report.progress import Progress
from onnxbuild.system import memory as of_system

MIB = 1 << 20
# What differs between two runs on the same inputs.
MEASURED = ("run", "benchmark", "notes")


class Watch(Progress):
    """Notes which stages run at the same time."""

    def __init__(self):
        super().__init__(io.StringIO(), quiet=True, errors=io.StringIO())
        self.running: set[tuple[str, str]] = set()
        self.together: list[frozenset[tuple[str, str]]] = []

    def started(self, recipe, stage, why):
        super().started(recipe, stage, why)
        self.running.add((recipe, stage))
        self.together.append(frozenset(self.running))

    def ended(self, recipe, stage):
        super().ended(recipe, stage)
        self.running.discard((recipe, stage))

    @property
    def most(self):
        return max(map(len, self.together))


def build(workspace: Workspace, names, **settings) -> tuple[Watch, list]:
    """Build in this very process, watched."""
    watch = Watch()
    with Session(Settings(**settings), watch) as session:
        loaded = session.load([workspace.root / name for name in names])
        reports = list(session.build_all(loaded))
    assert [f for r in reports for f in r.failures] == []
    return watch, reports


@pytest.fixture
def three(workspace):
    return [several.add(workspace, f"r{n}", several.PASSES, several.BENCHMARK, first=n) for n in range(3)]


def same(report: dict) -> dict:
    """A report without what is measured and what depends on which of two equal stages came first."""
    stages = [
        {k: v for k, v in s.items() if k not in ("seconds", "peak_rss_bytes", "facts", "notes")}
        for s in report["stages"]
    ]
    return {**{k: v for k, v in report.items() if k not in MEASURED}, "stages": stages}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.onnx*"))}


def test_stages_of_different_recipes_run_side_by_side_and_benchmarks_alone(workspace, three):
    watch, reports = build(workspace, three, jobs=4)

    assert [report.status for report in reports] == ["done"] * 3
    assert 2 <= watch.most <= 4
    assert any(len({recipe for recipe, _ in running}) > 1 for running in watch.together)
    benchmarks = [running for running in watch.together if any(stage == "benchmark" for _, stage in running)]
    assert len(benchmarks) == 3 and all(len(running) == 1 for running in benchmarks)
    assert watch.running == set()


def test_one_job_runs_one_stage_at_a_time(workspace, three):
    watch, _ = build(workspace, three, jobs=1)

    assert watch.most == 1


def test_results_and_reports_do_not_depend_on_the_number_of_jobs(workspace, three):
    for jobs in ("1", "8"):
        workspace.run("run", *three, "-j", jobs, "--out", f"out{jobs}")
        workspace.env["ONNXBUILD_CACHE"] = str(workspace.root / "another-store")
    one, eight = workspace.root / "out1", workspace.root / "out8"

    assert files(one) == files(eight) and len(files(one)) == 3
    for name in ("r0", "r1", "r2"):
        alone, crowded = (json.loads((out / name / "report.json").read_text()) for out in (one, eight))
        assert same(alone) == same(crowded)


def test_equal_stages_of_two_recipes_run_once(workspace):
    several.add(workspace, "a", first=1)
    workspace.write("b.yaml", workspace.read("a.yaml").replace("name: a", "name: b"))
    _, reports = build(workspace, ["a.yaml", "b.yaml"], jobs=8)

    ran = [stage.name for report in reports for stage in report.stages if stage.status == "built"]
    assert sorted(ran) == sorted([*several.STAGES, "package"])


def test_a_budget_of_memory_bounds_what_runs_together_and_what_is_too_big_runs_alone(workspace, three):
    watch, reports = build(workspace, three, jobs=8, memory=1)
    assert watch.most == 1
    assert all(report.status == "done" for report in reports)


def test_what_a_stage_took_the_last_time_is_what_it_is_expected_to_take(workspace, monkeypatch):
    monkeypatch.setitem(memory.TEMPLATES, "onnx", Template((), 500 * MIB))  # the guess for stages that never ran
    names = [several.add(workspace, f"r{n}", first=n) for n in range(3)]
    budget = 700 * MIB
    first, _ = build(workspace, names, jobs=8, memory=budget)
    assert first.most == 1, "two unknown stages do not fit"

    for n in range(3):
        several.add(workspace, f"r{n}", first=n + 0.5)
    second, reports = build(workspace, names, jobs=8, memory=budget)

    peaks = {(r.name, s.name): s.peak_rss_bytes for r in reports for s in r.stages}
    assert max(peaks.values()) < 350 * MIB, "else this test proves nothing"
    assert second.most >= 2
    assert all(sum(peaks[stage] for stage in running) < 1.2 * budget for running in second.together)


@pytest.mark.parametrize("text", ["", "G", "-1", "0", "4X", "1e9", "5B", "4G4"])
def test_what_is_no_memory_is_refused(workspace, text):
    several.add(workspace, "a")
    ran = workspace.run("run", "a.yaml", f"--memory={text}", code=2)

    assert "memory" in ran.err and "Traceback" not in ran.err


def test_the_budget_follows_the_control_group(tmp_path, monkeypatch):
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("600000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    monkeypatch.setattr(of_system, "_group_folders", lambda: [tmp_path / "none", group])

    assert of_system.available() == 500_000
    assert memory.budget() == 400_000
    (group / "memory.max").write_text("max\n")
    assert of_system.available() > 100 * MIB


class TestFailure:
    """r0 is sound and up to date, r1 fails, r2 would have to be built."""

    @pytest.fixture
    def mixed(self, workspace):
        several.add(workspace, "r0")
        workspace.run("run", "r0.yaml")
        several.add(workspace, "r1", several.PASSES, text=several.REWRITTEN)
        several.add(workspace, "r2", first=7)
        return ["r0.yaml", "r1.yaml", "r2.yaml"]

    def test_stops_other_recipes_and_names_what_was_not_started(self, workspace, mixed):
        ran = workspace.run("run", *mixed, "-j1", code=1)

        assert set(workspace.statuses("r0").values()) == {"cached"}
        assert workspace.statuses("r1")["parity/export"] == "failed"
        assert set(workspace.statuses("r2").values()) == {"skipped"}
        report = workspace.report("r2")
        assert report["status"] == "interrupted" and report["failures"] == []
        assert report["stages"][0]["why"] == ["r1: parity/export failed earlier; --keep-going builds on"]
        assert "r2 export" in ran.out and "--keep-going builds on" in ran.out
        assert not (workspace.root / "build/r2/model.onnx").exists()

    def test_leaves_the_failing_recipe_its_other_checks_and_skips_what_depends_on_it(self, workspace, mixed):
        workspace.run("run", *mixed, "-j1", code=1)
        stages = {stage["name"]: stage for stage in workspace.report("r1")["stages"]}

        assert stages["check/export"]["status"] == "built"
        for name in ("optimize/1-onnxoptimizer", "check/1-onnxoptimizer", "package"):
            assert stages[name]["status"] == "skipped" and stages[name]["why"] == ["parity/export failed"]

    def test_a_check_that_does_not_depend_on_what_failed_still_runs(self, workspace):
        several.add(workspace, "a")
        model = onnx.load(workspace.root / "a.onnx")
        model.graph.node.insert(0, model.graph.node.pop())  # unsorted: the checker refuses it, onnxruntime runs it
        onnx.save(model, workspace.root / "a.onnx")
        workspace.run("run", "a.yaml", "-j1", code=1)

        statuses = workspace.statuses("a")
        assert list(statuses)[:4] == ["reference", "export", "check/export", "parity/export"], "one at a time"
        assert statuses["check/export"] == "failed" and statuses["parity/export"] == "built"

    @pytest.mark.parametrize("jobs", ["1", "8"])
    def test_with_keep_going_stops_nothing_else_whatever_the_number_of_jobs(self, workspace, mixed, jobs):
        ran = workspace.run("run", *mixed, "--keep-going", "-j", jobs, code=1)

        assert set(workspace.statuses("r0").values()) == {"cached"}
        assert workspace.statuses("r1")["parity/export"] == "failed"
        assert set(workspace.statuses("r2").values()) == {"built"}
        assert (workspace.root / "build/r2/model.onnx").exists()
        assert "3 recipes in" in ran.out and ": 1 built, 1 up to date, 1 failed" in ran.out

    def test_lets_finish_what_runs(self, workspace, mixed):
        """Whatever had been started when the failure came is kept: the next run finds it."""
        ran = workspace.run("run", *mixed, "-j8", code=1)
        before = {name for name, status in workspace.statuses("r2").items() if status == "built"}
        workspace.run("run", "r2.yaml")

        assert not before & workspace.built("r2")
        assert "Traceback" not in ran.text

    def test_a_failure_that_is_only_judged_stops_the_others_too(self, workspace, mixed):
        """The measurements are in the store already; nothing runs before the verdict."""
        workspace.run("run", "r1.yaml", code=1)
        workspace.run("run", *mixed, "-j1", code=1)

        assert set(workspace.statuses("r2").values()) == {"skipped"}


def test_lines_carry_the_recipes_names_and_a_table_ends_it_all(workspace, three):
    ran = workspace.run("run", *three)
    lines = ran.out.splitlines()
    table = lines[lines.index("") + 1 :]

    assert any(line.startswith("✓ r1 optimize/1-onnxoptimizer ") for line in lines)
    assert table[0].split() == ["recipe", "status", "built", "cached", "time"]
    assert [row.split()[:4] for row in table[1:4]] == [[f"r{n}", "built", "9", "0"] for n in range(3)]
    assert table[4].startswith("3 recipes in ") and table[4].endswith(": 3 built")
    assert max(map(len, table)) <= 80


def test_nothing_to_do_is_a_line_per_recipe_and_one_in_all_for_many(workspace):
    names = [several.add(workspace, f"r{n}", first=n) for n in range(6)]
    workspace.run("run", *names)

    few = workspace.run("run", *names[:3]).out.splitlines()
    assert [line.rpartition(",")[0] for line in few] == [f"r{n}: up to date, 5 stages" for n in range(3)]
    (many,) = workspace.run("run", *names).out.splitlines()
    assert many.startswith("6 recipes up to date, 30 stages, ")

    several.add(workspace, "r3", first=33)
    mixed = workspace.run("run", *names).out.splitlines()
    assert mixed[-2].endswith(": 1 built, 5 up to date")
    assert mixed[-1] == "  build/index.html", "told whether or not another minute on the clock made other bytes of it"


def test_json_comes_in_the_order_of_the_recipes_whichever_ends_first(workspace):
    several.add(workspace, "slow", several.PASSES, several.BENCHMARK)
    several.add(workspace, "quick", first=3)
    workspace.run("run", "quick.yaml")
    ran = workspace.run("run", "--json", "slow.yaml", "quick.yaml", "-j4")

    assert [json.loads(line)["name"] for line in ran.out.splitlines()] == ["slow", "quick"]


def test_each_report_is_written_when_its_recipe_ends(workspace, three):
    watch = Watch()
    with Session(Settings(jobs=1), watch) as session:
        loaded = session.load([workspace.root / name for name in three])
        reports = session.build_all(loaded)
        first = next(reports)
        path = workspace.root / "build" / first.name / "report.json"
        assert msgspec.json.decode(path.read_bytes(), type=type(first)) == first
        assert not (workspace.root / "build/r2/report.json").exists()
        list(reports)
