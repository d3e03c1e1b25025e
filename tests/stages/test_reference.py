from __future__ import annotations

import numpy as np
import pytest

from onnxbuild.errors import StageError
from onnxbuild.parity import arrays


def f32(*shape):
    return {"dtype": "float32", "shape": list(shape)}


def case(name, **shapes):
    return {"name": name, "dims": {"n": 1}, "shapes": shapes, "data": {}}


def outputs(model, outcome):
    return arrays.read(model.objects / outcome.outputs["reference"])


def test_outputs_of_every_case_are_kept_with_what_went_in(torch_model):
    model = torch_model("nets:Half", {"x": f32(2, 3)}, ["y"])

    outcome = model.reference(case("a", x=[2, 3]), case("b", x=[5, 3]))

    kept = outputs(model, outcome)
    assert sorted(name for name in kept if name.startswith(("a/", "b/"))) == ["a/y", "b/y"]
    assert kept["b/y"].shape == (5, 3)
    first = outcome.facts["cases"][0]
    assert first["name"] == "a"
    assert first["dims"] == {"n": 1}
    assert first["outputs"] == {"y": {"dtype": "float32", "shape": [2, 3]}}
    assert first["inputs"]["x"]["shape"] == [2, 3]
    assert len(first["inputs"]["x"]["sha256"]) == 64
    assert outcome.facts["vacuous"] == {}
    assert outcome.objects == [outcome.outputs["reference"]]


def test_the_same_model_and_seed_give_the_same_bytes(torch_model):
    refs = {
        torch_model("nets:Conv", {"x": f32(2, 3, 8, 8)}, ["y"], source={"seed": seed})
        .reference(case("a", x=[2, 3, 8, 8]))
        .outputs["reference"]
        for seed in (3, 3, 4)
    }

    assert len(refs) == 2


def test_the_model_is_in_eval_mode(torch_model):
    model = torch_model("nets:Conv", {"x": f32(2, 3, 8, 8)}, ["y"])

    first, second = (outputs(model, model.reference(case("a", x=[2, 3, 8, 8])))["a/y"] for _ in range(2))

    np.testing.assert_array_equal(first, second)


def test_bfloat16_goes_in_and_out(torch_model):
    model = torch_model("nets:Half", {"x": {"dtype": "bfloat16", "shape": [2, 3]}}, ["y"])

    outcome = model.reference(case("a", x=[2, 3]))

    assert outcome.facts["cases"][0]["outputs"]["y"]["dtype"] == "bfloat16"
    assert outputs(model, outcome)["a/y"].dtype.name == "bfloat16"


def test_outputs_that_prove_nothing_are_named(torch_model):
    model = torch_model("nets:Hollow", {"x": f32(2, 3)}, ["zero", "nan", "none", "y"])

    found = model.reference(case("a", x=[2, 3]), case("b", x=[5, 3])).facts["vacuous"]

    assert list(found) == ["zero", "nan", "none"]
    assert "though the inputs vary" in found["zero"]
    assert "NaN" in found["nan"]
    assert "empty" in found["none"]


def test_a_model_that_fails_at_some_sizes_says_which(torch_model):
    model = torch_model("nets:Positions", {"x": f32(2, 4, 4)}, ["y"])

    with pytest.raises(StageError) as caught:
        model.reference(case("length=4", x=[2, 4, 4]), case("length=7", x=[2, 7, 4]), case("length=9", x=[2, 9, 4]))

    assert caught.value.fact.startswith("the model itself fails at length=7; length=9: at nets.py:")
    assert "IndexError" in caught.value.fact
    assert "it works at length=4" in caught.value.hint


def test_a_model_that_always_fails_shows_its_error(torch_model):
    with pytest.raises(StageError, match="RuntimeError: not today"):
        torch_model("nets:Breaks", {"x": f32(2)}, ["y"]).reference(case("a", x=[2]))


@pytest.mark.parametrize(("factory", "names"), [("nets:Dataclass", ["logits"]), ("nets:Named", ["high", "low"])])
def test_outputs_by_the_name_of_a_field(torch_model, factory, names):
    model = torch_model(factory, {"x": f32(2)}, names)

    kept = outputs(model, model.reference(case("a", x=[2])))

    assert sorted(name for name in kept if name.startswith("a/")) == [f"a/{name}" for name in names]
    if factory == "nets:Named":
        assert (kept["a/high"] > kept["a/low"]).all()
