"""What all passes have in common."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import msgspec
import pytest

from onnxbuild.passes import EXTRAS, PASSES

HERE = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            any(importlib.util.find_spec(package) is None for package in EXTRAS.get(name, {})), reason="an extra"
        ),
    )
    for name in PASSES
]

RUN = """
import sys
from pathlib import Path
import msgspec
from onnxbuild.graphs import modelfile
from onnxbuild.passes import PASSES, Beside
import numpy as np
feeds = [{"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}]
name, options, path, scratch = sys.argv[1:]
options = msgspec.json.decode(options, type=PASSES[name].Options)
model, folder = PASSES[name].run(Path(path), options, Path(scratch), Beside(lambda: iter(feeds)))
print(modelfile.save(model, folder, Path(path).parent))
"""
OPTIONS = {
    "onnxsim": "{}",
    "onnxoptimizer": '["eliminate_identity", "fuse_bn_into_conv", "extract_constant_to_initializer"]',
    "onnxscript": "{}",
    "onnxslim": "{}",
    "onnxruntime": '{"graph_optimization_level": "extended"}',
    "convert_opset": '{"target_version": 21}',
    "rename": '{"inputs": {"x": "image"}}',
    "float16": "{}",
    "quantize_static": '{"data": {"npz": {"path": "x"}}}',
    "quantize_dynamic": "{}",
    "quantize_4bit": '{"block_size": 16}',
}


@pytest.mark.parametrize("name", HERE)
def test_two_processes_with_other_hash_seeds_give_the_same_bytes(name, convolution, tmp_path):
    said = set()
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", RUN, name, OPTIONS[name], str(convolution.path), str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        said.add(done.stdout.splitlines()[-1])

    assert len(said) == 1


# A quantizer refuses where nothing is left for it, and so does rename.
@pytest.mark.parametrize("name", [one for one in HERE if not one.values[0].startswith(("quantize", "rename"))])
def test_the_result_passes_unchanged_through_the_same_pass_again(name, convolution, tmp_path):
    options = msgspec.json.decode(OPTIONS[name], type=PASSES[name].Options)
    once = convolution.after(PASSES[name], options, tmp_path / "1")
    convolution.path = once
    twice = convolution.after(PASSES[name], options, tmp_path / "2")

    convolution.assert_same_outputs(twice)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_says_what_its_key_needs(name):
    module = PASSES[name]

    assert isinstance(module.VERSION, int)
    assert "onnx" in " ".join(module.DISTRIBUTIONS)
    assert msgspec.json.schema(module.Options)


def test_the_table_and_the_options_load_nothing_heavy():
    heavy = {"onnx", "numpy", "onnxruntime", "onnxscript", "onnx_ir", "onnxsim", "onnxoptimizer"}
    use = "from onnxbuild.passes import PASSES, onnxruntime as p; p.notes(p.Options('all'))"
    code = f"import sys; {use}; print({heavy!r} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
