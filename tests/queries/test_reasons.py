"""Why a stage runs, in the recipe's words: every option of every kind of stage has its field there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from onnxbuild.plan.planner import plan
from onnxbuild.queries import reasons
from onnxbuild.recipe import yaml_reader
from onnxbuild.recipe.types import Recipe
from onnxbuild.store import keys

TEXT = """\
version: 1
name: all
model:
  pytorch: {factory: "m:f", kwargs: {width: 8, of: {one: 1, two: 2}}, checkpoint: {path: w.safetensors}}
export:
  inputs:
    x: {dtype: float32, shape: [2, 3], data: {npz: {path: x.npz}}}
    k: {dtype: int64, shape: [2]}
  outputs: [y]
  dynamic_axes: {x: {0: batch}, k: {0: batch}, y: {0: batch}}
  dims: {batch: {min: 1, max: 4}}
  arguments: {args: [x, {a: 1, b: 2}], kwargs: {k: k}}
symbolics:
  my::op: {decompose: "m:op"}
optimize:
  - onnxsim: {}
  - onnxoptimizer: [eliminate_identity, eliminate_deadend, fuse_bn_into_conv, eliminate_nop_pad]
parity:
  cases: {big: {dims: {batch: 3}, data: {k: {constant: 1}}}}
  allow_not_run: ["my::Op"]
runtime: {providers: [CPUExecutionProvider], session: {graph_optimization_level: basic}}
benchmark: {warmup: 1, runs: 5, dims: {batch: 2}}
package: {external_data: true}
"""


def recipe(text=TEXT):
    return msgspec.convert(yaml_reader.read(text).data, Recipe)


def stages(text=TEXT):
    return {stage.name: stage for stage in plan(recipe(text), Path()).stages}


def document(stage, **inputs):
    return keys.document(stage.kind, stage.version, stage.options, inputs, {}, {})


def changed(old, new):
    """The reasons of every stage that one edit of the recipe gives a reason to run, by stage."""
    assert TEXT.count(old) == 1, old
    before, after = stages(), stages(TEXT.replace(old, new))
    found = {}
    for name, stage in after.items():
        if name in before:
            why = reasons.of_documents(stage, document(before[name]), document(stage))
            assert bool(why) == (keys.key_of(document(before[name])) != keys.key_of(document(stage)))
            if why:
                found[name] = [reason.text for reason in why]
    return found


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path


def test_every_option_of_every_stage_comes_from_a_field_of_the_recipe():
    for stage in stages().values():
        for path in leaves(stage.options):
            part = msgspec.to_builtins(recipe())
            for step in reasons.field(stage, path):
                part = part[step]  # a field by the name of the type, whether the text has it or it is the default
            assert reasons.field(stage, path), (stage.name, path)


@pytest.mark.parametrize(
    ("old", "new", "stage", "reason"),
    [
        ("width: 8", "width: 9", "export", "model.pytorch.kwargs.width: 8 -> 9"),
        ("width: 8", "width: 9", "reference", "model.pytorch.kwargs.width: 8 -> 9"),
        ("max: 4", "max: 5", "export", "export.dims.batch.max: 4 -> 5"),
        ("max: 4", "max: 5", "parity/1-onnxsim", "export.dims: case batch=5 new"),
        ("outputs: [y]", "outputs: [z]", "check/export", 'export.outputs: ["y"] -> ["z"]'),
        ("shape: [2, 3]", "shape: [2, 5]", "check/export", "export.inputs.x.shape: [2,3] -> [2,5]"),
        ("shape: [2, 3]", "shape: [2, 5]", "parity/export", "export.inputs.x.shape: [2,3] -> [2,5]"),
        ("shape: [2, 3]", "shape: [2, 5]", "benchmark", "export.inputs.x.shape: [2,3] -> [2,5]"),
        ("args: [x, {a: 1", "args: [k, {a: 1", "reference", "export.arguments.args[0]: x -> k"),
        ('"m:op"', '"m:other"', "export", "symbolics.my::op.decompose: m:op -> m:other"),
        (
            "onnxsim: {}",
            "onnxsim: {skip_fuse_bn: true}",
            "optimize/1-onnxsim",
            "optimize[0].onnxsim.skip_fuse_bn: false -> true",
        ),
        (
            "[eliminate_identity, eliminate_deadend,",
            "[eliminate_nop_cast, eliminate_deadend,",
            "optimize/2-onnxoptimizer",
            "optimize[1].onnxoptimizer: now without eliminate_identity and with eliminate_nop_cast",
        ),
        (
            "[eliminate_identity, eliminate_deadend,",
            "[eliminate_deadend, eliminate_identity,",
            "optimize/2-onnxoptimizer",
            "optimize[1].onnxoptimizer: in another order",
        ),
        ("{batch: 3}", "{batch: 1}", "parity/export", "parity.cases.big.dims.batch: 3 -> 1"),
        ("constant: 1", "constant: 2", "reference", "parity.cases.big.data.k.constant: 1 -> 2"),
        ("big:", "large:", "reference", "parity.cases.big is gone"),
        ("parity:\n", "parity:\n  seed: 3\n", "benchmark", "parity.seed: 0 -> 3"),
        ('["my::Op"]', "[]", "parity/export", 'parity.allow_not_run: ["my::Op"] -> []'),
        ("level: basic", "level: all", "parity/export", "runtime.session.graph_optimization_level: basic -> all"),
        ("level: basic", "level: all", "benchmark", "runtime.session.graph_optimization_level: basic -> all"),
        ("warmup: 1", "warmup: 2", "benchmark", "benchmark.warmup: 1 -> 2"),
        ("runs: 5", "runs: 6", "benchmark", "benchmark.runs: 5 -> 6"),
        ("dims: {batch: 2}", "dims: {batch: 4}", "benchmark", "benchmark.dims.batch: 2 -> 4"),
        ("external_data: true", "external_data: false", "package", "package.external_data: true -> false"),
    ],
)
def test_a_change_is_told_by_the_recipes_own_name(old, new, stage, reason):
    assert reason in changed(old, new)[stage]


def test_a_tolerance_is_a_reason_for_the_package_alone():
    found = changed("parity:\n", "parity:\n  rtol: 1.0e-2\n  reason: r\n")
    assert found == {"package": ["parity.reason:  -> r", "parity.rtol: 0.001 -> 0.01"]}


def test_a_size_that_changes_is_not_told_again_by_all_that_follows_from_it():
    assert changed("shape: [2, 3]", "shape: [2, 5]")["parity/export"] == ["export.inputs.x.shape: [2,3] -> [2,5]"]
    assert changed("dims: {batch: 2}", "dims: {batch: 4}")["benchmark"] == ["benchmark.dims.batch: 2 -> 4"]


def test_several_reasons_come_with_the_most_telling_first():
    stage = stages()["export"]
    old = keys.document("export", "1", stage.options, {"checkpoint": "aa"}, {"torch": "2.12.0"}, {"python": "3.11"})
    options = {**stage.options, "symbolics": {}}
    new = keys.document("export", "2", options, {"checkpoint": "bb"}, {"torch": "2.13.0"}, {"python": "3.12"})

    assert [(reason.kind, reason.text) for reason in reasons.of_documents(stage, old, new)] == [
        ("recipe", 'symbolics.my::op: {"decompose":"m:op"} -> none'),
        ("file", "w.safetensors changed"),
        ("code", "onnxbuild's code of this stage changed"),
        ("package", "torch 2.12.0 -> 2.13.0"),
        ("platform", "platform python: 3.11 -> 3.12"),
    ]


def test_a_graph_from_the_stage_before_is_an_input():
    stage = stages()["optimize/1-onnxsim"]
    (only,) = reasons.of_documents(stage, document(stage, graph="aa"), document(stage, graph="bb"))

    assert (only.kind, only.text, only.old, only.new) == ("input", "input graph changed", "aa", "bb")


def test_a_file_of_data_that_is_used_no_more_goes_by_its_name():
    stage = stages()["reference"]
    (only,) = reasons.of_documents(stage, document(stage, **{"data:old.npz": "aa"}), document(stage))

    assert (only.kind, only.text) == ("file", "old.npz is used no more")


def test_what_was_discovered_and_changed_is_told_file_by_file():
    before = {"file:models/b.py": "1", "file:models/a.py": "2", "dist:torch 2.12.0": "3", "file:same.py": "4"}
    today = {
        **before,
        "file:models/b.py": "9",
        "file:models/a.py": "absent",
        "dist:torch 2.12.0": "absent, 2.13.0 is installed",
    }

    assert [(reason.kind, reason.text) for reason in reasons.of_discovered(before, today)] == [
        ("file", "models/a.py is gone"),
        ("file", "models/b.py changed"),
        ("package", "torch 2.12.0 -> 2.13.0"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "field", "ran", "text"),
    [
        (
            "    x: {dtype: float32, shape: [2, 3], data: {npz: {path: x.npz}}}\n    k: {dtype: int64, shape: [2]}\n",
            "    k: {dtype: int64, shape: [2]}\n    x: {dtype: float32, shape: [2, 3], data: {npz: {path: x.npz}}}\n",
            ("export", "inputs"),
            {"export", "reference", "check/export", "check/1-onnxsim", "check/2-onnxoptimizer"},
            "export.inputs: the order changed, x, k -> k, x",
        ),
        (
            "{one: 1, two: 2}",
            "{two: 2, one: 1}",
            ("model", "pytorch", "kwargs", "of"),
            {"export", "reference"},
            "model.pytorch.kwargs.of: the order changed, one, two -> two, one",
        ),
        (
            "{a: 1, b: 2}",
            "{b: 2, a: 1}",
            ("export", "arguments", "args", 1),
            {"export", "reference"},
            "export.arguments.args[1]: the order changed, a, b -> b, a",
        ),
    ],
)
def test_an_order_that_reaches_the_models_code_is_a_reason(old, new, field, ran, text):
    found, stage = changed(old, new), stages()["export"]

    assert set(found) == ran
    assert all(why == [text] for why in found.values())
    assert [reasons.field(stage, ("order", order)) for order in stage.options["order"]].count(field) == 1


def test_a_document_without_an_order_is_of_earlier_code():
    stage = stages()["export"]
    old = document(stage)
    old["options"] = {name: value for name, value in old["options"].items() if name != "order"}

    assert [reason.kind for reason in reasons.of_documents(stage, old, document(stage))] == ["code"]


def test_an_input_that_is_new_is_not_told_of_as_another_order():
    found = changed("    k: {dtype", "    new: {dtype: int64, shape: [2]}\n    k: {dtype")

    assert not any("order" in text for why in found.values() for text in why)


# What steps and names that are given anew bring about, in nearly all that a stage is told

SMALL = """\
version: 1
name: small
model: {onnx: {path: m.onnx}}
export:
  opset: 17
  inputs: {x: {dtype: float32, shape: [2, 3]}, k: {dtype: int64, shape: [2]}}
  outputs: [z]
  dynamic_axes: {x: {0: N}, k: {0: N}, z: {0: N}}
  dims: {N: {min: 1, max: 4}}
parity: {cases: {big: {dims: {N: 3}}}}
"""
RENAMED = (
    SMALL
    + """\
optimize:
  - rename: {inputs: {x: pixels}, outputs: {z: scores}, dims: {N: batch}}
  - onnxsim: {}
"""
).replace("big: {dims: {N: 3}}", "big: {dims: {batch: 3}}")
STEPS = (
    SMALL
    + """\
prepend:
  x: {name: raw, dtype: uint8, shape: [2, 3], dynamic_axes: {0: N}, steps: [{cast: float32}]}
append:
  z: {dtype: float32, shape: [2, 5], outputs: [best], keep: true, steps: [{argmax: {axis: 1}}]}
"""
)


def told(before, after):
    """The sentences of each stage that both recipes have, of those that are to run again."""
    old, new = stages(before), stages(after)
    pairs = [(old[name], stage) for name, stage in new.items() if name in old]
    found = {}
    for was, stage in pairs:
        why = reasons.of_documents(stage, document(was), document(stage))
        assert bool(why) == (keys.key_of(document(was)) != keys.key_of(document(stage)))
        found[stage.name] = [reason.text for reason in why]
    return {name: texts for name, texts in found.items() if texts and name != "package"}


def test_of_names_that_a_rename_gives_nothing_but_the_rename_is_told():
    whole = '{"inputs":{"x":"pixels"},"outputs":{"z":"scores"},"dims":...'
    only = [f"optimize[0].rename: none -> {whole}"]
    assert told(SMALL, RENAMED) == {"reference": only, "parity/export": only}
    back = [f"optimize[0].rename: {whole} -> none"]
    assert told(RENAMED, SMALL) == {"reference": back, "parity/export": back}
    other = RENAMED.replace("pixels", "image").replace("shape: [2, 3]", "shape: [2, 5]")
    size = "export.inputs.x.shape: [2,3] -> [2,5]"
    found = told(SMALL, other)
    assert found["reference"] == [size, only[0].replace("pixels", "image").replace('dims":...', 'dims":{...')]
    assert found["check/export"] == [size]


def test_a_name_that_a_rename_gives_is_told_at_its_place_where_no_more_is_known():
    found = told(RENAMED, RENAMED.replace("pixels", "image").replace("batch", "items"))
    steps = ["optimize[0].rename.dims.N: batch -> items", "optimize[0].rename.inputs.x: pixels -> image"]
    assert found["reference"] == found["parity/export"] == found["optimize/1-rename"] == steps
    now = ["optimize[0].rename.dims.N: now items", "optimize[0].rename.inputs.x: now image"]
    assert found["check/1-rename"] == found["check/2-onnxsim"] == now
    case = ["parity.cases.big.dims.batch: 3 -> none", "parity.cases.big.dims.items: none -> 3"]
    assert found["parity/1-rename"] == [now[1], *case]
    size = told(RENAMED, RENAMED.replace("shape: [2, 3]", "shape: [2, 5]"))
    swapped = RENAMED.replace("x: pixels", "x: k, k: x")
    size = told(swapped, swapped.replace("x: {dtype: float32, shape: [2, 3]}", "x: {dtype: float32, shape: [2, 5]}"))
    assert size["check/2-onnxsim"] == ["export.inputs.x.shape: [2,3] -> [2,5]"]
    size = told(RENAMED, RENAMED.replace("shape: [2, 3]", "shape: [2, 5]"))
    assert size["check/2-onnxsim"] == ["export.inputs.x.shape: [2,3] -> [2,5]"]


def test_of_steps_nothing_but_the_steps_is_told():
    found = told(SMALL, STEPS)
    assert found.keys() == {"reference", "parity/export"}
    for texts in found.values():
        assert [text.partition(": none -> ")[0] for text in texts] == ["append", "prepend"], texts
    dtype = told(STEPS.replace("uint8", "int8"), STEPS.replace("uint8", "int16"))
    assert dtype["reference"] == ["prepend.x.dtype: int8 -> int16"]
    size = told(STEPS, STEPS.replace("dtype: uint8, shape: [2, 3]", "dtype: uint8, shape: [3, 3]"))
    assert size["reference"] == ["prepend.x.shape: [2,3] -> [3,3]"]
    fed = STEPS.partition("append:")[0]
    output = told(fed, fed.replace("outputs: [z]", "outputs: [w]").replace("z: {0: N}", "w: {0: N}"))
    assert 'export.outputs: ["z"] -> ["w"]' in output["reference"]
    assert 'export.outputs: ["z"] -> ["w"]' in output["check/attach"]


@pytest.mark.parametrize("cases", [[{"dims": {"batch": 2}, "shapes": {}}], [1], None, {"example": {}}])
def test_a_document_of_an_earlier_form_is_put_down_to_our_code(cases):
    """A store lives longer than a version: cases had no names once."""
    stage = stages()["parity/export"]
    old = document(stage)
    old["options"] = {**old["options"], "cases": cases}
    (reason,) = reasons.of_documents(stage, old, document(stage))
    assert (reason.kind, reason.text) == ("code", "onnxbuild's code of this stage changed")
