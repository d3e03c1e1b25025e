"""`onnxbuild verify`: published files are what was built; building again elsewhere gives the same, or says where not."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import msgspec
import onnx.parser
import pytest
import several
from workspace import Ran, Workspace

from onnxbuild.store import checksummed
from onnxbuild.store.digests import Memory
from onnxbuild.store.store import LocalStore
from onnxbuild.system.files import sha256_file

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
main (float[n, 4] x) => (float[n, 4] y)
<float[4, 4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}>
{ z = MatMul(x, w)
  y = Softmax<axis = 1>(z) }
"""
RECIPE = """\
version: 1
name: {name}
model: {{onnx: {{path: m.onnx}}}}
export:
  opset: 17
  inputs: {{x: {{dtype: float32, shape: [2, 4]}}}}
  outputs: [y]
  dynamic_axes: {{x: {{0: n}}, y: {{0: n}}}}
optimize: [{{onnxsim: {{}}}}]
"""
EXTERNAL = "package: {external_data: true}\n"

# What models' code may do; all but the first and the last make another model elsewhere, though each build gives the same.
NETS = """\
import importlib, json, locale, os, subprocess, sys, time
from pathlib import Path
import torch


class Scaled(torch.nn.Module):
    def __init__(self, values):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(values))

    def forward(self, x):
        return x * self.scale.sum() + self.scale[0]


def plain(witness):
    umask = os.umask(0)
    os.umask(umask)
    seen = {
        "folder": os.getcwd(), "hash": hash("a string"), "zone": time.localtime().tm_gmtoff, "umask": umask,
        "locale": os.environ["LC_ALL"], "home": os.path.expanduser("~"), "temporary": os.environ.get("TMPDIR"),
        "user": os.environ.get("USER"), "threads": torch.get_num_threads(), "path": sys.path,
    }
    if seen["user"]:  # else listing all files would be a dependency on all of them
        seen["files"] = sorted(str(path) for path in Path().rglob("*") if path.is_file())
    with open(witness, "a") as file:
        file.write(json.dumps(seen) + "\\n")
    return Scaled([float(text) for text in open("scales.txt").read().split()])


def hashed():
    return Scaled([float(len(name)) for name in {"a", "be", "sea", "dear", "eager", "effort", "geology", "happiest"}])


def placed():
    return Scaled([float(byte) for byte in os.getcwd().encode()])


def native():  # what another process reads, no one sees
    return Scaled([float(text) for text in subprocess.check_output(["cat", "secret.txt"]).split()])


def absolute(folder):
    sys.path.append(folder)
    return Scaled([importlib.import_module("written_down").VALUE])


def listing():
    return Scaled([float(len(name)) for name in sorted(os.listdir("assets"))] + [float(os.path.isdir("empty"))])


def linked():
    from linked import scales
    return Scaled(scales.VALUES)
"""
NET_RECIPE = """\
version: 1
name: {name}
model: {{pytorch: {{factory: "nets:{name}", kwargs: {kwargs}}}}}
export:
  exporter: torchscript
  opset: 17
  inputs: {{x: {{dtype: float32, shape: [2, 3]}}}}
  outputs: [y]
"""


def small(workspace: Workspace, *recipes: str) -> Workspace:
    """Recipes that take no torch."""
    onnx.save(onnx.parser.parse_model(TEXT), workspace.root / "m.onnx")
    for name in recipes or ("small",):
        workspace.write(f"{name}.yaml", RECIPE.format(name=name))
    return workspace


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small recipe that was built once; tests take a copy."""
    workspace = small(Workspace.make(tmp_path_factory.mktemp("built") / "project"))
    workspace.write("small.yaml", workspace.read("small.yaml") + EXTERNAL)
    workspace.run("run", "small.yaml")
    return workspace


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_was_built_is_verified_and_nothing_is_written(edited):
    before = {path: path.stat().st_mtime_ns for path in edited.root.rglob("*")}

    ran = edited.run("verify", "small.yaml")

    assert "✓ small: model.onnx" in ran.out and "as the report says and the store holds" in ran.out
    assert {path: path.stat().st_mtime_ns for path in edited.root.rglob("*")} == before


DAMAGE = {
    "edited": (lambda p: flip(p / "build/small/model.onnx"), "changed since it was built"),
    "lost": (lambda p: (p / "build/small/model.onnx").unlink(), "No such file"),
    "replaced by a folder": (
        lambda p: ((p / "build/small/model.onnx").unlink(), (p / "build/small/model.onnx").mkdir()),
        "Is a directory",
    ),
    "report lost": (lambda p: (p / "build/small/report.json").unlink(), "build the recipe first"),
    "report damaged": (lambda p: (p / "build/small/report.json").write_bytes(b"\xff{"), "is not a report"),
    "report nested": (lambda p: (p / "build/small/report.json").write_text("[" * 99999), "is not a report"),
    "report with another digest": (
        lambda p: (p / "build/small/report.json").write_text(
            (p / "build/small/report.json").read_text().replace('"sha256": "', '"sha256": "f')
        ),
        "the report says f",
    ),
    "traces lost": (lambda p: shutil.rmtree(p / ".onnxbuild/traces"), "the store holds no result of package"),
    "objects flipped": (
        lambda p: [
            flip(path) for path in (p / ".onnxbuild/objects").rglob("*") if path.is_file() and path.stat().st_size
        ],
        "damaged or missing",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_not_as_it_was_built_exits_1_and_says_what(edited, damage):
    harm, said = damage
    harm(edited.root)

    ran = edited.run("verify", "small.yaml", code=1)

    assert said in ran.out, ran.out
    assert "Traceback" not in ran.text


@pytest.mark.parametrize("damage", ["edited", "lost", "report lost", "report damaged", "traces lost"])
def test_another_run_makes_it_right(edited, damage):
    DAMAGE[damage][0](edited.root)

    edited.run("run", "small.yaml")
    edited.run("verify", "small.yaml")


def test_a_failed_build_published_nothing_to_verify(edited):
    edited.write("small.yaml", edited.read("small.yaml").replace("x: {dtype: float32", "x: {dtype: float16"))
    edited.run("run", "small.yaml", code=1)

    ran = edited.run("verify", "small.yaml", code=1)

    assert "the last build failed and published nothing" in ran.out and "build it again: onnxbuild run" in ran.out


def test_a_rebuild_of_what_has_changed_since_asks_for_a_build_first(edited):
    edited.write("small.yaml", edited.read("small.yaml").replace("onnxsim: {}", "onnxoptimizer: [eliminate_nop_cast]"))

    ran = edited.run("verify", "small.yaml", "--rebuild", code=1)

    assert "is not up to date" in ran.out or "the store no longer holds" in ran.out or "holds no result" in ran.out


@pytest.mark.parametrize("passes", ["[]", "[{onnxsim: {}}, {onnxoptimizer: [eliminate_nop_cast]}]"])
def test_what_was_built_is_verified_though_the_recipe_has_other_passes_by_now(edited, passes):
    edited.replace("small.yaml", "[{onnxsim: {}}]", passes)

    assert "as the report says and the store holds" in edited.run("verify", "small.yaml").out


def test_no_memory_of_digests_vouches_for_a_pinned_model(workspace):
    """A file that was edited so that stat doesn't show it, as a faulty disk would."""
    several.weighty(workspace, "a", rows=32, seed=1)
    model = workspace.root / "a.onnx"
    workspace.replace("a.yaml", "{path: a.onnx}", f"{{path: a.onnx, sha256: {sha256_file(model)}}}")
    time.sleep(2.1)  # younger files are not remembered
    workspace.run("run", "a.yaml")
    memory = workspace.root / ".onnxbuild/digests.json"
    ((facts, digest),) = [
        known for name, known in checksummed.read(memory, memory.name, Memory).items() if "a.onnx" in name
    ]
    flip(model)
    stat = model.stat()
    facts = [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    checksummed.write(memory, memory.name, {str(model): (facts, digest)})

    assert "a.onnx has the SHA-256" in workspace.run("verify", "a.yaml", code=2).err


def test_several_recipes_are_all_verified_though_one_is_wrong(workspace):
    small(workspace, "a", "b", "c").run("run", "a.yaml", "b.yaml", "c.yaml")
    flip(workspace.root / "build/b/model.onnx")

    ran = workspace.run("verify", "a.yaml", "b.yaml", "c.yaml", "--rebuild", code=1)

    assert [line[:3] for line in ran.out.splitlines() if "as the report says" in line] == ["✓ a", "✓ c"]
    assert "✗ b: not what was built" in ran.out
    assert "✓ c: package, the same bytes" in ran.out and "b: export" not in ran.out


def test_the_first_stage_that_differs_is_named_with_what_differs(edited):
    """The store holds another graph than the source gives, as a build machine with a fault of its own would leave."""
    store = LocalStore(edited.root / ".onnxbuild", pytest.fail)
    key = {stage["name"]: stage["key"] for stage in edited.report("small")["stages"]}["export"]
    good = store.any_trace(key)
    other = TEXT.replace("{1, 0, 0, 0, 0, 1,", "{1, 0, 0, 0, 0, 1.0000001,").replace("axis = 1", "axis = -1")
    onnx.save(onnx.parser.parse_model(other), edited.root / "m.onnx")
    edited.run("run", "small.yaml")
    faulty = store.any_trace({stage["name"]: stage["key"] for stage in edited.report("small")["stages"]}["export"])
    store.keep(key, msgspec.structs.replace(good, outcome=faulty.outcome, sizes=faulty.sizes))
    onnx.save(onnx.parser.parse_model(TEXT), edited.root / "m.onnx")
    edited.run("run", "small.yaml")

    ran = edited.run("verify", "small.yaml", "--rebuild", code=1)

    assert "✓ small: model.onnx" in ran.out, "the files are what was built"
    told = ran.out[ran.out.index("✗ small: export differs") :].splitlines()
    assert told[1:] == [
        "    graph.node[1].attribute['axis'].i: -1 -> 1  (in Softmax 'y')",
        "    tensor 'w': 1 of 16 elements differs, first at [1, 1]: 1.0000001 -> 1.0; by 1.19e-07 at most",
    ], "what follows takes what differs: it is not built"


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> tuple[Workspace, Ran, list[dict]]:
    """Models whose code does what it shouldn't, built and verified once: the workspace, what verify said, what was seen."""
    base = tmp_path_factory.mktemp("nets")
    workspace = Workspace.make(base / "project")
    root = workspace.root
    workspace.write("nets.py", NETS)
    workspace.write("scales.txt", "1 2 3")
    workspace.write("unrelated.txt", "not edited")
    workspace.write("secret.txt", "4 5 6")
    for name in ("one.txt", "three.txt", "folder/five.txt"):
        workspace.write(f"assets/{name}", "large, and never opened")
    (root / "empty").mkdir()
    workspace.write("lib/written_down.py", "VALUE = 7.0\n")
    (base / "elsewhere").mkdir()
    (base / "elsewhere/scales.py").write_text("VALUES = [8.0]\n")
    (root / "linked").symlink_to("../elsewhere")
    kwargs = {
        "plain": json.dumps({"witness": str(base / "seen")}),
        "absolute": json.dumps({"folder": str(root / "lib")}),
    }
    names = ["plain", "hashed", "placed", "native", "absolute", "linked", "listing"]
    for name in names:
        workspace.write(f"{name}.yaml", NET_RECIPE.format(name=name, kwargs=kwargs.get(name, "{}")))
    recipes = [f"{name}.yaml" for name in names]
    workspace.run("run", *recipes)
    workspace.write("secret.txt", "4 5 7")
    ran = workspace.run("verify", "--rebuild", *recipes, code=1)
    return workspace, ran, [json.loads(line) for line in (base / "seen").read_text().splitlines()]


def said(ran: Ran, name: str) -> list[str]:
    """The lines of one recipe in the rebuild, those indented below a line included."""
    lines, mine = [], False
    for line in ran.out[ran.out.index("building again") :].splitlines():
        mine = line.startswith((f"✓ {name}:", f"✗ {name}:")) or (mine and line.startswith(" "))
        lines += [line] if mine else []
    return lines


@pytest.mark.parametrize("name", ["plain", "linked", "listing"])
def test_a_model_that_depends_on_its_inputs_alone_is_the_same_elsewhere(nets, name):
    lines = said(nets[1], name)

    assert len(lines) == 2 and all("the same bytes" in line for line in lines)
    assert lines[0].startswith(f"✓ {name}: export") and lines[1].startswith(f"✓ {name}: package")


def test_the_rebuild_really_happens_elsewhere(nets):
    """Else every verdict would be empty words."""
    workspace, ran, (*builds, rebuild) = nets
    usual = builds[0]

    assert len(builds) == 2, "export and reference; only the export is built again"
    for fact in ("folder", "hash", "zone", "umask", "locale", "home", "temporary", "user"):
        assert rebuild[fact] != usual[fact], fact
        assert all(build[fact] == usual[fact] for build in builds)
    assert rebuild["threads"] != usual["threads"] or os.cpu_count() == 1
    assert not Path(rebuild["folder"]).is_relative_to(workspace.root) and rebuild["folder"] in ran.out
    assert len(rebuild["folder"]) != len(usual["folder"])
    assert not any(Path(place).is_relative_to(workspace.root) for place in rebuild["path"] if place)
    assert {"nets.py", "scales.txt", "secret.txt", "unrelated.txt"} <= set(rebuild["files"]), "the world as it is"
    assert not Path(rebuild["folder"]).exists(), "it was removed"


def test_weights_in_the_order_of_a_set_are_caught(nets):
    lines = said(nets[1], "hashed")

    assert lines[0] == "✗ hashed: export differs"
    assert any(line.startswith("    tensor 'scale': ") and "of 8 elements differ, first at [" in line for line in lines)
    assert all(line.startswith("    tensor '") for line in lines[1:]), "nothing else differs, and nothing else is built"


def test_a_folder_in_a_constant_is_caught(nets):
    lines = said(nets[1], "placed")

    assert lines[0] == "✗ placed: export differs"
    here = len(str(nets[0].root))
    assert any(line.startswith(f"    tensor 'scale': float32[{here}] -> float32[") for line in lines)


def test_a_file_that_no_trace_knows_of_is_caught(nets):
    lines = said(nets[1], "native")

    assert lines[0] == "✗ native: export differs"
    assert "first at [2]: 6.0 -> 7.0" in lines[1]


def test_code_that_is_found_by_an_absolute_path_is_caught(nets):
    lines = said(nets[1], "absolute")

    assert lines[0] == "✗ absolute: export differs"
    assert f"read {nets[0].root}/lib/written_down.py, of the original project" in lines[1]


def test_another_hash_seed_can_be_asked_for(nets):
    """The seed of every build gives the order of every build."""
    workspace = nets[0]

    ran = workspace.run("verify", "--rebuild", "--hash-seed", "0", "hashed.yaml")

    assert "hash seed 0" in ran.out and "✓ hashed: export, the same bytes" in ran.out
    assert (
        "'-1' is not a whole number from 0 to 4294967295"
        in workspace.run("verify", "--hash-seed", "-1", "hashed.yaml", code=2).err
    )
