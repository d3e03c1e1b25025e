"""The main job through the front door: a recipe, a run, the files that came out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
import several
from projects import STAGES, baked, tiny
from workspace import Workspace


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A workspace whose recipe was built once; tests that edit take a copy."""
    workspace = tiny(Workspace.make(tmp_path_factory.mktemp("built") / "project"))
    workspace.first = workspace.run("run", "tiny.yaml")  # type: ignore[attr-defined]  # only these tests read it
    return workspace


def test_a_pass_that_changes_nothing_is_not_checked_again_and_it_says_why(workspace):
    several.add(workspace, "a", "optimize:\n  - onnxoptimizer: [eliminate_deadend]\n")
    ran = workspace.run("run", "a.yaml")
    why = {stage["name"]: (stage["status"], stage["why"]) for stage in workspace.report("a")["stages"]}

    assert why["check/1-onnxoptimizer"] == ("cached", ["same as check/export"])
    assert why["parity/1-onnxoptimizer"] == ("cached", ["same as parity/export"])
    assert "= check/1-onnxoptimizer      cached             same as check/export\n" in ran.out + ran.err


def test_the_first_run_builds_everything_and_the_model_runs(built):
    statuses = built.statuses("tiny")

    assert statuses == dict.fromkeys(statuses, "built") and set(statuses) == STAGES
    onnx.checker.check_model(built.root / "build/tiny/model.onnx", full_check=True)
    session = onnxruntime.InferenceSession(built.root / "build/tiny/model.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        (y,) = session.run(None, {"x": np.ones((batch, 3, 8, 8), np.float32)})
        assert y.shape == (batch, 4)
    ops = {node.op_type for node in onnx.load(built.root / "build/tiny/model.onnx").graph.node}
    assert "Gemm" in ops and not ops & {"Constant", "Range"}, "the passes did their work"


def test_nothing_that_a_build_makes_is_staged_by_git(workspace, tmp_path):
    several.add(workspace, "a")
    git = ["git", "-C", workspace.root]
    subprocess.run([*git, "init", "--quiet"], check=True)
    workspace.run("run", "a.yaml")
    subprocess.run([*git, "add", "--all", "--", ":!home"], check=True)
    staged = subprocess.run([*git, "ls-files"], check=True, capture_output=True, text=True).stdout.split()
    assert "a.yaml" in staged
    assert [name for name in staged if name.startswith(("build", ".onnxbuild"))] == []
    (workspace.root / "build/.gitignore").unlink()
    workspace.run("run", "a.yaml")
    workspace.run("run", "--out", str(tmp_path / "out"), "a.yaml")
    assert not (workspace.root / "build/.gitignore").exists(), "a folder that was there is somebody's own"
    assert not (tmp_path / "out/.gitignore").exists(), "whoever names a folder says what it is for"


def test_the_report_says_what_was_built_from_what_by_what(built):
    import hashlib

    report = built.report("tiny")
    model = (built.root / "build/tiny/model.onnx").read_bytes()

    assert report["artifacts"] == [
        {"path": "model.onnx", "sha256": hashlib.sha256(model).hexdigest(), "bytes": len(model)}
    ]
    for name in ("models/tiny.py", "models/layers.py"):
        code = (built.root / name).read_bytes()
        digest = hashlib.sha256(code).hexdigest()
        assert {"path": name, "sha256": digest, "bytes": len(code), "declared": False} in report["sources"]
        for page in ("report.md", "report.html"):
            assert digest in built.read(f"build/tiny/{page}")
    for page in ("report.md", "report.html"):
        assert "torchscript, opset 17" in built.read(f"build/tiny/{page}")
    assert report["recipe"] == {
        "path": "tiny.yaml",
        "sha256": hashlib.sha256(built.read("tiny.yaml").encode()).hexdigest(),
        "content_sha256": report["recipe"]["content_sha256"],  # see tests/commands/test_lock.py
        "resolved_sha256": report["recipe"]["resolved_sha256"],  # see tests/commands/test_identify.py
        "bases": {},
    }
    assert report["tools"]["torch"].startswith("2.") and report["tools"]["onnxsim"]
    assert {row["case"] for row in report["parity"]} >= {"batch=1", "batch=2", "batch=5"}
    assert all(row["passed"] for row in report["parity"])
    assert report["benchmark"]["runs"] == 5 and report["benchmark"]["p50"] > 0
    assert (built.root / "build/tiny/report.html").exists() and (built.root / "build/tiny/report.md").exists()


def test_a_second_run_builds_nothing_and_says_so(edited):
    before = (edited.root / "build/tiny/model.onnx").stat().st_mtime_ns
    ran = edited.run("run", "tiny.yaml")

    assert "up to date" in ran.out
    assert set(edited.statuses("tiny").values()) == {"cached"}
    assert (edited.root / "build/tiny/model.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "old", "new", "runs"),
    [
        ("tiny.yaml", "rtol: 1.0e-3", "rtol: 2.0e-3, reason: words", {"package"}),
        ("tiny.yaml", "name: tiny", "# a comment\nname: tiny", set()),
        ("tiny.yaml", "runs: 5", "runs: 6", {"benchmark", "package"}),
        ("tiny.yaml", "optimize:", "description: words\noptimize:", {"package"}),
        (
            "tiny.yaml",
            "[eliminate_identity, extract_constant_to_initializer]",
            "[extract_constant_to_initializer]",  # the same bytes come out, and the wave stops there
            {"optimize/1-onnxoptimizer", "package"},  # the published model names its recipe
        ),
        (
            "tiny.yaml",
            "parity:",
            "runtime: {session: {graph_optimization_level: basic}}\nparity:",
            {"parity/export", "parity/1-onnxoptimizer", "parity/2-onnxsim", "benchmark", "package"},
        ),
        ("models/layers.py", "import torch\n", "import torch\n# a comment\n", {"export", "reference"}),
        ("models/layers.py", "ReLU()", "GELU()", STAGES),
        ("tiny.yaml", "width: 8}", "width: 9}", STAGES),
    ],
)
def test_a_change_runs_exactly_the_stages_that_it_can_affect(edited, name, old, new, runs):
    edited.replace(name, old, new)
    edited.run("run", "tiny.yaml")

    assert edited.built("tiny") == runs
    assert all(stage["why"] for stage in edited.report("tiny")["stages"] if stage["status"] == "built")

    edited.replace(name, new, old)
    edited.run("run", "tiny.yaml")

    assert edited.built("tiny") <= {"package"}, "what was built before is taken from the store"


def test_the_report_names_the_file_that_made_a_stage_run(edited):
    edited.replace("models/layers.py", "ReLU()", "GELU()")
    edited.run("run", "tiny.yaml")
    why = {stage["name"]: stage["why"] for stage in edited.report("tiny")["stages"]}

    assert why["export"] == ["models/layers.py changed"]
    assert why["optimize/1-onnxoptimizer"] == ["input graph changed"]


def test_a_published_file_that_is_gone_or_edited_is_published_again(edited):
    model = edited.root / "build/tiny/model.onnx"
    good = model.read_bytes()
    for damage in (model.unlink, lambda: model.write_bytes(b"edited")):
        damage()
        edited.run("run", "tiny.yaml")

        assert edited.built("tiny") == {"package"}
        assert model.read_bytes() == good


def test_a_damaged_object_never_reaches_the_output(edited):
    good = (edited.root / "build/tiny/model.onnx").read_bytes()
    for path in (edited.root / ".onnxbuild/objects").rglob("*"):
        if path.is_file() and (data := path.read_bytes()):
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (edited.root / "build/tiny/model.onnx").unlink()
    ran = edited.run("run", "tiny.yaml")

    assert "damaged" in ran.text
    assert (edited.root / "build/tiny/model.onnx").read_bytes() == good


def test_the_same_recipe_gives_the_same_bytes_in_another_folder_and_environment(built, tmp_path):
    from workspace import Workspace

    root = tmp_path / "somewhere" / "else"
    root.mkdir(parents=True)
    (root / "pyproject.toml").touch()
    other = Workspace(root, {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "OMP_NUM_THREADS": "1"})
    tiny(other).run("run", "tiny.yaml")

    assert (root / "build/tiny/model.onnx").read_bytes() == (built.root / "build/tiny/model.onnx").read_bytes()
    maps = [line_maps(where.root) for where in (built, other)]
    assert maps[0] == maps[1] and len(maps[0]) == 1


def line_maps(root) -> list[bytes]:
    """What exports kept of where nodes come from."""
    objects = [path.read_bytes() for path in sorted((root / ".onnxbuild/objects").glob("??/*"))]
    return [content for content in objects if content.startswith(b'{"exporter":')]


def test_a_batch_baked_in_at_export_is_caught_and_the_sizes_are_named(workspace):
    ran = baked(workspace, "torchscript", batch=2).run("run", "baked.yaml", code=1)

    assert "output 'y' is wrong at" in ran.text or "can't be run at" in ran.text
    assert "holds at batch=2; breaks at batch=1, 3, 4" in ran.text
    assert not (workspace.root / "build/baked/model.onnx").exists()
    report = workspace.report("baked")
    assert report["status"] == "failed" and report["artifacts"] == []
    assert any("batch" in failure["fact"] for failure in report["failures"])


@pytest.mark.heavy
def test_a_batch_baked_into_a_model_with_large_inputs_is_caught_too(workspace):
    """Where parity.max_elements has room for the example alone, that would be the one size to be compared."""
    baked(workspace, "torchscript", batch=1)
    workspace.replace("models/baked.py", "x.reshape(n, -1).sum(1).reshape(n, 1)", "x.sum((1, 2, 3)) * n")
    workspace.replace("baked.yaml", "{0: batch, 2: height, 3: width}", "{0: batch}")
    recipe = "".join(line for line in workspace.read("baked.yaml").splitlines(keepends=True) if "min: 2" not in line)
    workspace.write("baked.yaml", recipe + "parity: {max_elements: 72}\n")
    ran = workspace.run("run", "baked.yaml", code=1)

    assert "holds at batch=1; breaks at batch=2" in ran.text
    note = "2 cases are left out, larger than parity.max_elements (72): nothing is compared at batch=3, 4"
    assert note in " ".join(ran.text.split())
    assert note in workspace.report("baked")["notes"]
    assert not (workspace.root / "build/baked/model.onnx").exists()

    workspace.write("baked.yaml", recipe + "parity: {derive: false}\n")
    ran = workspace.run("run", "baked.yaml")

    note = "batch is dynamic and is compared at batch=1 alone, where a size that was baked in looks right"
    assert note in " ".join(ran.text.split())
    assert note in workspace.read("build/baked/report.md").replace("\\", "")


@pytest.mark.sample(2)
@pytest.mark.parametrize("batch", [1, 2])
def test_dynamo_may_not_bake_the_batch_in_silently(workspace, batch):
    """torch.onnx.export alone gives a graph that is wrong at batch 3 where the example's batch is 1 (FACTS)."""
    baked(workspace, "dynamo", batch=batch).run("run", "baked.yaml")
    session = onnxruntime.InferenceSession(
        workspace.root / "build/baked/model.onnx", providers=["CPUExecutionProvider"]
    )
    x = np.arange(3 * 3 * 5 * 7, dtype=np.float32).reshape(3, 3, 5, 7)

    np.testing.assert_allclose(session.run(None, {"x": x})[0], x.reshape(3, -1).sum(1).reshape(3, 1), rtol=1e-6)


def test_a_stage_that_dies_in_native_code_is_a_failed_stage_with_its_name_on_it(workspace):
    tiny(workspace)
    workspace.write("models/tiny.py", "import os\ndef tiny(width):\n    os.abort()\n")
    ran = workspace.run("run", "tiny.yaml", code=1)

    assert "SIGABRT" in ran.text and "reference" in ran.text
    statuses = workspace.statuses("tiny")
    assert statuses["reference"] == "failed" and statuses["package"] == "skipped"


def test_a_wrong_recipe_exits_2_and_builds_nothing(workspace):
    tiny(workspace)
    workspace.replace("tiny.yaml", "x: {0: batch}", "z: {0: batch}")
    ran = workspace.run("run", "tiny.yaml", code=2)

    assert "tiny.yaml:" in ran.err and "unknown" in ran.err and "nothing was built" in ran.err
    assert not (workspace.root / "build").exists() and not (workspace.root / ".onnxbuild").exists()


def test_json_is_the_report_on_one_line(edited):
    ran = edited.run("run", "--json", "tiny.yaml")

    assert json.loads(ran.out) == edited.report("tiny")


def test_quiet_prints_nothing_when_all_is_well(edited):
    ran = edited.run("run", "--quiet", "tiny.yaml")

    assert ran.text == ""


def descendants(process):
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process_and_the_next_one_just_works(workspace, how):
    tiny(workspace)
    slow = "import time\ndef tiny(width):\n    open('started', 'w').close()\n    time.sleep(60)\n"
    good = workspace.read("models/tiny.py")
    workspace.write("models/tiny.py", slow)
    command, environment = workspace.command("run", "tiny.yaml")
    process = subprocess.Popen(
        command, cwd=workspace.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 60
    while not (workspace.root / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = descendants(process)

    process.send_signal(how)
    process.communicate(timeout=10)

    assert process.returncode == 130
    _, alive = psutil.wait_procs(children, timeout=10)
    assert children and alive == []
    workspace.write("models/tiny.py", good)
    workspace.run("run", "tiny.yaml")
    assert set(workspace.statuses("tiny").values()) == {"built"}
    assert os.listdir(workspace.root / ".onnxbuild/tmp") == []


def test_keep_going_builds_the_valid_recipes_of_a_list_and_names_the_others(workspace):
    import small

    small.small(workspace)
    workspace.write("other.yaml", small.recipe("other"))
    workspace.write("twin.yaml", small.recipe("OTHER"))
    workspace.write("broken.yaml", "version: 1\nname: [")
    workspace.write("wrong.yaml", small.recipe("wrong").replace("opset: 17", "opset: seventeen"))
    workspace.write("lost.yaml", small.recipe("lost", "nowhere.onnx"))
    workspace.write("taken.yaml", small.recipe("taken"))
    workspace.write("build/taken", "a file in the place of its folder")
    names = ["broken", "small", "wrong", "other", "lost", "twin", "none", "taken"]
    recipes = [f"{name}.yaml" for name in names]

    ran = workspace.run("run", "--keep-going", *recipes, code=2)
    for name in ("small", "other"):
        assert (workspace.root / f"build/{name}/model.onnx").is_file()
    for name in ("broken", "wrong", "lost", "twin", "none", "taken"):
        assert name in ran.err, ran.err
    assert ran.err.rstrip().endswith("6 problems; the recipes without any were not held up.")
    assert "'OTHER' is the name of other.yaml, too" in ran.err

    ran = workspace.run("run", *recipes, code=2)  # without it all is as it was
    assert "nothing was built" in ran.err
    ran = workspace.run("run", "-k", "broken.yaml", "wrong.yaml", code=2)
    assert "nothing was built" in ran.err


def test_a_recipe_that_fails_and_one_that_is_wrong_come_to_the_same_code(workspace):
    import small

    small.small(workspace)
    workspace.write("wrong.yaml", "version: 2")
    workspace.write("bad.yaml", small.recipe("bad").replace("opset: 17", "opset: 18"))
    ran = workspace.run("run", "-k", "bad.yaml", "wrong.yaml", "small.yaml", code=2)

    assert workspace.report("bad")["status"] == "failed"
    assert workspace.report("small")["status"] == "done"
    assert "wrong.yaml" in ran.err


def test_a_folder_for_results_whose_name_is_too_long_is_told_as_that(workspace):
    import small

    small.small(workspace)
    ran = workspace.run("run", "small.yaml", "--out", "a" * 300, code=1)

    assert "File name too long\n    hint: give a shorter path" in ran.err
    assert "bug in onnxbuild" not in ran.text


def test_a_report_that_can_not_be_made_fails_its_own_recipe_alone(workspace, monkeypatch, capsys):
    import small

    from onnxbuild import cli
    from onnxbuild.engine import reporting

    small.small(workspace)
    workspace.write("other.yaml", small.recipe("other"))
    made = reporting.report

    def report(recipe, *rest):
        if recipe.name == "small":
            raise TypeError("shape of None")
        return made(recipe, *rest)

    monkeypatch.setattr(reporting, "report", report)
    monkeypatch.chdir(workspace.root)
    before = signal.getsignal(signal.SIGTERM)
    try:
        code = cli.main(["run", "-k", "small.yaml", "other.yaml"])
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr()

    assert code == 1
    assert workspace.report("other")["status"] == "done"
    assert "no report can be made of this recipe: TypeError: shape of None" in said.err
    assert "2 recipes in" in said.out
