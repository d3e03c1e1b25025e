"""`onnxbuild identify`: whose a file is, and whether it is still what was built."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from small import model, small
from workspace import Workspace

from onnxbuild.commands import schema

MODEL, ORT = "build/small/model.onnx", "build/small/ort/model.ort"
TARGET = "targets: {ort: {optimization_level: basic}}\n"
OURS = ("onnxbuild.model_sha256", "onnxbuild.recipe", "onnxbuild.recipe_sha256", "onnxbuild.weights_sha256")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    """A build with a target and a model package from a clean commit; its source has metadata of its author's."""
    made = small(Workspace.make(tmp_path_factory.mktemp("identify") / "project"))
    (made.root / "m.onnx").write_bytes(authored(model(1)))
    recipe = made.read("small.yaml").replace("external_data: true", "external_data: true, layout: ort_model_package")
    made.write("small.yaml", recipe + TARGET)
    made.write(".gitignore", "build/\n.onnxbuild/\nhome/\n")
    own = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run(["git", *own, *command], cwd=made.root, check=True)
    made.run("run", "small.yaml")
    return made


def authored(content: bytes) -> bytes:
    loaded = onnx.load_from_string(content)
    loaded.metadata_props.add(key="licence", value="MIT")
    return loaded.SerializeToString()


def notes(path: Path) -> list[tuple[str, str]]:
    return [(one.key, one.value) for one in onnx.load(path, load_external_data=False).metadata_props]


def identity(workspace: Workspace, file: object, code: int = 0) -> dict:
    found = json.loads(workspace.run("identify", str(file), "--json", code=code).out)
    jsonschema.validate(found, json.loads(schema.text("identify")))
    return found


def test_a_published_model_names_its_recipe_and_is_what_the_report_says(built):
    report, found = built.report("small"), dict(notes(built.root / MODEL))
    data = built.root / f"{MODEL}.data"

    assert sorted(found) == sorted([*OURS, "licence"]), "the author's note is there"
    assert found["onnxbuild.recipe"] == "small"
    assert found["onnxbuild.recipe_sha256"] == report["recipe"]["resolved_sha256"]
    assert found["onnxbuild.weights_sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    bare = onnx.load(built.root / MODEL, load_external_data=False)
    kept = [one for one in bare.metadata_props if one.key not in OURS]
    del bare.metadata_props[:]
    bare.metadata_props.extend(kept)
    content = bare.SerializeToString(deterministic=True)
    assert found["onnxbuild.model_sha256"] == hashlib.sha256(content).hexdigest()
    package = next(stage for stage in report["stages"] if stage["kind"] == "package")["facts"]
    assert package["unstamped"]["model.onnx"] == {"sha256": found["onnxbuild.model_sha256"], "bytes": len(content)}
    session = onnxruntime.InferenceSession(str(built.root / MODEL))
    assert session.get_modelmeta().custom_metadata_map == found
    assert session.run(None, {"x": np.ones((3, 16), np.float32)})[0].shape == (3, 32)


def test_recipe_revision_and_tools_are_told(built):
    found = identity(built, MODEL)
    command = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(command, cwd=built.root, capture_output=True, text=True, check=True).stdout.strip()

    assert (found["status"], found["recipe"], found["changes"]) == ("unchanged", "small", [])
    assert found["recipe_sha256"] == built.report("small")["recipe"]["resolved_sha256"]
    assert found["sha256"] == hashlib.sha256((built.root / MODEL).read_bytes()).hexdigest()
    told = found["built"]
    assert (told["recipe"], told["revision"]) == ("small.yaml", {"commit": commit, "changed": False})
    assert told["packages"]["onnx"] == onnx.__version__ and told["packages"]["cpython"].startswith("3.")
    assert told["started"] <= told["finished"] and told["started"].endswith("Z")
    out = built.run("identify", MODEL).out
    assert out.startswith(f"✓ {MODEL}: built from the recipe small, and unchanged since\n")
    assert commit[:12] in out and f"onnx {onnx.__version__}" in " ".join(out.split())


def test_it_is_known_wherever_it_lies(built, tmp_path):
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copy(built.root / "build/small" / name, tmp_path)
    shutil.move(tmp_path / "model.onnx", tmp_path / "renamed.bin")

    assert identity(built, tmp_path / "renamed.bin")["built"]["revision"], "by the build of the project that asks"
    stranger = Workspace.make(tmp_path / "elsewhere")
    found = identity(stranger, tmp_path / "renamed.bin")
    assert (found["status"], found["recipe"], found["built"]) == ("unchanged", "small", None)
    assert "neither build/ nor the store tells of one" in stranger.run("identify", str(tmp_path / "renamed.bin")).out


def other_weights(root: Path) -> None:
    data = bytearray((root / f"{MODEL}.data").read_bytes())
    data[7] ^= 1
    (root / f"{MODEL}.data").write_bytes(data)


def edited_graph(root: Path) -> None:
    loaded = onnx.load(root / MODEL, load_external_data=False)
    loaded.graph.node[-1].op_type = "Tanh"
    (root / MODEL).write_bytes(loaded.SerializeToString())


def noted(root: Path) -> None:
    loaded = onnx.load(root / MODEL, load_external_data=False)
    loaded.metadata_props.add(key="note", value="mine")
    (root / MODEL).write_bytes(loaded.SerializeToString())


def stamped_twice(root: Path) -> None:
    again = onnx.ModelProto()
    again.metadata_props.add(key="onnxbuild.recipe", value="another\x1b[2J")
    (root / MODEL).write_bytes((root / MODEL).read_bytes() + again.SerializeToString())


CHANGED = {
    "weights": (other_weights, "model.onnx.data: not the weights that were built"),
    "no weights": (
        lambda root: (root / f"{MODEL}.data").unlink(),
        "model.onnx.data: No such file or directory, and weights of the model are in it",
    ),
    "graph": (edited_graph, "model.onnx: its graph, its metadata or the weights in it are not those that were built"),
    "notes": (noted, "model.onnx: its graph, its metadata or the weights in it are not those that were built"),
    "stamp": (stamped_twice, "model.onnx: its metadata of the recipe are not as they were written"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_was_changed_is_told_also_without_the_build(edited, what):
    edit, said = CHANGED[what]
    edit(edited.root)
    found = identity(edited, MODEL, code=1)
    assert (found["status"], found["changes"]) == ("changed", [said])
    assert found["built"], "of which build it was is known all the same"
    out = edited.run("identify", MODEL, code=1).out
    assert "and changed since\n" in out and said in out and "\x1b" not in out

    for name in ("build/small/provenance.json", ".onnxbuild/latest/small.json"):
        (edited.root / name).unlink()
    assert identity(edited, MODEL, code=1)["changes"] == [said]


def test_a_library_that_writes_it_again_changes_nothing(edited):
    loaded = onnx.load(edited.root / MODEL, load_external_data=False)
    (edited.root / MODEL).write_bytes(loaded.SerializeToString())
    assert identity(edited, MODEL)["status"] == "unchanged"

    # fields in another order, as after tools that append to a message
    first = onnx.ModelProto(metadata_props=loaded.metadata_props)
    del loaded.metadata_props[:]
    (edited.root / MODEL).write_bytes(first.SerializeToString() + loaded.SerializeToString())
    assert identity(edited, MODEL)["status"] == "unchanged"


def test_other_published_files_are_known_by_their_build(edited):
    found = identity(edited, ORT)
    assert (found["status"], found["recipe"]) == ("unchanged", "small") and found["built"]["revision"]
    shared = "build/small/model_package/model/onnx/model.onnx"
    assert identity(edited, shared)["status"] == "unchanged", "its weights lie among what variants share"

    config = edited.root / "build/small/ort/required_operators_and_types.config"
    config.unlink()
    assert identity(edited, ORT, code=1)["changes"] == [
        "ort/required_operators_and_types.config: No such file or directory, and it was built with this file"
    ]
    config.write_text("something else")
    assert identity(edited, ORT, code=1)["changes"] == [
        "ort/required_operators_and_types.config: not the file that was built with this one"
    ]
    (edited.root / ORT).write_bytes(b"damaged")
    assert identity(edited, ORT, code=1)["changes"] == ["model.ort: not the file that was built"]


def test_a_place_says_more_than_a_digest_and_an_empty_file_is_nobodys(edited, tmp_path):
    """A weight file of a target may be empty, and a disk that is full leaves empty files."""
    config = edited.root / "build/small/ort/required_operators_and_types.config"
    shutil.copy(config, edited.root / ORT)
    assert identity(edited, ORT, code=1)["changes"] == ["model.ort: not the file that was built"]

    told = json.loads(edited.read("build/small/provenance.json"))
    for one in told["subject"]:
        if one["name"] == "ort/model.ort":
            one["digest"]["sha256"] = hashlib.sha256(b"").hexdigest()
    edited.write("build/small/provenance.json", json.dumps(told))
    (edited.root / ORT).write_bytes(b"")
    assert identity(edited, ORT)["status"] == "unchanged", "an empty file was built there"
    (tmp_path / "empty").touch()
    assert identity(edited, tmp_path / "empty", code=1)["status"] == "not ours"
    (edited.root / MODEL).write_bytes(b"")
    found = identity(edited, MODEL, code=1)
    assert (found["recipe"], found["changes"]) == ("small", ["model.onnx: not the file that was built"])


def test_a_provenance_that_somebody_edited_is_no_traceback(edited):
    told = json.loads(edited.read("build/small/provenance.json"))
    for one in told["subject"]:
        one["annotations"] = {"model_sha256": [{}]}
    edited.write("build/small/provenance.json", json.dumps(told))

    assert identity(edited, MODEL)["status"] == "unchanged"


@pytest.mark.parametrize("key", ["onnxbuild.recipe", "onnxbuild.recipe_sha256"])
def test_what_a_stamp_says_of_the_recipe_is_held_against_the_build(edited, key):
    """Neither is part of the digest of a model."""
    loaded = onnx.load(edited.root / MODEL, load_external_data=False)
    next(one for one in loaded.metadata_props if one.key == key).value = "0" * 64
    (edited.root / MODEL).write_bytes(loaded.SerializeToString())

    found = identity(edited, MODEL, code=1)
    assert found["changes"] == ["model.onnx: its metadata of the recipe are not as they were written"]
    assert found["built"]["source"].endswith("build/small/provenance.json")


def test_what_is_written_beside_a_build_is_for_verify(built):
    for name in ("manifest.json", "provenance.json", "report.json", "report.md", "report.html"):
        ran = built.run("identify", f"build/small/{name}", code=2)
        assert f"build/small/{name}: written beside what was built, and no digest of it is kept" in ran.err
        verified = name.partition(".")[0] in ("manifest", "provenance")
        remedy = "onnxbuild verify small.yaml compares it with the build" if verified else "give a published file"
        assert f"hint: {remedy}" in ran.err
    assert identity(built, "build/small/bom.cdx.json")["status"] == "unchanged"


def test_of_many_files_verify_names_a_few(built):
    made = built.report("small")["artifacts"]
    (line,) = built.run("verify", "small.yaml").out.splitlines()

    assert line.startswith("✓ small: model.onnx (") and f" and {len(made) - 2} files more (" in line and len(line) < 160


def test_where_the_build_is_gone_the_store_tells_of_the_tools(edited):
    (edited.root / "build/small/provenance.json").unlink()
    told = identity(edited, MODEL)["built"]

    assert told["packages"]["onnxoptimizer"] and told["onnxbuild"] and told["source"].endswith("latest/small.json")
    assert (told["recipe"], told["started"], told["revision"]) == ("small.yaml", "", None)


def test_another_build_of_the_same_recipe_does_not_answer_for_it(edited, tmp_path):
    """The recipe names a file, which has other weights now."""
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copy(edited.root / "build/small" / name, tmp_path)
    (edited.root / "m.onnx").write_bytes(model(2))
    edited.run("run", "small.yaml")
    before, now = identity(edited, tmp_path / "model.onnx"), identity(edited, MODEL)

    assert before["recipe_sha256"] == now["recipe_sha256"] and before["sha256"] != now["sha256"]
    assert (before["status"], before["built"]) == ("unchanged", None)
    assert now["built"]["revision"]["changed"] is True


def test_files_that_are_not_ours(built, tmp_path):
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    (tmp_path / "cut.onnx").write_bytes((built.root / MODEL).read_bytes()[:-3])
    for file in (built.root / "m.onnx", *tmp_path.iterdir()):
        assert identity(built, file, code=1)["status"] == "not ours"
    assert (
        "not known as a file of ours: it names no recipe, and no build here lists it"
        in built.run("identify", "m.onnx", code=1).out
    )


def test_bad_input_is_refused(built):
    for file, fact in (("build", "Is a directory"), ("nothing", "No such file or directory")):
        ran = built.run("identify", file, code=2)
        assert ran.err == (
            f"{file}: {fact}\n    hint: give a published file, such as build/<name>/model.onnx\n1 problem.\n"
        )


def test_a_model_made_of_a_published_one_has_one_stamp_and_the_same_graph(edited):
    """Its source names the recipe that it is of, which is another one."""
    old = dict(notes(edited.root / MODEL))
    edited.write("next.yaml", edited.read("small.yaml").replace("name: small", "name: next").replace("m.onnx", MODEL))
    edited.run("run", "next.yaml")
    now = notes(edited.root / "build/next/model.onnx")

    assert sorted(key for key, _ in now) == sorted([*OURS, "licence"])
    assert dict(now)["onnxbuild.recipe"] == "next" and old["onnxbuild.recipe"] == "small"
    assert dict(now)["onnxbuild.model_sha256"] == old["onnxbuild.model_sha256"]
    first, second = (edited.report(name)["graphs"][-1]["graph_sha256"] for name in ("small", "next"))
    assert first == second
    assert edited.run("diff", MODEL, "build/next/model.onnx", code=None).out.count("metadata") == 0
    assert edited.run("identify", "build/next/model.onnx").code == 0
