from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict

import pytest
import torch

from onnxbuild.errors import StageError
from onnxbuild.sources.pytorch import dynamo
from onnxbuild.sources.pytorch.adapter import Adapter, describe, flatten, select

A, B = torch.ones(1), torch.zeros(2)


@dataclasses.dataclass
class Result:
    low: torch.Tensor
    rest: tuple[torch.Tensor, ...]
    loss: None = None


@pytest.mark.parametrize(
    ("result", "paths"),
    [
        (A, [""]),
        ((A, (B, [A])), ["0", "1.0", "1.1.0"]),
        (OrderedDict(x=A, y={"z": B}), ["x", "y.z"]),
        (Result(A, (B,)), ["low", "rest.0"]),
        (torch.return_types.max((A, B)), ["0", "1"]),
    ],
)
def test_paths_of_nested_results(result, paths):
    assert [path for path, _ in flatten(result)] == paths


def test_outputs_are_taken_by_name_before_order():
    assert select({"a": A, "b": B}, ["b", "a"]) == (B, A)
    assert select({"a": A, "b": B}, ["b"]) == (B,)
    assert select({"a": A, "b": B}, ["x", "y"]) == (A, B)


def test_outputs_that_do_not_fit():
    with pytest.raises(StageError, match=r"declares 1 output \(y\), the model returns 2 outputs: 0, 1"):
        select((A, B), ["y"])
    with pytest.raises(StageError, match="output 'y' of the model is no tensor but float"):
        select((0.5,), ["y"])
    assert describe(A) == "one unnamed tensor"


class Model(torch.nn.Module):
    def forward(self, first, second=None, *, flag=False):
        return first, second[0] if isinstance(second, list) else second, torch.tensor(flag)


def call(inputs, arguments=None):
    tensors = [torch.full((1,), float(i)) for i in range(len(inputs))]
    return [t.item() for t in Adapter(Model(), inputs, ["a", "b", "c"], arguments)(*tensors)]


def test_inputs_go_by_keyword_where_all_are_parameters_else_in_order():
    assert call(["second", "first"]) == [1, 0, False]
    assert call(["x", "y"]) == [0, 1, False]


def test_the_name_of_all_the_rest_is_no_keyword():
    class Rest(torch.nn.Module):
        def forward(self, *inputs, **kwargs):
            return inputs[0], torch.tensor(float(len(inputs) + 10 * len(kwargs)))

    for names in (["inputs"], ["inputs", "kwargs"]):
        first, count = Adapter(Rest(), names, ["a", "b"])(*(torch.ones(1) for _ in names))
        assert (first.item(), count.item()) == (1, len(names))


def test_arguments_place_inputs_and_constants():
    assert call(["x", "y"], {"args": ["y"], "kwargs": {"second": ["x"], "flag": True}}) == [1, 0, True]


def test_arguments_that_do_not_fit():
    with pytest.raises(StageError, match="uses no input named y"):
        call(["x", "y"], {"args": ["x"]})
    with pytest.raises(StageError, match=r"forward\(first, second=None, \*, flag=False\) can't be called"):
        call(["x", "y", "z"])


def test_doubles_become_tensors_of_their_own():
    class Same(torch.nn.Module):
        def forward(self, x):
            return x, x

    x = torch.ones(2)
    first, second = Adapter(Same(), ["x"], ["a", "b"])(x)

    assert first is not x
    assert first is not second


class Bert(torch.nn.Module):
    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        return (input_ids,)


class Rest(torch.nn.Module):
    def forward(self, first, *rest, mask=None):
        return (first,)


class Positional(torch.nn.Module):
    def forward(self, first, /, second=None):
        return (first,)


@pytest.mark.parametrize(
    ("model", "names", "astray", "hint"),
    [
        (Bert, ["input_ids", "tokn_type_ids"], "tokn_type_ids", "did you mean token_type_ids?"),
        (Bert, ["input_ids", "mask"], "mask", "in order only where no input is named as a parameter"),
        (Bert, ["mask", "input_ids"], "mask", "in order only where"),
        (Bert, ["inpt_ids", "tokn_type_ids"], "tokn_type_ids", "did you mean token_type_ids?"),  # no name is right
        (Bert, ["tokn_type_ids"], "tokn_type_ids", "did you mean token_type_ids?"),
        (Rest, ["first", "msk"], "msk", "did you mean mask?"),
        (Rest, ["a", "first"], "a", "in order only where"),
        (Positional, ["second", "first"], "", "say in export.arguments how"),
    ],
)
def test_a_name_that_is_nearly_a_parameter_does_not_go_to_another(model, names, astray, hint):
    with pytest.raises(StageError, match=f"has no parameter {astray}" if astray else "not by name") as caught:
        Adapter(model(), names, ["y"])
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("model", "names", "kwargs"),
    [
        (Bert, ["token_type_ids", "input_ids"], True),
        (Bert, ["ids", "types"], False),
        (Bert, ["inpt_ids", "atention_mask"], False),  # where they go is what they nearly say
        (Rest, ["first", "a", "b"], False),
        (Rest, ["a", "b"], False),
        (Rest, ["first", "mask"], True),
        (Positional, ["first", "second"], False),
    ],
)
def test_inputs_that_go_where_they_say(model, names, kwargs):
    assert Adapter(model(), names, ["y"]).call == (([], {name: name for name in names}) if kwargs else (names, {}))


def test_inputs_in_the_order_of_a_traced_model():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Bert(), (A, A))
    assert Adapter(traced, ["x", "y"], ["z"]).call == (["x", "y"], {})


@pytest.mark.parametrize(
    ("result", "names", "astray", "hint"),
    [
        ({"hidden": A, "pooled": B}, ["pooled", "hiden"], "hiden", "did you mean hidden?"),
        ({"hidden": A, "pooled": B}, ["hidden", "second"], "second", "in order only where none is named so"),
        ({"hidden": A, "pooled": B, "loss": A}, ["pooled", "hiden"], "hiden", "did you mean hidden?"),
        ({"hidden": A, "pooled": B}, ["poled", "hiden"], "poled, hiden", "did you mean pooled, hidden?"),
        (Result(A, (B,)), ["rest", "low"], "rest", "did you mean rest.0?"),
    ],
)
def test_a_name_that_is_nearly_an_output_is_not_another(result, names, astray, hint):
    with pytest.raises(StageError, match=f"the model returns no {astray}; it returns [23] outputs") as caught:
        select(result, names)
    assert hint in caught.value.hint


def test_unnamed_outputs_take_the_names_that_are_left():
    result = {"logits": A, "past": (A, B)}
    assert select(result, ["logits", "key", "value"]) == (A, A, B)
    with pytest.raises(StageError, match="returns no key"):
        select(result, ["key", "logits", "value"])


def test_names_in_the_order_of_a_mapping_are_told():
    notes = []
    select({"a": A, "b": B}, ["x", "y"], notes.append)
    assert notes == ["the model names its outputs otherwise: in order, x is a, y is b"]
    for result, names in (
        ({"a": A, "b": B}, ["b", "a"]),
        ((A, B), ["x", "y"]),
        ({"a": A}, ["x"]),
        ({"a": (A, B)}, ["x", "y"]),
    ):
        quiet = []
        select(result, names, quiet.append)
        assert quiet == []


@pytest.mark.parametrize("names", [["x", "y"], ["b", "a"]])
def test_torchdynamo_traces_it_too(names):
    """torch.export's second way, which it takes where the first one fails."""

    class Mapping(torch.nn.Module):
        def forward(self, x):
            return {"a": x * 2, "b": x * 3}

    dynamo.make_traceable()
    program = torch.export.export(Adapter(Mapping(), ["x"], names, None, [].append), (A,), strict=True)
    assert [tensor.item() for tensor in program.module()(A)] == ([2, 3] if names[0] == "x" else [3, 2])


class Registered:
    def __init__(self, first, second):
        self.first, self.second = first, second


class Unkeyed(Registered):
    pass


def test_a_class_that_is_registered_with_torchs_pytree_has_its_parts_as_outputs():
    from torch.utils import _pytree as pytree

    for kind, keys in ((Registered, (pytree.GetAttrKey("first"), pytree.MappingKey("b"))), (Unkeyed, None)):
        with_keys = (
            None if keys is None else lambda p, keys=keys: ([*zip(keys, (p.first, p.second), strict=True)], None)
        )
        pytree.register_pytree_node(
            kind,
            lambda p: ([p.first, p.second], None),
            lambda v, _, kind=kind: kind(*v),
            flatten_with_keys_fn=with_keys,
            serialized_type_name=f"test.{kind.__name__}",
        )
    one, two = torch.ones(1), torch.ones(2)

    assert [path for path, _ in flatten(Registered(one, [two]))] == ["first", "b.0"]
    assert select(Registered(one, two), ["b", "first"]) == (two, one)
    assert select((Unkeyed(one, two),), ["p", "q"]) == (one, two)
    assert describe(Unkeyed(one, two)) == "2 outputs: 0, 1"


def test_whole_numbers_and_truth_values_are_outputs_without_axes():
    n, big, _ = select((3, True, torch.ones(1)), ["n", "big", "y"])

    assert (n.dtype, n.shape, int(n)) == (torch.int64, (), 3)
    assert (big.dtype, bool(big)) == (torch.bool, True)
    with pytest.raises(StageError, match="output 'y' of the model is no tensor but float"):
        select(1.5, ["y"])


class Keyed(torch.nn.Module):
    def forward(self, a, b=None, *, c):
        return a - b * c


def test_a_program_that_torch_export_made_is_called_as_it_was_captured():
    numbers = [torch.full((2,), value) for value in (10.0, 3.0, 2.0)]
    program = torch.export.export(Keyed(), (numbers[0],), {"b": numbers[1], "c": numbers[2]})
    adapted = Adapter(program.module(), ["c", "b", "a"], ["y"])
    adapted.train(False)

    assert adapted.training is False
    assert adapted(*reversed(numbers))[0].tolist() == [4.0, 4.0]
