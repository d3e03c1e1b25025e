"""Every kind of file in the store, damaged in every way: never in build/, a miss with one warning, repaired by a run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from small import model, models, published, small, unsound
from workspace import Workspace

from onnxbuild.store import checksummed, integrity
from onnxbuild.store.traces import Trace, all_traces

PARITY_ANEW = "runtime: {session: {graph_optimization_level: basic}}\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project in which two versions of the model were built, so that there is something valid to replace a file by."""
    root = tmp_path_factory.mktemp("built") / "project"
    root.mkdir()
    workspace = small(Workspace(root), version=1)
    workspace.write("big.yaml", workspace.read("small.yaml").replace("name: small", "name: big"))
    workspace.run("run", "small.yaml", "big.yaml")
    (root / "m.onnx").write_bytes(model(2))
    workspace.run("run", "small.yaml")
    assert unsound(root) == []
    return root


@pytest.fixture
def project(built, tmp_path):
    shutil.copytree(built, tmp_path / "project")
    return Workspace(tmp_path / "project", hasty=True)


def traces(root: Path) -> dict[str, tuple[Path, Trace]]:
    """The last run's traces by stage."""
    store = root / ".onnxbuild"
    keys = {
        report["key"]: report["name"] for report in json.loads((root / "build/small/report.json").read_text())["stages"]
    }
    found = {}
    for key, path in all_traces(store):
        if key in keys:
            found[keys[key]] = (path, checksummed.read(path, f"{key}/{path.stem}", Trace))
    return found


def pick(root: Path, kind: str) -> tuple[Path, Path]:
    """The file to damage, and another of its kind: the one of the first version wherever there is one."""
    store = root / ".onnxbuild"
    own = traces(root)
    graphs = {stage: own[stage][1].outcome for stage in ("export", "optimize/1-onnxoptimizer")}
    used = {ref for _, trace in own.values() for ref in trace.sizes}
    unused = [path for path in sorted((store / "objects").rglob("*")) if path.is_file() and path.name != ".lock"]
    unused = [path for path in unused if path.relative_to(store / "objects").as_posix() not in used]
    if kind == "graph":
        return store / "objects" / graphs["optimize/1-onnxoptimizer"].outputs["graph"], next(
            path for path in unused if path.suffix == ".onnx"
        )
    if kind == "exported graph":
        return store / "objects" / graphs["export"].outputs["graph"], pick(root, "graph")[0]
    if kind == "tensor":
        beside = {*graphs["export"].outputs.values()}  # the graph and its line map
        (tensor,) = (ref for ref in graphs["export"].objects if ref not in beside)
        size = (store / "objects" / tensor).stat().st_size
        return store / "objects" / tensor, next(path for path in unused if path.stat().st_size == size)
    if kind == "reference":
        return store / "objects" / own["reference"][1].outcome.outputs["reference"], pick(root, "tensor")[0]
    if kind == "model.ort":
        outputs = own["target/ort"][1].outcome.outputs
        return store / "objects" / outputs[kind], store / "objects" / outputs["required_operators_and_types.config"]
    if kind in own:
        return own[kind][0], own["check/export"][0]
    return {
        "latest": (store / "latest/small.json", store / "latest/big.json"),
        "digests": (store / "digests.json", store / "latest/big.json"),
    }[kind]


def flipped(path: Path, _: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 4
    keeping_time(path, bytes(data))


def replaced(path: Path, other: Path) -> None:
    keeping_time(path, other.read_bytes())


def turned_into_a_folder(path: Path, _: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def keeping_time(path: Path, data: bytes) -> None:
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES = {
    "truncated": lambda path, _: os.truncate(path, path.stat().st_size - 3),
    "flipped": flipped,
    "empty": lambda path, _: os.truncate(path, 0),
    "deleted": lambda path, _: path.unlink(),
    "replaced": replaced,
    "a folder": turned_into_a_folder,
}
KINDS = ["graph", "exported graph", "tensor", "reference", "export", "package", "latest", "digests"]


# What is deleted without a trace that needs it is built again like anything else that is not there.
def alike(kind: str, damage: str) -> bool:
    """What is too short is found by its size, whatever it holds: one kind each is enough where each costs a build."""
    if os.environ.get("ONNXBUILD_KILLS"):  # the long run
        return False
    return (damage in ("empty", "a folder") and kind != "tensor") or (
        damage == "truncated" and kind not in ("graph", "export")
    )


SILENT = {("latest", "deleted"), ("digests", "deleted"), ("export", "deleted"), ("package", "deleted")}


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("kind", "damage"), [(kind, damage) for kind in KINDS for damage in DAMAGES if not alike(kind, damage)]
)
def test_damage_is_a_miss_with_one_warning_and_the_next_run_repairs_it(project, kind, damage):
    good = models(project.root)
    path, other = pick(project.root, kind)
    shutil.rmtree(project.root / "build")
    project.write("small.yaml", project.read("small.yaml") + PARITY_ANEW)  # so that every graph and reference is taken
    DAMAGES[damage](path, other)
    ran = project.run("run", "small.yaml")

    assert models(project.root) == good
    assert ran.err.count("warning:") == (0 if (kind, damage) in SILENT else 1), ran.err
    assert str(path) in ran.err or (kind, damage) in SILENT
    assert unsound(project.root) == []

    ran = project.run("run", "small.yaml")

    assert "up to date" in ran.out and "warning" not in ran.err


@pytest.fixture(scope="module")
def built_target(built, tmp_path_factory):
    """The same with a target, whose files are two objects."""
    root = tmp_path_factory.mktemp("target") / "project"
    shutil.copytree(built, root)
    workspace = Workspace(root)
    workspace.write("small.yaml", workspace.read("small.yaml") + "targets: {ort: {}}\n")
    workspace.run("run", "small.yaml")
    return root


@pytest.mark.parametrize(("kind", "damage"), [("model.ort", "replaced"), ("target/ort", "flipped")])
def test_damage_to_what_a_target_came_to_is_a_miss_and_repaired_too(built_target, tmp_path, kind, damage):
    shutil.copytree(built_target, tmp_path / "project")
    project = Workspace(tmp_path / "project")
    folder = project.root / "build/small"
    good = {path: path.read_bytes() for path in (*folder.glob("ort/*"), *folder.glob("model.onnx*"))}
    assert len(good) == 4
    path, other = pick(project.root, kind)
    shutil.rmtree(project.root / "build")
    DAMAGES[damage](path, other)
    ran = project.run("run", "small.yaml")

    assert {path: path.read_bytes() for path in good} == good
    assert ran.err.count("warning:") == 1 and str(path) in ran.err
    assert project.built("small") == {"target/ort", "package"}
    assert unsound(project.root) == []
    assert "up to date" in project.run("run", "small.yaml").out


# What is deleted and serves explanations or saves work only leaves a store that holds what it should.
UNSEEN = {("latest", "deleted"), ("digests", "deleted")}


@pytest.mark.sample(3)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_verify_finds_it_and_repair_removes_it(project, kind, damage):
    store = project.root / ".onnxbuild"
    path, other = pick(project.root, kind)
    DAMAGES[damage](path, other)
    findings = integrity.check(store).findings

    assert [finding.path for finding in findings] == ([] if (kind, damage) in UNSEEN else [path])

    integrity.repair(store, findings)

    assert integrity.check(store).findings == []


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_remembered_is_no_more_than_what_a_look_at_the_store_says(project, kind):
    for harm in DAMAGES.values() if os.environ.get("ONNXBUILD_KILLS") else (flipped, DAMAGES["deleted"]):
        for _ in range(3):  # what the last damage took away is built again, the report says so, and that is remembered
            project.run("run", "--quiet", "small.yaml")
        assert list((project.root / ".onnxbuild/remembered").iterdir())
        harm(*pick(project.root, kind))
        project.both("plan", "--check", "small.yaml")


@pytest.mark.parametrize("ref", ["../../victim", "{root}/victim"])
@pytest.mark.parametrize("below", ["sizes", "outputs"])
def test_a_trace_that_names_a_file_of_ours_is_damaged_and_the_file_stays(project, ref, below):
    """Whoever can write into a shared store can seal a trace."""
    victim = project.root / "victim"
    victim.write_bytes(b"ours")
    ref = ref.format(root=project.root)
    path, trace = traces(project.root)["export"]
    outcome = msgspec.structs.replace(trace.outcome, outputs={"graph": ref})
    bad = msgspec.structs.replace(trace, **{"sizes": {ref: 4}} if below == "sizes" else {"outcome": outcome})
    checksummed.write(path, f"{path.parent.parent.name}{path.parent.name}/{path.stem}", bad)
    ran = project.run("cache", "verify", code=1)
    project.run("cache", "verify", "--repair")
    checksummed.write(path, f"{path.parent.parent.name}{path.parent.name}/{path.stem}", bad)
    built = project.run("run", "small.yaml")

    assert f"{path}: damaged trace" in ran.out and f"{path}: damaged trace" in built.err
    assert victim.read_bytes() == b"ours"
    assert unsound(project.root) == []


def test_the_command_names_what_is_damaged_and_exits_1_until_it_is_repaired(project):
    good = published(project.root)
    assert project.run("cache", "verify").out.endswith("all sound\n")

    paths = [pick(project.root, kind)[0] for kind in ("tensor", "reference", "package", "latest")]
    for path in paths:
        flipped(path, path)
    ran = project.run("cache", "verify", code=1)
    told = json.loads(project.run("cache", "verify", "--json", code=1).out)

    assert all(f"{path}: damaged" in ran.out for path in paths)
    assert ran.out.endswith(": 4 files damaged or missing; `onnxbuild cache verify --repair` removes it\n")
    assert sorted(finding["path"] for finding in told["findings"]) == sorted(map(str, paths))
    assert told["repaired"] is False

    ran = project.run("cache", "verify", "--repair")

    assert "4 files damaged or missing; removed" in ran.out
    assert project.run("cache", "verify").out.endswith("all sound\n")
    ran = project.run("run", "small.yaml")
    assert published(project.root) == good and "warning" not in ran.err
