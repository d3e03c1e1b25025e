"""`onnxbuild explain`: why a stage would run, down to the recipe's line, and what its key is made of."""

from __future__ import annotations

import hashlib
import json

import jsonschema
import pytest
import several
from projects import tiny
from workspace import Workspace

from onnxbuild.commands import schema

PASSES = "optimize:\n  - onnxoptimizer: [eliminate_identity]\n  - onnxoptimizer: [eliminate_deadend]\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    workspace = Workspace.make(tmp_path_factory.mktemp("built") / "project")
    several.add(workspace, "a", PASSES)
    workspace.run("run", "a.yaml")
    return workspace


def line_of(workspace, text, name="a.yaml"):
    return next(number for number, line in enumerate(workspace.read(name).splitlines(), 1) if text in line)


def explained(workspace, *stage):
    return json.loads(workspace.run("explain", "a.yaml", *stage, "--json").out)


def canonical(document):
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("1e-05", "0.00001").encode()  # which of the two is canonical, no standard says


@pytest.mark.parametrize(
    ("old", "new", "stage", "field", "text"),
    [
        ("max: 4", "max: 6", "export", "export.dims.batch.max", "export.dims.batch.max: 4 -> 6"),
        ("[eliminate_deadend]", "[nop]", "optimize/2-onnxoptimizer", "optimize[1].onnxoptimizer", None),
        ("shape: [2, 4]", "shape: [3, 4]", "parity/export", "export.inputs.x.shape", None),
    ],
)
def test_the_line_of_the_recipe_that_changed_is_named(edited, old, new, stage, field, text):
    edited.replace("a.yaml", old, new)
    (one,) = explained(edited, stage)["stages"]
    (reason,) = [reason for reason in one["reasons"] if reason["field"] == field]

    assert one["state"] == "run" and reason["kind"] == "recipe" and (text or field) in reason["text"]
    assert reason["line"] == line_of(edited, new)
    assert f"a.yaml:{reason['line']}: {reason['text']}" in edited.run("explain", "a.yaml", stage).out


def test_several_changes_are_all_there_each_with_its_line(edited):
    edited.replace("a.yaml", "max: 4", "max: 6")
    edited.write("a.yaml", edited.read("a.yaml") + "parity: {seed: 3}\nruntime: {session: {intra_op_num_threads: 1}}\n")
    out = edited.run("explain", "a.yaml", "parity/export").out

    assert out.splitlines() == [
        "a: parity/export would run",
        f"  a.yaml:{line_of(edited, 'max: 6') - 1}: export.dims: cases batch=6, batch=5 new",
        f"  a.yaml:{line_of(edited, 'seed')}: parity.seed: 0 -> 3",
        f"  a.yaml:{line_of(edited, 'runtime')}: runtime.session.intra_op_num_threads: 0 -> 1",
        "  also if the stages before it give what they gave the last time",
    ]


def test_python_files_and_several_reasons_are_named(workspace):
    """With a torch model, once: the file that changed is one that the recipe does not name."""
    tiny(workspace).run("run", "tiny.yaml")
    workspace.replace("models/layers.py", "ReLU()", "GELU()")
    workspace.replace("tiny.yaml", "opset: 17", "opset: 16")
    one = json.loads(workspace.run("explain", "tiny.yaml", "export", "--json").out)["stages"][0]

    assert [(reason["kind"], reason["text"], reason["line"]) for reason in one["reasons"]] == [
        ("recipe", "export.opset: 17 -> 16", line_of(workspace, "opset", "tiny.yaml")),
        ("file", "models/layers.py changed", None),
    ]
    ran = workspace.run("run", "tiny.yaml")
    why = {stage["name"]: stage["why"] for stage in workspace.report("tiny")["stages"]}
    assert why["export"] == ["export.opset: 17 -> 16", "models/layers.py changed"], ran.text


@pytest.mark.parametrize("stage", ["export", "parity/1-onnxoptimizer", "package"])
def test_what_a_key_is_made_of_is_complete_and_is_what_is_hashed(built, stage):
    (one,) = explained(built, stage)["stages"]

    assert one["state"] == "up to date" and one["reasons"] == []
    assert hashlib.sha256(canonical(one["document"])).hexdigest() == one["key"] == one["last_key"]
    assert one["key"] == next(s["key"] for s in built.report("a")["stages"] if s["name"] == stage)
    groups = {ingredient["group"] for ingredient in one["ingredients"]}
    assert {"recipe", "input", "tools", "code"} <= groups
    for group in ("tools", "platform"):
        assert {i["name"]: i["value"] for i in one["ingredients"] if i["group"] == group} == one["document"][group]
    assert {i["name"]: i["value"] for i in one["ingredients"] if i["group"] == "discovered"} == one["discovered"]
    assert {i["value"] for i in one["ingredients"] if i["group"] == "input"} == set(one["document"]["inputs"].values())


def test_what_a_key_is_made_of_can_be_read(built):
    out = built.run("explain", "a.yaml", "export").out
    digest = hashlib.sha256((built.root / "a.onnx").read_bytes()).hexdigest()

    assert out.startswith("a: export is up to date\nkey ")
    assert f"  {line_of(built, 'opset'):4}  export.opset " in out
    assert "     -  export.dims.batch.multiple_of  1\n" in out, "a default has no line"
    assert f"  {digest[:12]}  model, from a.onnx\n" in out
    assert "numpy" in out and "cpython 3." in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_without_a_stage_every_stage_comes_in_short(edited):
    edited.replace("a.yaml", "[eliminate_deadend]", "[nop]")
    out = edited.run("explain", "a.yaml").out
    line = line_of(edited, "[nop]")

    assert out.splitlines()[:2] == ["a (a.yaml)", "  up to date  reference"]
    assert f"  run         optimize/2-onnxoptimizer  a.yaml:{line}: optimize[1].onnxoptimizer:\n" in out
    assert "  maybe       check/2-onnxoptimizer     depends on what" in out
    assert f"  run         package                   a.yaml:{line}: optimize[1].onnxoptimizer:\n" in out


def test_an_unknown_stage_is_refused_with_a_hint(built):
    assert built.run("explain", "a.yaml", "parity/exprt", code=2).err == (
        "a.yaml: no stage 'parity/exprt'\n    hint: did you mean 'parity/export'?\n1 problem.\n"
    )
    assert "known here: reference, export" in built.run("explain", "a.yaml", "zzz", code=2).err


def test_the_package_that_changed_is_named(edited):
    """Another version of a package comes first on the path, as after an installation."""
    edited.write("site/onnxoptimizer-99.0.dist-info/RECORD", "")
    edited.env["PYTHONPATH"] = str(edited.root / "site")
    (one,) = explained(edited, "optimize/1-onnxoptimizer")["stages"]

    (reason,) = [reason for reason in one["reasons"] if reason["text"].startswith("onnxoptimizer ")]
    assert reason["kind"] == "package" and reason["text"].endswith(" -> 99.0") and reason["new"] == "99.0"


def test_a_failed_parity_is_told_in_full(workspace):
    several.add(workspace, "a", text=several.REWRITTEN)
    workspace.run("run", "a.yaml", code=1)
    out = workspace.run("explain", "a.yaml", "parity/export").out

    assert out.startswith("a: parity/export fails\n  output 'y' is wrong at ")
    assert "introduced by export" in out and "key " in out


def test_json_has_the_published_shape(edited):
    edited.replace("a.yaml", "[eliminate_deadend]", "[nop]")

    jsonschema.validate(explained(edited), json.loads(schema.text("explain")))
