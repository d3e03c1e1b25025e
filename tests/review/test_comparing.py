"""What is different between two locks, and what decides whether they are the same."""

from __future__ import annotations

import msgspec
import pytest
from samples import facts

from onnxbuild.errors import UserError
from onnxbuild.report.changes import Fact, Number, OpCount, Side
from onnxbuild.review import comparing, lockfile
from onnxbuild.review.facts import Error, Facts
from onnxbuild.review.sides import Read

replace = msgspec.structs.replace
FACTS = facts()


def side(facts: Facts, name: str = "a", recipe: str | None = None) -> Read:
    return Read(Side(name, "lock"), lockfile.of(facts), recipe=recipe)


def compared(**change):
    return comparing.compare(side(FACTS), side(replace(FACTS, **change), "b"))


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"ir_version": 11}, "model", [Fact("IR version", "10", "11")]),
        ({"opset_imports": {"ai.onnx": 19, "com.acme": 1}}, "model", [
            Fact("opset", "18", "19"), Fact("opset of com.acme", None, "1"),
        ]),
        ({"ops": {"Conv": 52, "Relu": 4, "Add": 1}}, "ops", [OpCount("Add", 0, 1), OpCount("Conv", 53, 52)]),
        ({"inputs": dict(reversed(FACTS.inputs.items()))}, "interface", [
            Fact("order of the inputs", "image, mask", "mask, image"),
        ]),
        ({"outputs": {"logits": "float32[batch, 4]"}}, "interface", [Fact("name of output 'scores'", "scores", "logits")]),
        ({"outputs": {"logits": "float32[batch, 5]"}}, "interface", [
            Fact("output 'logits'", None, "float32[batch, 5]"), Fact("output 'scores'", "float32[batch, 4]", None),
        ]),
        ({"dims": {"batch": "1..32"}}, "interface", [Fact("dimension batch", "1..64", "1..32")]),
        ({"graph_sha256": "00" * 32}, "files", [Fact("graph", "c3c3c3c3c3c3", "000000000000")]),
        ({"weights_sha256": "00" * 32}, "files", [Fact("weights", "d4d4d4d4d4d4", "000000000000")]),
        ({"files": {"model.onnx": FACTS.files["model.onnx"]}}, "files", [
            Fact("ort/model.ort", "f6f6f6f6f6f6, 6.00 kB", None),
        ]),
        ({"parity": {"onnx": {"scores": Error(2.4e-6, 3e-5, None)}}}, "parity", [
            Number("scores, largest error", 1.2e-6, 2.4e-6), Number("scores, of the tolerance", 0.004, None),
        ]),
        ({"bound": ["graph_sha256"]}, "not_compared", [
            "single nodes and weights, and latency: a lock file holds digests and counts",
        ]),
    ],
)  # fmt: skip
def test_each_difference_has_its_place(change, field, told):
    diff = compared(**change)

    assert getattr(diff, field) == told
    assert diff.same is (field == "not_compared")


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        ({"tools": {"onnx": "1.24.0", "torch": "2.13.0+cpu"}}, "inputs", [Fact("onnx", "1.23.2", "1.24.0")]),
        ({"sources": {}}, "inputs", [Fact("w.safetensors", "b2b2b2b2b2b2, 1.00 kB", None)]),
        ({"bytes": 5_030}, "sizes", [Number("size", 5000.0, 5030.0, "bytes")]),
    ],
)
def test_causes_and_sizes_are_told_and_decide_nothing(change, field, told):
    diff = compared(**change)

    assert getattr(diff, field) == told
    assert diff.same


def test_recipes_are_compared_by_their_lines():
    texts = ["version: 1\nname: net\n# old\n", "version: 1\nname: net\n# new\n"]
    diff = comparing.compare(side(FACTS, "a", texts[0]), side(FACTS, "b", texts[1]))

    assert diff.recipe == ["@@ -1,3 +1,3 @@", " version: 1", " name: net", "-# old", "+# new"]
    assert diff.same


def test_locks_of_different_platforms_are_compared_in_what_they_share():
    diff = compared(platform="macos-arm64", weights_sha256="00" * 32, ops={"Conv": 52, "Relu": 4})

    assert (diff.ops, diff.files) == ([OpCount("Conv", 53, 52)], [])
    assert diff.not_compared[0] == (
        "tools, weights, files and errors: of linux-x86_64-avx2 before, of macos-arm64 after"
    )


def test_where_both_have_several_platforms_each_is_named():
    other = replace(FACTS, platform="macos-arm64")
    sides = []
    for graph in ("c3" * 32, "00" * 32):
        lock = lockfile.of(replace(other, weights_sha256=graph), lockfile.of(FACTS))
        both = {**lockfile.of(FACTS).platforms, **lock.platforms}
        sides.append(Read(Side("x", "lock"), replace(lock, platforms=both)))

    assert [fact.subject for fact in comparing.compare(*sides).files] == ["weights on macos-arm64"]


def test_a_side_without_anything_to_compare_is_refused():
    bare = Read(Side("old", "build"), missing=("old was built by an older onnxbuild",))

    with pytest.raises(UserError) as refused:
        comparing.compare(side(FACTS), bare)
    assert str(refused.value) == (
        "a and old can't be compared: old was built by an older onnxbuild\n    hint: build what is not built, or lock it"
    )
