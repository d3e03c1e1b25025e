from __future__ import annotations

from pathlib import Path

import pytest
import safetensors

from onnxbuild.errors import StageError
from onnxbuild.sources.pytorch import Checkpoint, Options, files


def test_a_checkpoint_is_a_declared_file():
    assert files(Options("a:b")) == {}
    assert files(Options("a:b", checkpoint=Checkpoint("w/x.safetensors"))) == {"checkpoint": "w/x.safetensors"}


def test_a_checkpoint_that_a_package_ships_is_found_in_it():
    found = files(Options("a:b", checkpoint=Checkpoint("torch.py", package="safetensors")))

    assert Path(found["checkpoint"]) == Path(safetensors.__file__).parent / "torch.py"


def test_a_package_that_is_not_installed():
    with pytest.raises(StageError, match=r"the package 'no_such_package\.inner' is not installed"):
        files(Options("a:b", checkpoint=Checkpoint("w.pt", package="no_such_package.inner")))


MODEL = """\
import torch
from torch import nn


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.types = nn.Embedding(10, 4), nn.Embedding(10, 4)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        hidden = self.words(input_ids)
        if token_type_ids is not None:
            hidden = hidden + self.types(token_type_ids)
        if attention_mask is not None:
            hidden = hidden * attention_mask[..., None]
        return {"hidden": hidden, "pooled": hidden.sum(1)}
"""
RECIPE = """\
version: 1
name: m
model: {pytorch: {factory: "bert:Bert"}}
export:
  exporter: EXPORTER
  inputs:
    input_ids: {dtype: int64, shape: [2, 6]}
    TYPES: {dtype: int64, shape: [2, 6]}
  outputs: OUTPUTS
"""


@pytest.fixture
def run(workspace):
    def run(code, types="token_type_ids", outputs="[hidden, pooled]", exporter="torchscript"):
        workspace.write("bert.py", MODEL)
        recipe = RECIPE.replace("TYPES", types).replace("OUTPUTS", outputs).replace("EXPORTER", exporter)
        workspace.write("m.yaml", recipe)
        workspace.run("run", "-k", "m.yaml", code=code)
        return {stage["name"]: stage for stage in workspace.report("m")["stages"]}

    return run


def test_a_slip_in_an_input_does_not_make_it_another_one(run):
    failure = run(1, types="tokn_type_ids")["reference"]["failure"]
    assert "None) has no parameter tokn_type_ids" in failure["fact"]
    assert failure["hint"] == "did you mean token_type_ids?"


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_slip_in_an_output_does_not_make_it_another_one(run, exporter):
    failure = run(1, outputs="[pooled, hiden]", exporter=exporter)["reference"]["failure"]
    assert failure["fact"] == "the model returns no hiden; it returns 2 outputs: hidden, pooled"
    assert failure["hint"] == "did you mean hidden?"


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_other_names_for_a_mapping_are_in_order_and_noted(run, exporter):
    stages = run(0, outputs="[a, b]", exporter=exporter)
    said = "the model names its outputs otherwise: in order, a is hidden, b is pooled"
    assert stages["export"]["facts"]["notes"] == [said]
