"""Reports and the page over all recipes, of real builds in a repository: what is told from run to run, and in a browser."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import xml.etree.ElementTree as ET

import chromium
import msgspec
import numpy as np
import pytest
import several
from samples import failed, hostile, long_named, resnet50, scored, shipped
from workspace import Workspace

from onnxbuild.report import render
from onnxbuild.report.types import Tensor

# The second pass finds nothing to do.
PASSES = "optimize:\n  - onnxoptimizer: [eliminate_identity]\n  - onnxoptimizer: [eliminate_nop_dropout]\n"
IDLE = "optimize/2-onnxoptimizer"
INDEX = "build/index.html"


def git(workspace: Workspace, *arguments: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *own, *arguments], cwd=workspace.root, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two recipes that were built together, from a commit; tests take a copy."""
    workspace = Workspace.make(tmp_path_factory.mktemp("pages") / "project")
    several.add(workspace, "a", PASSES, several.BENCHMARK)
    several.add(workspace, "b", first=2.0)
    workspace.write(".gitignore", "home/\n")
    if shutil.which("git"):
        git(workspace, "init", "-q")
        git(workspace, "add", "-A")
        git(workspace, "commit", "-qm", "recipes")
    workspace.run("run", "a.yaml", "b.yaml", "--junit", "reports/junit.xml")
    return workspace


@pytest.fixture
def edited(built, tmp_path):
    return built.copy(tmp_path / "project")


def placed(workspace: Workspace, name: str) -> tuple[int, int]:
    found = (workspace.root / name).stat()
    return found.st_ino, found.st_mtime_ns


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_the_reasons_of_the_last_build_are_kept_by_runs_with_nothing_to_do(edited):
    commit = git(edited, "rev-parse", "HEAD")
    assert edited.report("a")["run"]["revision"] == {"commit": commit, "changed": False}
    assert "First build: nothing was there before" in edited.read("build/a/report.md")
    assert f"commit {commit[:12]}." in edited.read("build/a/report.md")

    edited.replace("a.yaml", "[eliminate_nop_dropout]", "[eliminate_nop_dropout, eliminate_nop_pad]")
    edited.run("run", "a.yaml")
    cause = "optimize[1].onnxoptimizer: now with eliminate_nop_pad"
    for page in ("build/a/report.html", "build/a/report.md"):
        text = edited.read(page).replace("\\", "")
        top, _, rest = text.partition("Parity with the source model")
        assert "What changed since the build before" in top and top.count(cause) == 1 and cause in rest
        assert f"{commit[:12]}, with uncommitted changes" in text
    last = edited.report("a")["run"]
    assert last["revision"] == {"commit": commit, "changed": True} and last["last_build"] is None

    for _ in range(2):
        edited.run("run", "a.yaml")
        now = edited.report("a")["run"]
        assert now["revision"] is None and now["last_build"]["started"] == last["started"]
        assert list(now["last_build"]["why"]) == [IDLE, "package"] and now["last_build"]["revision"] == last["revision"]
        assert "What changed since the build before" in edited.read("build/a/report.md"), "the page stays as it was"

    edited.write("a.yaml", f"# a comment\n{edited.read('a.yaml')}")
    edited.run("run", "a.yaml")
    text = edited.read("build/a/report.md").replace("\\", "")
    assert "Up to date: all" in text and f"Last built {last['started'][:16].replace('T', ' ')} UTC, because" in text
    assert "eliminate_nop_pad" in text and f"| {IDLE} |" in text and "last built: " in text


def test_a_pass_that_changed_nothing_is_told_as_such(built):
    graphs = {graph["stage"]: graph["modified"] for graph in built.report("a")["graphs"]}
    assert graphs == {"export": True, "optimize/1-onnxoptimizer": True, IDLE: False}
    for page in ("build/a/report.html", "build/a/report.md"):
        assert f"{IDLE}: changed nothing: its graph is byte for byte the one before it" in built.read(page)


def test_ranges_stand_beside_the_sizes_and_files_are_links(built):
    text = built.read("build/a/report.md")

    assert built.report("a")["dims"] == {"batch": {"min": 1, "max": 4, "multiple_of": 1}}
    assert "| batch | 1 to 4 | 1 to 4 |" in text and "[model.onnx](./model.onnx)" in text
    assert text.index("### Parity") < text.index("<summary>The stages as a picture") < text.index("```mermaid")
    assert 'href="./model.onnx"' in built.read("build/a/report.html")


def test_every_run_of_a_benchmark_is_kept(built):
    bench = built.report("a")["benchmark"]

    assert len(bench["quantiles"]) == bench["runs"] == 5
    assert "How many of the runs took how long" in built.read("build/a/report.html")


def test_the_page_over_all_recipes_is_written_only_when_it_says_anything_new(edited):
    page = edited.read(INDEX)
    assert 'href="./a/report.html"' in page and 'href="./b/report.html"' in page and "2 recipes" in page
    before = placed(edited, INDEX)
    for _ in range(2):
        edited.run("run", "a.yaml", "b.yaml")
        assert placed(edited, INDEX) == before

    edited.replace("b.yaml", "version: 1\n", "version: 1\ndescription: other words\n")
    edited.run("run", "b.yaml")
    assert "other words" in edited.read(INDEX), "it is there, so a run of one recipe brings it up to date"
    (edited.root / "build/a/report.json").write_text("{}")
    edited.replace("b.yaml", "other words", "more words")
    edited.run("run", "b.yaml")
    assert "1 recipe" in edited.read(INDEX) and "No report can be read in a." in edited.read(INDEX)

    (edited.root / INDEX).unlink()
    edited.run("run", "b.yaml")
    assert not (edited.root / INDEX).exists(), "one recipe is no reason for it"
    edited.run("run", "a.yaml", "b.yaml")
    assert "2 recipes" in edited.read(INDEX)


def test_somebody_elses_page_stays(edited):
    edited.write(INDEX, "<p>my own</p>\n")
    edited.replace("b.yaml", "version: 1\n", "version: 1\ndescription: other words\n")
    edited.run("run", "a.yaml", "b.yaml")

    assert edited.read(INDEX) == "<p>my own</p>\n"


def test_a_page_over_all_recipes_that_can_not_be_made_or_written_fails_no_build(edited, monkeypatch, capsys):
    from onnxbuild import cli
    from onnxbuild.report import fleet

    def of(*_):
        raise TypeError("shape of None")

    (edited.root / INDEX).unlink()
    monkeypatch.setattr(fleet, "of", of)
    monkeypatch.chdir(edited.root)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert cli.main(["run", "a.yaml", "b.yaml", "--trust-store"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    said = " ".join(capsys.readouterr().err.split())
    assert f"{INDEX} can't be made: TypeError: shape of None; a bug in onnxbuild: please report it" in said

    (edited.root / INDEX).mkdir()
    edited.run("run", "a.yaml", "b.yaml")
    assert (edited.root / INDEX).is_dir()


def suites(workspace: Workspace, name: str) -> dict[str, ET.Element]:
    return {suite.get("name", ""): suite for suite in ET.parse(workspace.root / name).getroot()}


def test_junit_tells_of_every_stage_whichever_way_a_run_ends(built, edited):
    found = suites(built, "reports/junit.xml")
    assert list(found) == ["a", "b"] and {suite.get("failures") for suite in found.values()} == {"0"}
    names = [case.get("name") for case in found["a"].iter("testcase") if case.get("classname") == "a"]
    assert names == [stage["name"] for stage in built.report("a")["stages"]]
    assert any(case.get("classname") == "b.parity/export" for case in found["b"].iter("testcase"))

    several.add(edited, "b", "parity: {rtol: 0.0, atol: 0.0}\n", text=several.REWRITTEN)
    edited.write("broken.yaml", "version: 1\n")
    edited.run("run", "a.yaml", "b.yaml", "broken.yaml", "-k", "--junit", "j.xml", code=2)
    found = suites(edited, "j.xml")
    assert list(found) == ["a", "b", "broken.yaml"], "what is up to date, what fails, what is wrong"
    failure = next(found["b"].iter("failure"))
    (told,) = [one for one in edited.report("b")["failures"] if one["stage"] == "parity/export"]
    assert failure.get("message") == told["fact"].partition("\n")[0] and f"hint: {told['hint']}" in failure.text
    assert [case.get("message") for case in found["b"].iter("skipped")] == ["parity/export failed"]
    assert int(found["broken.yaml"].get("errors", "0")) > 0

    ran = edited.run("run", "a.yaml", "--junit", "build", code=2)
    assert "--junit build is a folder" in ran.err and "give it the name of a file, such as junit.xml" in ran.err


SLOW = """\
import time
def slow(outputs, data):
    time.sleep(600)
"""
METRIC = 'metric: {function: "slow:slow", data: {npz: {path: x.npz}}, max_drop: 1.0}\n'


def test_junit_says_of_an_interrupted_run_that_it_was_and_that_recipes_are_missing(edited):
    """A file without a failure would be green."""
    np.savez(edited.root / "x.npz", x=np.ones((4, 4), np.float32))
    edited.write("slow.py", SLOW)
    several.add(edited, "c", METRIC)
    command, environment = edited.command("run", "a.yaml", "c.yaml", "--junit", "j.xml")
    process = subprocess.Popen(
        command, cwd=edited.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "parity/export" in line:
            break
    process.send_signal(signal.SIGINT)
    assert "interrupted; what was finished is kept" in process.communicate(timeout=60)[1]
    assert process.returncode == 130

    found = suites(edited, "j.xml")
    (error,) = found["command line"].iter("error")
    missing = {"a", "c"} - found.keys()
    assert "c" in missing and found["command line"].get("errors") == "1"
    said = "1 has" if missing == {"c"} else "2 have"
    assert error.get("message") == f"the run was interrupted: of 2 recipes, {said} no result here"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if chromium.COMMAND is None:
        pytest.skip(chromium.MISSING)
    opened = chromium.Chromium(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_pages_in_a_browser_fit_ask_for_nothing_and_say_nothing(built, browser, tmp_path):
    pages = {"report": built.root / "build/a/report.html", "index": built.root / INDEX}
    for sample in (resnet50, failed, hostile, long_named, scored):
        pages[sample.__name__] = tmp_path / f"{sample.__name__}.html"
        pages[sample.__name__].write_text(render.html(sample()), encoding="utf-8")
    strange = {"<b>": hostile(), "done": resnet50(), "broken": failed(), "long": long_named(), "scored": scored()}
    pages["strange index"] = tmp_path / "index.html"
    pages["strange index"].write_text(render.fleet(strange, ["<i>"]), encoding="utf-8")

    for name, page in pages.items():
        seen = {
            (width, scheme): browser.open(page, width, scheme) for width in (1280, 400) for scheme in ("light", "dark")
        }
        for how, one in seen.items():
            assert (one.requests, one.console) == ([], []), (name, how)
            assert one.overflow == {"page": 0, "elements": []}, (name, how)
            assert len(one.text) > 100
        assert seen[1280, "light"].background != seen[1280, "dark"].background


def test_names_break_between_their_parts_alone(browser, tmp_path):
    """A short one nowhere, one that is longer than a line where a part of it ends."""
    short, long = "last_hidden_state", "encoder_hidden_states_of_the_second_to_last_layer"
    done = resnet50()
    graph = msgspec.structs.replace(
        done.graphs[-1], outputs=[Tensor(name, "float32", ["batch"]) for name in (short, long)]
    )
    rows = [msgspec.structs.replace(row, output=short) for row in done.parity]
    page = tmp_path / "names.html"
    page.write_text(render.html(msgspec.structs.replace(done, graphs=[graph], parity=rows)), encoding="utf-8")
    browser.open(page, 400, "light")

    lines = """(() => [...document.querySelectorAll('code')].filter(one => one.textContent == %r).map(one => {
      const range = document.createRange(), found = {};
      const walk = document.createTreeWalker(one, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) for (let at = 0; at < walk.currentNode.length; at++) {
        range.setStart(walk.currentNode, at); range.setEnd(walk.currentNode, at + 1);
        const top = range.getBoundingClientRect().top;
        found[top] = (found[top] ?? '') + range.toString();
      }
      return Object.values(found);
    }))()"""
    assert set(map(tuple, browser.evaluate(lines % short))) == {(short,)}
    (told,) = browser.evaluate(lines % long)
    assert "".join(told) == long and all(line.endswith("_") for line in told[:-1])


def test_the_picture_of_the_stages_can_be_read_on_a_telephone(browser, tmp_path):
    """It is moved aside rather than made smaller."""
    page = tmp_path / "shipped.html"
    page.write_text(render.html(shipped()), encoding="utf-8")
    for width in (400, 1280):
        seen = browser.open(page, width, "light")
        scale = "(one => one.getBoundingClientRect().width / one.viewBox.baseVal.width)(document.querySelector('.dag'))"
        assert browser.evaluate(scale) > 0.7, width
        assert seen.overflow == {"page": 0, "elements": []}


def test_the_browser_sees_what_is_wrong_with_a_page(browser, tmp_path):
    page = tmp_path / "wrong.html"
    page.write_text(
        "<!doctype html><body><div style='width:3000px'>wide</div><img src='beside.png'><script>console.log(1); x.y</script>"
    )
    seen = browser.open(page, 400, "light")

    assert seen.requests == [(tmp_path / "beside.png").as_uri()]
    assert len(seen.console) >= 2 and "is not defined" in json.dumps(seen.console)
    assert seen.overflow["page"] > 0 and seen.overflow["elements"]
