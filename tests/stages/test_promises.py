"""What a graph is published as is true, of PyTorch models: axes that outputs really have, dimensions that are related."""

from __future__ import annotations

import pytest

MODELS = """\
import time

import torch
from torch import nn


class Rows(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 4) * 2


class Nonzero(nn.Module):
    def forward(self, x):
        return torch.nonzero(x > 0)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(10, 8), nn.Linear(8, 10)

    def forward(self, ids, mask, past):
        keys = torch.cat([past, self.embed(ids)], 1)
        weights = (self.embed(ids) @ keys.transpose(1, 2) + (1.0 - mask[:, None].to(keys.dtype)) * -1e4).softmax(-1)
        return self.out(weights @ keys), keys


class SlowToExport(Rows):
    def forward(self, x):
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            time.sleep(600)
        return super().forward(x)


class SlowToRun(Rows):
    def forward(self, x):
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            raise ValueError("not to be exported")
        time.sleep(0.8)
        return super().forward(x)


class Halves(nn.Module):
    def forward(self, x):
        return x[:, ::2] + 0, torch.cat([x, x], 1)
"""

ROWS = """\
version: 1
name: rows
model: {pytorch: {factory: "m:Rows"}}
export:
  inputs: {x: {dtype: float32, shape: [2, 12]}}
  outputs: [y]
  dynamic_axes: {x: {0: batch}, y: {0: batch}}
  dims: {batch: {min: 1, max: 8}}
"""

DECODER = """\
version: 1
name: decoder
model: {pytorch: {factory: "m:Decoder"}}
export:
  exporter: EXPORTER
  opset: 18
  inputs:
    ids: {dtype: int64, shape: [2, 3]}
    mask: {dtype: int64, shape: [2, 8], data: {constant: 1}}
    past: {dtype: float32, shape: [2, 5, 8]}
  outputs: [logits, present]
  dynamic_axes:
    ids: {0: batch, 1: sequence}
    mask: {0: batch, 1: total}
    past: {0: batch, 1: past}
    logits: {0: batch, 1: sequence}
    present: {0: batch, 1: total}
  dims: {batch: {max: 3}, sequence: {max: 6}, past: {min: 0, max: 9}, total: past + sequence}
"""

HALVES = """\
version: 1
name: halves
model: {pytorch: {factory: "m:Halves"}}
export:
  inputs: {x: {dtype: float32, shape: [2, 6]}}
  outputs: [half, double]
  dynamic_axes: {x: {1: n}, half: {1: half}, double: {1: double}}
  dims: {n: {min: 2, max: 9}, half: (n + 1) // 2, double: 2*n}
"""


@pytest.fixture
def project(workspace):
    workspace.write("m.py", MODELS)
    return workspace


def test_an_output_axis_that_is_not_what_is_declared_fails_before_any_exporter_runs(project):
    project.write("rows.yaml", ROWS)
    ran = project.run("run", "rows.yaml", code=1)
    assert (
        "✗ reference failed\n  output 'y', axis 0 is declared 'batch' and is not: 6 at batch=2, 3 at batch=1, "
        "9 at batch=3, 24 at batch=8 ...; it is 3*batch\n    hint: give it a name of its own: "
        "export.dynamic_axes: {y: {0: y_0}}, and export.dims: {y_0: 3*batch}\n"
    ) in ran.err
    statuses = project.statuses("rows")
    assert statuses.pop("reference") == "failed"
    assert set(statuses.values()) == {"skipped"}
    assert not (project.root / "build/rows/model.onnx").exists()

    project.replace("rows.yaml", "y: {0: batch}", "y: {0: y_0}")  # as the hint says
    project.replace("rows.yaml", "max: 8}}", "max: 8}, y_0: 3*batch}")
    project.run("run", "rows.yaml")
    (output,) = project.report("rows")["graphs"][-1]["outputs"]
    assert output["shape"] == ["y_0", 4]


@pytest.mark.parametrize("jobs", ["-j1", "-j2"])
def test_an_exporter_beside_the_reference_is_stopped_when_that_fails(project, jobs):
    project.write("rows.yaml", ROWS.replace("m:Rows", "m:SlowToExport"))
    ran = project.run("run", jobs, "rows.yaml", code=1, timeout=120)

    assert "it is 3*batch" in ran.err
    statuses = project.statuses("rows")
    assert (statuses.pop("reference"), set(statuses.values())) == ("failed", {"skipped"})


@pytest.mark.heavy
def test_an_export_that_ends_before_the_reference_counts_after_it(project):
    right = ROWS.replace("y: {0: batch}", "y: {0: rows}").replace("8}", "3}, rows: 3*batch")
    project.write("rows.yaml", right.replace("m:Rows", "m:SlowToRun"))
    ran = project.run("run", "-j2", "rows.yaml", code=1)
    statuses = project.statuses("rows")

    assert ran.out.index("reference") < ran.out.index("export")
    assert (statuses.pop("reference"), statuses.pop("export"), set(statuses.values())) == (
        "built",
        "failed",
        {"skipped"},
    )
    assert "not to be exported" in ran.err
    project.write("rows.yaml", ROWS.replace("m:Rows", "m:SlowToRun"))
    assert "not to be exported" not in project.run("run", "-j2", "rows.yaml", code=1).err
    statuses = project.statuses("rows")
    assert (statuses.pop("reference"), set(statuses.values())) == ("failed", {"skipped"})


def test_an_axis_that_depends_on_the_data(project):
    project.write("nz.yaml", ROWS.replace("rows", "nz").replace("Rows", "Nonzero").replace(", y: {0: batch}", ""))
    ran = project.run("run", "nz.yaml", code=1)
    assert "output 'y', axis 0 is not declared dynamic and has several sizes: " in ran.err

    project.replace("nz.yaml", "x: {0: batch}", "x: {0: batch}, y: {0: found}")
    project.run("run", "nz.yaml")


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_decoder_with_a_cache(project, exporter):
    import numpy as np
    import onnxruntime

    project.write("decoder.yaml", DECODER.replace("EXPORTER", exporter))
    project.run("run", "decoder.yaml")
    report = project.report("decoder")
    assert report["cases_left_out"] == []
    assert {tensor["name"]: tensor["shape"] for tensor in report["graphs"][-1]["outputs"]} == {
        "logits": ["batch", "sequence", 10],
        "present": ["batch", "total", 8],
    }
    sizes = [case["dims"] for case in report["stages"][0]["facts"]["cases"]]
    assert {one["past"] for one in sizes} >= {0, 5, 9}
    assert all(one["total"] == one["past"] + one["sequence"] for one in sizes)
    session = onnxruntime.InferenceSession(project.root / "build/decoder/model.onnx")
    ids, mask, past = np.zeros((1, 2), np.int64), np.ones((1, 2), np.int64), np.zeros((1, 0, 8), np.float32)
    assert session.run(["present"], {"ids": ids, "mask": mask, "past": past})[0].shape == (1, 2, 8)


def test_related_dimensions_of_outputs_alone(project):
    project.write("halves.yaml", HALVES)
    project.run("run", "halves.yaml")
    project.replace("halves.yaml", "(n + 1) // 2", "n // 2")
    ran = project.run("run", "halves.yaml", code=1)
    assert "output 'half', axis 1 is declared half = n // 2 and is not: " in ran.err
    assert "it is (n + 1) // 2" in ran.err


def test_sizes_that_can_not_be_combined_are_told_their_relation(project):
    project.write(
        "decoder.yaml", DECODER.replace("EXPORTER", "dynamo").replace("total: past + sequence", "total: {min: 2}")
    )
    ran = project.run("run", "decoder.yaml", code=1)
    assert "relate them, export.dims: {total: sequence + past}" in ran.err
