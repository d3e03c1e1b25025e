"""What a user gets to see of an exporter that fails: the line of their model, its likely form, and what to do."""

from __future__ import annotations

import pytest

from onnxbuild.errors import StageError

FIXING = """\
import torch


class Loop(torch.nn.Module):
    def forward(self, x):
        out = []
        for i in range(x.shape[0]):
            out.append(x[i] * 2)
        return torch.stack(out)


class Assert(torch.nn.Module):
    def forward(self, x):
        assert x.shape[0] == 3, "three rows"
        return x * 2


class Branch(torch.nn.Module):
    def forward(self, x):
        if x.shape[0] == 3:
            return x * 2
        return x * 3


class Split(torch.nn.Module):
    def forward(self, x):
        a, b, c = x.unbind(0)
        return torch.stack([a, b * 2, c])


class Number(torch.nn.Module):
    def forward(self, x):
        n = [0.1, 0.2, 0.3, 0.4][int(x.shape[0])]
        return x * n


class Shape(torch.nn.Module):
    def forward(self, x):
        return x.view(3, 4) * 2


class Svd(torch.nn.Module):
    def forward(self, x):
        y = x * 2
        return torch.linalg.svd(y)[1]


class Value(torch.nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return x * 2


class Traced(torch.nn.Module):
    def forward(self, ids):
        return torch.jit.trace(lambda x: (x, "text"), ids)(ids)[0]


class Table(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(5, 4)

    def forward(self, ids):
        return self.table(ids)
"""


@pytest.fixture
def exported(torch_model, tmp_path):
    """What is said where an exporter fails at one of the models above."""

    def failure(factory, exporter="dynamo", dtype="float32", shape=(3, 4), stage="export"):
        project = tmp_path / "p"
        project.mkdir()
        name = f"fixing_{tmp_path.name.replace('-', '_')}"
        (project / f"{name}.py").write_text(FIXING)
        one = torch_model(
            f"{name}:{factory}",
            {"x" if dtype == "float32" else "ids": {"dtype": dtype, "shape": list(shape)}},
            ["y"],
            {"x": {"0": "batch"}} if dtype == "float32" else {},
            exporter=exporter,
            root=project,
        )
        with pytest.raises(StageError) as caught:
            one.export() if stage == "export" else one.reference(
                {"name": "example", "dims": {}, "shapes": {"ids": list(shape)}, "data": {}, "dynamic": {}}
            )
        lines = (project / f"{name}.py").read_text().splitlines()
        fact = caught.value.fact
        line = int(fact.partition(f"{name}.py:")[2].partition(":")[0] or 0)
        return fact, caught.value.hint, lines[line - 1].strip() if line else ""

    return failure


@pytest.mark.parametrize(
    ("factory", "line", "likely"),
    [
        ("Loop", "for i in range(x.shape[0]):", "likely a Python loop over batch, "),
        ("Assert", 'assert x.shape[0] == 3, "three rows"', "likely an assert on batch, "),
        ("Branch", "if x.shape[0] == 3:", "likely a branch on the size of batch, "),
        ("Split", "a, b, c = x.unbind(0)", "likely a split into as many pieces as batch has"),
        ("Number", "n = [0.1, 0.2, 0.3, 0.4][int(x.shape[0])]", "likely a size of batch as a Python number"),
        ("Shape", "return x.view(3, 4) * 2", "likely a shape in numbers: write -1 or x.shape[i] for batch"),
    ],
)
def test_a_dimension_that_the_models_code_fixes_is_told_by_line_and_form(exported, factory, line, likely):
    _, hint, found = exported(factory)

    assert found == line
    assert hint.startswith(likely)
    assert line in hint and hint.endswith("or narrow `dims`, or take it out of `dynamic_axes`")


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_an_operator_that_the_exporter_lacks_is_told_by_the_line_that_calls_it(exported, exporter):
    fact, hint, found = exported("Svd", exporter)

    assert "linalg_svd" in fact
    assert found == "return torch.linalg.svd(y)[1]"
    assert hint == "describe the operator under `symbolics`, or try another opset or exporter"


def test_a_branch_on_a_value_is_told_by_its_line(exported):
    _, hint, found = exported("Value")

    assert found == "if x.sum() > 0:"
    assert hint.startswith("the model branches on a tensor's value: use torch.cond under dynamo")


def test_code_that_torch_jit_can_not_compile_is_told_by_its_line(exported):
    fact, hint, found = exported("Traced", dtype="int64")

    assert "Only tensors, lists, tuples of tensors" in fact
    assert found == 'return torch.jit.trace(lambda x: (x, "text"), ids)(ids)[0]'
    assert hint == "leave torch.jit out of the model's code, or keep what it compiles free of Python objects"


def test_an_index_beyond_a_table_names_what_integers_are_drawn_from(exported):
    fact, hint, found = exported("Table", dtype="int64", shape=(2, 3), stage="reference")

    assert "index out of range" in fact and found == "return self.table(ids)"
    assert "integers go from 0 to 9 unless the input says {data: {integers:" in hint
