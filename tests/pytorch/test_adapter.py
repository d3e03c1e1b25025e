from __future__ import annotations

import dataclasses
from collections import OrderedDict

import pytest
import torch

from onnxbuild.errors import StageError
from onnxbuild.pytorch.adapter import Adapter, describe, flatten, select

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
    with pytest.raises(StageError, match="output 'y' of the model is no tensor but int"):
        select((3,), ["y"])
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
