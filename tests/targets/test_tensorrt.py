"""The tensorrt target through the front door; an engine needs no GPU to be built, and one to be run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import msgspec
import pytest
import yaml
from several_outputs import another_version, hidden, parsed, project
from workspace import Workspace

from onnxbuild.contracts import Shapes
from onnxbuild.errors import StageError
from onnxbuild.reproducibility.rebuild import differences
from onnxbuild.runtimes import cuda
from onnxbuild.store import objects
from onnxbuild.store.store import LocalStore
from onnxbuild.targets import tensorrt as target
from onnxbuild.targets.tensorrt_engine import difference

TARGET = "targets: {tensorrt: {compute_capabilities: [SM86]}}\n"
without_gpu = pytest.mark.skipif(cuda.missing() == "", reason="there is a GPU")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = project(tmp_path_factory.mktemp("tensorrt") / "project", TARGET)
    made.run("run", "several.yaml")
    return made


@without_gpu
def test_the_report_says_that_nothing_ran(built):
    (told,) = built.report("several")["targets"]
    assert (told["name"], told["level"], told["why"]) == ("tensorrt", "built, not run", "no GPU")
    assert [file["path"] for file in told["files"]] == ["tensorrt/model.engine", "tensorrt/model.json"]
    assert "parity/tensorrt" not in built.statuses("several")
    for page in ("report.md", "report.html"):
        assert "built, not run: no GPU" in (built.root / "build/several" / page).read_text()


def test_the_profile_is_the_declared_sizes(built):
    about = json.loads(built.read("build/several/tensorrt/model.json"))

    assert about["profiles"] == [
        {
            "x": {"min": [0, 16], "opt": [2, 16], "max": [3, 16]},
            "scale": {"min": [], "opt": [], "max": []},
            "row": {"min": [0], "opt": [2], "max": [3]},
            "keep": {"min": [0], "opt": [2], "max": [3]},
        }
    ]
    assert {value["name"]: value["dtype"] for value in about["outputs"]} == {
        "y": "float32", "z": "float32", "next": "int64", "left": "bool"
    }  # fmt: skip
    assert (about["flavor"], about["compute_capabilities"]) == ("rtx", ["SM86"])


def test_nothing_to_do_afterwards_and_another_option_builds_it_alone(edited):
    edited.run("run", "several.yaml")
    assert edited.built("several") == set()
    edited.replace("several.yaml", "[SM86]", "[SM86, SM89]")
    edited.run("run", "several.yaml")

    assert edited.built("several") == {"target/tensorrt", "package"}


def test_an_upgrade_never_leaves_a_stale_engine(built, tmp_path):
    newer = Workspace(built.root, another_version(tmp_path / "site", "tensorrt-rtx-cu13"))
    said = newer.run("plan", "several.yaml", code=None).out

    assert "2099.1.0" in said
    assert [line for line in said.splitlines() if "target/tensorrt" in line and "run" in line]


def test_the_report_does_not_promise_bytes_that_the_compiler_does_not_keep(built):
    assert "the engine's bytes may differ" in built.read("build/several/report.md")


def test_a_rebuild_finds_an_engine_to_be_another(edited):
    """The store is given what another process might have built: two of the names that are made up exchanged."""
    store = LocalStore(edited.root / ".onnxbuild", pytest.fail)
    key = {stage["name"]: stage["key"] for stage in edited.report("several")["stages"]}["target/tensorrt"]
    trace = store.any_trace(key)
    old = trace.outcome.outputs["model.engine"]
    other = exchanged(store.path(old).read_bytes())
    new = objects.add_bytes(store.folder / "objects", other)
    outcome = msgspec.structs.replace(
        trace.outcome,
        outputs={**trace.outcome.outputs, "model.engine": new},
        objects=[new if ref == old else ref for ref in trace.outcome.objects],
    )
    sizes = {new if ref == old else ref: size for ref, size in trace.sizes.items()}
    shutil.rmtree(edited.root / ".onnxbuild/traces" / key[:2] / key[2:])
    store.keep(key, msgspec.structs.replace(trace, outcome=outcome, sizes=sizes))
    edited.run("run", "several.yaml")
    assert edited.built("several") == {"package"}
    said = edited.run("verify", "--rebuild", "several.yaml", code=1).out

    # the compiler's order of sums is another one in about every sixth process, and then more than names differ
    names = "the same but for the numbers in 2 names that TensorRT's compiler makes up, and so not the same bytes"
    assert "✗ several: target/tensorrt differs" in said
    assert f"model.engine: {names}" in said or "bytes, not the same" in said


def exchanged(engine: bytes) -> bytes:
    """An engine in which two of the names that are made up have changed places."""
    one, two, *_ = sorted(set(re.findall(rb"__mye\d{3}(?!\d)", engine)))
    return re.sub(rb"%b(?!\d)|%b(?!\d)" % (one, two), lambda name: two if name[0] == one else one, engine)


def test_what_of_an_engine_is_another(built, tmp_path):
    """Where a rebuild finds two files of one name, it asks the target what they differ in."""
    before, after = tmp_path / "before/model.engine", tmp_path / "after/model.engine"
    engine = (built.root / "build/several/tensorrt/model.engine").read_bytes()
    for path, content in ((before, engine), (after, exchanged(engine))):
        path.parent.mkdir()
        path.write_bytes(content)

    (said,) = differences(before, after)
    assert said.startswith("model.engine: the same but for the numbers in 2 names") and "not the same bytes" in said
    after.write_bytes(engine[:-1] + bytes([engine[-1] ^ 1]))
    assert differences(before, after) == [f"model.engine: {len(engine):,} and {len(engine):,} bytes, not the same"]


def test_engines_that_compute_something_else_are_not_taken_for_alike():
    engine = b'add={ name="__mye12" input={"__mye7_const"} } 1.5 mul={ name="__mye7" }'
    assert "numbers in 1 name that" in difference(engine, engine.replace(b"__mye12", b"__mye99"))
    for other in (
        engine.replace(b"1.5", b"2.5"),
        engine.replace(b"__mye12", b"__mye7"),
        engine.replace(b"__mye7_const", b"__mye12_const"),
    ):
        assert difference(engine, other) == ""


def built_of(folder: Path, text: str, shapes: Shapes, **options: object) -> dict[str, Path]:
    """The files of a graph of ONNX text."""
    (folder / "scratch").mkdir()
    return dict(target.build(parsed(folder / "g.onnx", text), target.Options(**options), folder / "scratch", shapes)[0])


FLOAT = Shapes({"x": {"dtype": "float32", "shape": [2, 4]}}, ["y"], {"x": {"0": "N"}}, {"N": {"min": 1, "max": 3}})
RELU = "g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }"
GEMM = "g (float[N, 4] x) => (float[N, N] y) { t = Transpose <perm = [1, 0]> (x) y = MatMul (x, t) }"


@pytest.mark.parametrize(
    ("text", "shapes", "options", "fact", "hint"),
    [
        (
            RELU, FLOAT, {"compute_capabilities": ["SM90"]},
            "knows no compute capability SM90", "targets.tensorrt.compute_capabilities may hold",
        ),
        (
            GEMM, FLOAT, {"compute_capabilities": ["SM75", "SM86"]},
            "for Turing (SM75): FP32 GEMM is not supported",
            "take SM75 out of targets.tensorrt.compute_capabilities, or make the graph float16 before",
        ),
        (
            "g (float[N, 4] x) => (float[N, 4] y) { y = com.acme.Gate (x) }", FLOAT, {},
            "Gate: ", "export the graph without these operators, or take tensorrt out of targets",
        ),
        (
            "g (double[N, 4] x) => (double[N, 4] y) { y = Relu (x) }", FLOAT, {},
            "input 'x' is float32 of rank 2 in the engine, and float64 of rank 2 in the graph",
            "cast it inside the graph, or take tensorrt out of targets",
        ),
        (
            "g (float[2, 4] x, int64[2] sizes) => (float[A, B] y) { y = Reshape (x, sizes) }", Shapes(), {},
            "the values of input 'sizes' decide shapes",
            "make that size a dynamic axis of another input, or take tensorrt out of targets",
        ),
    ],
    ids=["unknown GPU", "Turing", "unknown operator", "float64", "sizes as values"],
)  # fmt: skip
def test_what_can_not_be_built_is_told(tmp_path, text, shapes, options, fact, hint):
    with pytest.raises(StageError) as caught:
        built_of(tmp_path, text, shapes, **options)

    assert fact in caught.value.fact
    assert "/_src" not in caught.value.fact
    assert hint in caught.value.hint


@without_gpu
def test_the_gpu_of_this_machine_where_there_is_none(tmp_path):
    with pytest.raises(StageError) as caught:
        built_of(tmp_path, RELU, FLOAT, compute_capabilities=["CURRENT"])

    assert (
        caught.value.hint
        == "CURRENT, and classic TensorRT, need a GPU that works: name compute capabilities, with flavor: rtx"
    )


def test_a_dimension_without_an_upper_bound_is_refused_with_its_line(edited):
    edited.replace("several.yaml", "    N: {min: 0, max: 3}", "    N: {min: 0}")
    said = edited.run("check", "several.yaml", code=2).err

    line = 1 + next(at for at, text in enumerate(edited.read("several.yaml").splitlines()) if "N: {min: 0}" in text)
    assert f"several.yaml:{line}:" in said
    assert "export.dims.N: N has no max, and a TensorRT engine is built for a range of sizes" in said
    assert "say how large it may be: N: {max: 64}" in said
    edited.replace("several.yaml", "  dims:\n    N: {min: 0}\n", "")
    assert "N has no max" in edited.run("check", "several.yaml", code=2).err


def test_strings_and_what_the_classic_one_does_not_take_are_refused(edited, tmp_path):
    edited.replace("several.yaml", "scale: {dtype: float32, shape: []}", "scale: {dtype: string, shape: []}")
    edited.replace("several.yaml", "{compute_capabilities", "{flavor: classic, compute_capabilities")
    said = edited.run("check", "several.yaml", code=2).err

    assert "input 'scale' holds strings, which TensorRT does not know" in said
    assert "look words up before the graph, or take tensorrt out of targets" in said
    assert "classic TensorRT builds for the GPU of this machine alone" in said
    assert "remove them, or say flavor: rtx" in said
    edited.replace("several.yaml", "SM86", "sm86")
    assert "SM86 or CURRENT" in edited.run("check", "several.yaml", code=2).err


@pytest.mark.parametrize(
    ("flavor", "package", "extra"), [("rtx", "tensorrt_rtx", "tensorrt"), ("classic", "tensorrt", "tensorrt-classic")]
)
def test_without_the_package_it_is_refused_or_skipped(edited, tmp_path, flavor, package, extra):
    without = Workspace(edited.root, hidden(tmp_path / "site", package))
    edited.replace("several.yaml", "{compute_capabilities: [SM86]", f"{{flavor: {flavor}")
    said = without.run("check", "several.yaml", code=2).err
    assert f"it needs {package}, which is not installed" in said
    assert f"pip install 'onnxbuild[{extra}]'" in said
    edited.replace("several.yaml", flavor, f"{flavor}, optional: true")
    without.run("run", "several.yaml")

    (told,) = without.report("several")["targets"]
    assert (told["level"], told["why"]) == (
        "skipped",
        f"{package} is not installed: pip install 'onnxbuild[{extra}]'",
    )


def test_what_decides_the_bytes():
    assert target.facets(target.Options()) == ("system",)
    assert "gpu" in target.facets(target.Options(compute_capabilities=["CURRENT"]))
    assert "gpu" in target.facets(target.Options(flavor="classic"))
    assert target.notes(target.Options(flavor="classic")) != target.notes(target.Options())


def test_a_lock_file_holds_no_digest_of_what_differs_each_time(edited):
    edited.run("lock", "several.yaml")
    files = yaml.safe_load(edited.read("several.lock.yaml"))["platforms"]
    (engine,) = (one["files"]["tensorrt/model.engine"] for one in files.values())
    assert engine.keys() == {"bytes"}
