"""A lock file says what a build is expected to be: written when asked for, held by `run --locked`, told when outdated."""

from __future__ import annotations

import json
import re
import subprocess
import time

import jsonschema
import msgspec
import onnx
import pytest
import small
import yaml
from samples import facts
from test_layers import HEAVY
from workspace import REPOSITORY, Workspace

from onnxbuild.errors import UserError
from onnxbuild.review import lockfile
from onnxbuild.system import machine

HERE = machine.platform()
TEXT = """\
# Written by `onnxbuild lock`; `onnxbuild run --locked` holds builds against it. Not for editing: change the recipe, and
# lock it again.
version: 1
name: small
recipe_sha256: SHA
sources:
  m.onnx:
    sha256: SHA
    bytes: SIZE
inputs:
  x: float32[N, 16]
outputs:
  "y": float32[N, 32]
dims:
  "N": 1..3
ir_version: 8
opset_imports:
  ai.onnx: 17
ops:
  MatMul: 1
  Relu: 1
parameters: 512
bytes: SIZE
graph_sha256: SHA
platforms:
  HERE:
    tools:
TOOLS
    weights_sha256: SHA
    files:
      model.onnx:
        sha256: SHA
        bytes: SIZE
      model.onnx.data:
        sha256: SHA
        bytes: SIZE
    parity:
      onnx:
        "y":
          max_abs: 0.0
          max_rel: 0.0
          used: 0.0
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project whose recipe is built, locked, and has nothing left to do."""
    workspace = small.small(Workspace.make(tmp_path_factory.mktemp("locked") / "project"))
    workspace.hasty = True
    workspace.run("run", "small.yaml")
    assert not (workspace.root / "small.lock.yaml").exists(), "no run writes it by itself"
    assert workspace.run("lock", "small.yaml").out.endswith("\nsmall.lock.yaml: written\n")
    return workspace


def tools_of(workspace: Workspace) -> dict[str, str]:
    return yaml.safe_load(workspace.read("small.lock.yaml"))["platforms"][HERE]["tools"]


def other_pass(workspace: Workspace) -> None:
    """Another graph of the same weights, from a file that says the same as before of everything else."""
    workspace.replace("small.yaml", f"optimize: [{small.PASS}]", "optimize: []")


def test_it_says_one_fact_a_line_and_the_same_facts_give_the_same_bytes(edited):
    text = edited.read("small.lock.yaml")
    shown = re.sub(r"\b[0-9a-f]{64}\b", "SHA", text).replace(HERE, "HERE")
    shown = re.sub(r"(?m)^( *)bytes: \d+$", r"\1bytes: SIZE", shown)
    shown = re.sub(r"(?m)^    tools:\n(      .+\n)+", "    tools:\nTOOLS\n", shown)

    assert shown == TEXT
    tools = tools_of(edited)
    assert (
        tools["onnx"] == onnx.__version__ and list(tools) == sorted(tools) and tools["python"].startswith("cpython 3.")
    )
    schema = json.loads((REPOSITORY / "schemas/lock.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text))
    assert edited.run("lock", "small.yaml").out.endswith("\nsmall.lock.yaml: up to date\n")
    assert edited.run("run", "--paranoid", "--update-lock", "small.yaml").out.endswith(
        "\nsmall.lock.yaml: up to date\n"
    )
    assert edited.read("small.lock.yaml") == text


def test_a_build_that_is_as_expected_passes_and_costs_nothing_when_nothing_is_to_do(edited):
    assert "up to date" in edited.run("run", "--locked", "small.yaml").out
    time.sleep(0.05)
    edited.run("run", "--locked", "small.yaml")
    command, environment = edited.command("run", "--locked", "small.yaml")
    command[1:1] = ["-X", "importtime"]
    done = subprocess.run(command, cwd=edited.root, env=environment, capture_output=True, text=True, check=True)
    loaded = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))

    assert "up to date" in done.stdout
    assert loaded & {*HEAVY, "yaml", "msgspec", "onnxbuild.review"} == set(), "it is remembered"
    edited.replace("small.lock.yaml", "MatMul: 1", "MatMul: 2")
    assert "graph: op MatMul 2 -> 1" in edited.run("run", "--locked", "small.yaml", code=1).err


def test_a_drift_fails_and_is_not_published(edited):
    before = small.published(edited.root)
    other_pass(edited)
    (edited.root / "m.onnx").write_bytes(small.model(2))
    ran = edited.run("run", "--locked", "small.yaml", code=1)

    assert small.published(edited.root) == before
    assert edited.report("small")["failures"][0] == {
        "stage": "package",
        "fact": "this build is not what small.lock.yaml expects, so it is not published:\n"
        "    recipe: says something else than when it was locked\n"
        "    input m.onnx: other content\n"
        "    graph: op Identity 0 -> 1\n"
        "    graph: 2,273 -> 2,297 bytes\n"
        f"    tool onnxoptimizer: {tools_of(edited)['onnxoptimizer']} -> absent\n"
        "    weights: other values, names or shapes",
        "hint": "if that is what is wanted, commit the lock with the change: onnxbuild lock small.yaml",
        "log": "",
        "kept": [],
    }
    assert "      graph: op Identity 0 -> 1\n" in ran.err and "onnxbuild lock small.yaml" in ran.err
    assert edited.run("run", "--locked", "small.yaml", code=1).err == ran.err, "and again, with nothing to run"
    edited.run("run", "--update-lock", "-q", "small.yaml")
    assert small.published(edited.root) != before
    edited.run("run", "--locked", "small.yaml")


def test_what_only_the_published_file_shows_is_told_after(edited):
    """As another protobuf might write the same model in other bytes."""
    text = edited.read("small.lock.yaml")
    facts = next(stage for stage in edited.report("small")["stages"] if stage["kind"] == "package")["facts"]
    size = facts["unstamped"]["model.onnx"]["bytes"]
    edited.write(
        "small.lock.yaml",
        text.replace(f"bytes: {size}\n", "bytes: 7\n").replace("onnx:\n        sha256: ", "onnx:\n        sha256: 0"),
    )
    ran = edited.run("run", "--locked", "small.yaml", code=1)

    assert "this build is not what small.lock.yaml expects, and it is published:" in ran.err
    assert f"file model.onnx: 7 -> {size:,} bytes\n" in ran.err
    assert not (edited.root / "build/small/manifest.json").exists()


def test_another_platform_is_told_and_locked_beside_the_first(edited):
    edited.write("small.lock.yaml", edited.read("small.lock.yaml").replace(HERE, "plan9-mips"))
    for _ in range(2):
        said = " ".join(edited.run("run", "--locked", "small.yaml").out.split())
        assert (
            f"warning: the lock has nothing of this platform, {HERE} (it has plan9-mips): tools, weights, files and errors "
            "were not held against it; `onnxbuild lock small.yaml` on this machine adds them"
        ) in said
        time.sleep(0.05)
    edited.write("other.yaml", small.recipe("other"))
    edited.run("lock", "other.yaml")
    edited.write("other.lock.yaml", edited.read("other.lock.yaml").replace(HERE, "plan9-mips"))
    for _ in range(2):
        said = edited.run("run", "--locked", "small.yaml", "other.yaml").err
        assert "warning: small, other: their locks have nothing of this platform, and tools, weights, files and" in said
        assert "errors were not held against them; `onnxbuild lock` on this machine adds them\n" in said
        time.sleep(0.05)
    assert f"    platform {HERE}: new\n" in edited.run("lock", "small.yaml").out
    assert list(yaml.safe_load(edited.read("small.lock.yaml"))["platforms"]) == sorted([HERE, "plan9-mips"])
    assert "warning" not in edited.run("run", "--locked", "small.yaml").out
    other_pass(edited)
    said = edited.run("lock", "small.yaml").out
    assert "    platform plan9-mips: dropped, since it is of another build; lock it again on such a machine\n" in said
    assert list(yaml.safe_load(edited.read("small.lock.yaml"))["platforms"]) == [HERE]


def test_what_is_wrong_with_a_lock_file_is_told_with_the_place_and_what_to_run(edited):
    path, text = edited.root / "small.lock.yaml", edited.read("small.lock.yaml")
    mark = text.replace("\nops:\n", "\n<<<<<<< HEAD\nops:\n").replace(
        "parameters:", "=======\n>>>>>>> other\nparameters:"
    )
    at = mark[: mark.index("<")].count("\n") + 1
    wrong = text.replace("ir_version: 8", "ir_version: eight\nfoo: 1")
    line = wrong[: wrong.index("ir_version")].count("\n") + 1
    again = "    hint: lock it again: onnxbuild lock small.yaml\n"
    messages = {
        None: "small.lock.yaml: there is no lock file\n    hint: onnxbuild lock small.yaml\n",
        mark: f"small.lock.yaml:{at}:1: a merge left its marker '<<<<<<<' here: both sides changed what is expected\n"
        "    hint: merge the recipe, then write the lock anew from a build of it: onnxbuild lock small.yaml\n",
        wrong: f"small.lock.yaml:{line}:13: ir_version: expected an integer, found the string 'eight'\n{again}"
        f"small.lock.yaml:{line + 1}:1: unknown key 'foo'\n{again}",
        text + "  - [": f"small.lock.yaml:{text.count(chr(10)) + 1}:3: not valid YAML: ",
    }
    for damaged, said in messages.items():
        path.unlink() if damaged is None else path.write_text(damaged)
        assert edited.run("run", "--locked", "small.yaml", code=2).err.startswith(said)
        assert edited.run("lock", "--check", "small.yaml", code=2).err.startswith(said)
    assert "small.lock.yaml: written\n" in edited.run("lock", "small.yaml").out
    assert path.read_text() == text


def test_what_is_outdated_is_told_without_building(edited):
    edited.replace("small.yaml", "version: 1\n", "# a comment\n\nversion:   1\n")
    assert edited.run("lock", "--check", "small.yaml").out == "small.lock.yaml: up to date\n"
    store = edited.root / ".onnxbuild"
    store.rename(edited.root / "elsewhere")
    other_pass(edited)
    (edited.root / "m.onnx").write_bytes(small.model(2))
    ran = edited.run("lock", "--check", "small.yaml", "small.lock.yaml", code=1)

    assert ran.out == (
        "small.lock.yaml: outdated\n"
        "    recipe: says something else than when it was locked\n"
        "    input m.onnx: other content\n"
        "    lock it again: onnxbuild lock small.yaml\n"
    )
    assert not store.exists()
    (edited.root / "m.onnx").unlink()
    assert "    input m.onnx: gone\n" in edited.run("lock", "--check", "small.yaml", code=1).out


def test_a_lock_that_git_checked_out_with_other_line_ends_is_left_alone(edited):
    path = edited.root / "small.lock.yaml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    before = path.read_bytes()
    assert edited.run("lock", "small.yaml").out.endswith("\nsmall.lock.yaml: up to date\n")
    assert path.read_bytes() == before
    edited.write("small.lock.yaml", "# a remark\n" + edited.read("small.lock.yaml"))
    said = edited.run("lock", "small.yaml").out
    assert said.endswith("\nsmall.lock.yaml: written\n    the same facts, written another way\n")


def test_a_lock_that_could_not_be_read_again_is_not_written_and_others_are(edited):
    model = onnx.load_from_string(small.model(1))
    (weight,) = model.graph.initializer
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight), weight.name))  # as bytes
    onnx.save(model, edited.root / "n.onnx", save_as_external_data=True, location="w\u2028.bin", size_threshold=0)
    edited.write("other.yaml", small.recipe("other", "n.onnx"))
    other_pass(edited)
    text = edited.read("small.lock.yaml")
    ran = edited.run("lock", "other.yaml", "small.yaml", code=2)

    assert ran.err.startswith("other.lock.yaml: not written, since no YAML file can hold the name 'w\ufffd.bin'\n")
    assert "    hint: give that file, or that tensor, another name\n" in ran.err
    assert edited.read("small.lock.yaml") != text and not (edited.root / "other.lock.yaml").exists()
    for name in ("w\u202e", "\x7f", "\x85", "\x1b", "\udcff", "a" * 1100):
        found = msgspec.structs.replace(lockfile.of(facts()), inputs={name: "float32[]"})
        with pytest.raises(UserError, match="no YAML file can hold the name"):
            lockfile.write(edited.root / "other.lock.yaml", found)


def test_a_lock_that_would_be_too_large_is_not_written(tmp_path):
    """It has a line for each file; that of ten thousand would be refused when it is read."""
    found = msgspec.structs.replace(
        lockfile.of(facts()), sources={f"w/{at}": lockfile.File("0" * 64, 1) for at in range(11000)}
    )
    with pytest.raises(
        UserError, match=r"not written: with 11,000 files that came in it has more than 1 MiB\n    hint: put w"
    ):
        lockfile.write(tmp_path / "a.lock.yaml", found)
    assert not list(tmp_path.iterdir())


def test_two_recipes_have_no_lock_in_common(edited):
    for _ in range(2):  # until that is remembered
        assert "up to date" in edited.run("run", "--locked", "small.yaml").out
        time.sleep(0.05)
    edited.write("small.yml", small.recipe("other"))
    said = (
        "{}: {} beside it would have the same lock file, small.lock.yaml\n    hint: give one of the two another name\n"
    )
    for command in (["run", "--locked"], ["lock"], ["lock", "--check"], ["run", "--update-lock"]):
        assert edited.run(*command, "small.yaml", code=2).err.startswith(said.format("small.yaml", "small.yml"))
    assert edited.run("lock", "small.yml", code=2).err.startswith(said.format("small.yml", "small.yaml"))
    assert not (edited.root / "build/other").exists()

    (edited.root / "small.yaml").replace(edited.root / "small.yml")
    assert (
        "the recipe that small.lock.yaml is of is no longer there"
        not in edited.run("diff", "small.lock.yaml", "build/small").out
    )
    assert "up to date" in edited.run("lock", "--check", "small.yml").out


def test_a_folder_stands_for_what_is_locked_below_it(edited):
    """Whatever changed: a base, or a file of weights, which are no recipes; or a recipe's name."""
    subprocess.run(["git", "init", "-q"], cwd=edited.root, check=True)
    assert "there is no lock file below deep\n    hint: lock what is to be" in checked(edited, "deep", code=2)
    edited.write("deep/base.yaml", small.recipe("base").replace("name: base\n", ""))
    edited.write("deep/er/over.yaml", "base: ../base.yaml\nname: over\n")
    edited.write("deep/free.yaml", small.recipe("free"))
    edited.run("lock", "deep/er/over.yaml")
    assert checked(edited, "deep") == "deep/er/over.lock.yaml: up to date\n"
    assert checked(edited, ".") == "deep/er/over.lock.yaml: up to date\nsmall.lock.yaml: up to date\n"

    edited.replace("deep/base.yaml", "max: 3", "max: 4")
    said = (
        "    recipe: says something else than when it was locked\n    lock it again: onnxbuild lock deep/er/over.yaml\n"
    )
    assert checked(edited, "deep", code=1) == f"deep/er/over.lock.yaml: outdated\n{said}"
    edited.replace("deep/base.yaml", "max: 4", "max: 3")
    (edited.root / "deep/er/over.yaml").rename(edited.root / "deep/er/new.yaml")
    assert checked(edited, "deep", code=1) == (
        "deep/er/over.lock.yaml: outdated\n    its recipe is gone: remove it, or give it the name that the recipe has now\n"
    )


def checked(workspace: Workspace, folder: str, code: int = 0) -> str:
    (workspace.root / folder).mkdir(exist_ok=True)
    return workspace.run("lock", "--check", folder, code=code).text


def test_a_failed_build_is_not_locked(edited):
    text = edited.read("small.lock.yaml")
    (edited.root / "m.onnx").write_bytes(b"none")
    ran = edited.run("lock", "small.yaml", code=1)

    assert "small.lock.yaml: left as it is, since the build failed\n" in ran.out
    assert edited.read("small.lock.yaml") == text


def test_a_lock_file_is_taken_for_no_recipe(edited):
    for command in (["run"], ["plan"], ["check"], ["lock", "--check"], ["verify"]):
        edited.run(*command, "small.lock.yaml", "small.yaml")
    said = "small.lock.yaml is a lock file: give the recipe that it is of, small.yaml"
    assert said in edited.run("run", "small.lock.yaml", code=2).err


def test_keep_going_leaves_out_what_has_no_lock(edited):
    edited.write("other.yaml", small.recipe("other"))
    ran = edited.run("run", "-k", "--locked", "small.yaml", "other.yaml", code=2)

    assert "up to date" in ran.out
    assert "other.lock.yaml: there is no lock file\n    hint: onnxbuild lock other.yaml\n" in ran.err
    assert not (edited.root / "build/other").exists()


GELU = """
<ir_version: 10, opset_import: ["" : 20]>
gelu (float[N, 8] x) => (float[N, 8] y) <float[8] bias = {1, 2, 3, 4, 5, 6, 7, 8}>
{
    shifted = Add (x, bias)
    y = Gelu (shifted)
}
"""


def test_an_error_ten_times_the_locked_one_fails_within_the_tolerance(workspace):
    """onnxruntime's own approximation of Gelu; its pass makes the graph one for this hardware, and so the lock has it."""
    (workspace.root / "m.onnx").write_bytes(onnx.parser.parse_model(GELU).SerializeToString())
    text = small.recipe("gelu", optimize="{onnxruntime: {graph_optimization_level: extended}}", external=False)
    text = (
        text.replace("opset: 17", "opset: 20").replace("[2, 16]", "[2, 8]")
        + "parity: {atol: 1.0e-2, reason: an approximation}\n"
    )
    entry = 'runtime: {session: {config_entries: {optimization.enable_gelu_approximation: "1"}}}\n'
    workspace.write("gelu.yaml", text + entry)
    workspace.run("lock", "gelu.yaml")
    lock = workspace.read("gelu.lock.yaml")
    here = yaml.safe_load(lock)["platforms"][HERE]
    error = here["parity"]["onnx"]["y"]["max_abs"]

    assert here["ops"] == {"com.microsoft::BiasGelu": 1} and "\nops:" not in lock
    assert 1e-4 < error < 1e-3 and here["parity"]["onnx"]["y"]["used"] < 0.1
    for times, code in ((9.0, 0), (12.0, 1)):
        locked = f"{error / times:.1e}"
        workspace.write("gelu.lock.yaml", lock.replace(f"max_abs: {error:.1e}", f"max_abs: {locked}"))
        said = workspace.run("run", "--locked", "gelu.yaml", code=code).err
    assert re.search(rf"\n      parity onnx y: error {float(locked):.2g} -> {error:.2g}, 1[12] times the locked one, though "
                     r"within the tolerance \([\d.]+ % of it\)\n", said)  # fmt: skip
    workspace.run("run", "gelu.yaml")
