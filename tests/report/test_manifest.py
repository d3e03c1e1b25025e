"""manifest.json: what whoever deploys a build goes by."""

from __future__ import annotations

import hashlib
import json

import jsonschema
import msgspec
import pytest
from samples import resnet50, scored
from small import small
from workspace import Workspace

from onnxbuild import report as reports
from onnxbuild.commands import schema
from onnxbuild.report.manifest import Manifest
from onnxbuild.report.types import Target

ORT = "targets: {ort: {optimization_level: basic}}\n"


def project(folder, text: str = ORT) -> Workspace:
    made = small(Workspace.make(folder))
    made.write("small.yaml", made.read("small.yaml") + text)
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = project(tmp_path_factory.mktemp("manifest") / "project")
    made.run("run", "small.yaml")
    return made


def manifest(workspace: Workspace) -> dict:
    return json.loads(workspace.read("build/small/manifest.json"))


def there(workspace: Workspace) -> bool:
    return (workspace.root / "build/small/manifest.json").exists()


def test_it_lists_every_file_with_its_digest_contract_and_verdict(built):
    told, folder = manifest(built), built.root / "build/small"
    jsonschema.Draft202012Validator(msgspec.json.schema(Manifest)).validate(told)

    model, ort = told["targets"]
    assert [file["path"] for file in model["files"]] == ["model.onnx", "model.onnx.data"]
    assert [file["path"] for file in ort["files"]] == ["ort/model.ort", "ort/required_operators_and_types.config"]
    for file in (*model["files"], *ort["files"]):
        content = (folder / file["path"]).read_bytes()
        assert (file["sha256"], file["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (model["target"], model["runtime"], model["load"]) == ("onnx", "onnxruntime", "model.onnx")
    assert (ort["target"], ort["runtime"], ort["load"]) == ("ort", "onnxruntime", "ort/model.ort")
    assert (model["precision"], ort["precision"]) == ("float32", "float32")
    assert ort["options"] == {"optimization_level": "basic"}
    assert told["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", 16]}]
    assert told["outputs"] == [{"name": "y", "dtype": "float32", "shape": ["N", 32]}]
    assert told["sizes"] == {"N": [1, 2, 3]}
    for proof in (model["parity"], ort["parity"]):
        assert (proof["verdict"], proof["level"], len(proof["cases"])) == ("passed", "run", 4)
        assert proof["tolerances"] == {"y": {"rtol": 1e-3, "atol": 1e-5}}


def test_equal_builds_have_equal_bytes(built, tmp_path):
    other = project(tmp_path / "somewhere/else")
    other.run("run", "-j", "1", "small.yaml")

    assert other.read("build/small/manifest.json") == built.read("build/small/manifest.json")


def test_with_nothing_to_do_it_stays_and_one_that_was_lost_or_edited_comes_back(edited):
    path = edited.root / "build/small/manifest.json"
    before, content = path.stat(), path.read_bytes()
    edited.run("run", "small.yaml")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    for spoil in (path.unlink, lambda: path.write_bytes(content.replace(b"passed", b"failed"))):
        spoil()
        assert "manifest.json" in edited.run("verify", "small.yaml", code=1).out
        edited.run("run", "small.yaml")
        assert path.read_bytes() == content
        assert edited.built("small") == set()
    edited.run("verify", "small.yaml")


def test_it_follows_the_tolerances_which_are_in_no_key_of_what_they_judge(edited):
    edited.write("small.yaml", edited.read("small.yaml") + "parity: {rtol: 1.0e-2, reason: rounding}\n")
    edited.run("run", "small.yaml")
    assert edited.built("small") == {"package"}
    assert manifest(edited)["targets"][0]["parity"]["tolerances"] == {
        "y": {"rtol": 1e-2, "atol": 1e-5, "reason": "rounding"}
    }


def test_a_build_that_failed_has_none(edited):
    edited.replace("small.yaml", "shape: [2, 16]", "shape: [2, 8]")
    edited.run("run", "small.yaml", code=1)
    assert (edited.root / "build/small/model.onnx").exists()  # of the build before, which nothing vouches for now
    assert not there(edited)

    edited.replace("small.yaml", "shape: [2, 8]", "shape: [2, 16]")
    edited.run("run", "small.yaml")
    assert edited.built("small") == set()
    assert there(edited)


def test_one_that_died_while_it_published_has_none(edited):
    edited.replace("small.yaml", "external_data: true", "external_data: false")
    edited.env["ONNXBUILD_FAILPOINT"] = "package.moved"
    edited.run("run", "small.yaml", code=1)
    assert (edited.root / "build/small/model.onnx").exists()
    assert not there(edited)

    del edited.env["ONNXBUILD_FAILPOINT"]
    edited.run("run", "small.yaml")
    assert [file["path"] for file in manifest(edited)["targets"][0]["files"]] == ["model.onnx"]


def test_what_was_not_run_or_not_built_is_said():
    made = Target("coreml", "target/coreml", "built, not run", [], "no macOS", options={"compute_precision": "float16"})
    left = Target("openvino", "target/openvino", "skipped", [], "openvino is not installed")
    told = reports.manifest.of(msgspec.structs.replace(resnet50(), targets=[made, left]))

    _, first, second = told.targets
    assert (first.precision, first.parity.verdict, first.parity.level) == ("float16", "not run", "built, not run")
    assert (second.load, second.parity.level, second.parity.why) == ("", "skipped", "openvino is not installed")
    for status in ("failed", "interrupted"):
        assert reports.manifest.of(msgspec.structs.replace(resnet50(), status=status)) is None


def test_what_a_metric_came_to_is_told_of_each_file_that_it_was_made_of():
    made = Target("ort", "target/ort", "run", [], runtime="onnxruntime")
    done = scored()
    of_target = msgspec.structs.replace(done.scores[-1], of="target/ort", value=0.75, drop=0.0113)
    told = reports.manifest.of(msgspec.structs.replace(done, targets=[made], scores=[*done.scores, of_target]))
    jsonschema.validate(json.loads(reports.manifest.to_json(told)), json.loads(schema.text("manifest")))

    model, ort = (msgspec.to_builtins(one.metric) for one in told.targets)
    assert model == {
        "function": "evaluation.metrics:top_1_accuracy_of_the_validation_set", "value": 0.7587, "source_model": 0.7613,
        "drop": 0.0026, "max_drop": 0.01, "higher_is_better": True, "samples": 500,
    }  # fmt: skip
    assert (ort["value"], ort["drop"]) == (0.75, 0.0113)
    assert [one.metric for one in reports.manifest.of(resnet50()).targets] == [None]
