"""`make bench`, last part: faults, planted or of today's tools, and who ends with an exit code that says so.

Each is met twice, by processes of their own: by a script as the tools' documentation has it, with the check that comes with
it, and by a recipe. That the script's result is wrong is shown apart from both, by the source model (or onnx's reference
evaluator for an ONNX file) at other sizes and values.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import onnx.parser

BAKED = """\
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return x.reshape(int(x.shape[0]), -1).sum(1, keepdim=True)

def net():
    return Net()
"""
IMPORTS = """\
import torch
import helper

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), helper.Scaled())
"""
HELPER = """\
import torch

class Scaled(torch.nn.Module):
    def forward(self, x):
        return x * 2.0
"""
EXPORT = """\
import numpy as np, onnx, onnxruntime, torch
from models import net
x, model = torch.randn({batch}, 4), net().eval()
torch.onnx.export(model, (x,), "by-hand.onnx", input_names=["x"], output_names=["y"],
                  dynamo={dynamo}, verify={dynamo}, verbose=False,
                  dynamic_axes={{"x": {{0: "batch"}}, "y": {{0: "batch"}}}})
onnx.checker.check_model("by-hand.onnx", full_check=True)
session = onnxruntime.InferenceSession("by-hand.onnx", providers=["CPUExecutionProvider"])
assert np.allclose(session.run(None, {{"x": x.numpy()}})[0], model(x).detach().numpy(), rtol=1e-3, atol=1e-4)
"""
OPTIMIZE = """\
import numpy as np, onnx, onnxoptimizer, onnxruntime, onnxscript.optimizer
onnx.save({call}, "by-hand.onnx")
onnx.checker.check_model("by-hand.onnx", full_check=True)
x = np.random.default_rng(0).standard_normal({shape}, dtype=np.float32)
names = ("before.onnx", "by-hand.onnx")
sessions = [onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"]) for name in names]
before, after = (session.run(None, {{"x": x}})[0] for session in sessions)
assert np.allclose(before, after, rtol=1e-3, atol=1e-4)
"""
TORCH = """\
version: 1
name: net
model: {{pytorch: {{factory: "models:net", seed: 0}}}}
export:
  exporter: {exporter}
  inputs: {{x: {{dtype: float32, shape: [{batch}, 4]}}}}
  outputs: ["y"]
  dynamic_axes: {{x: {{0: batch}}, "y": {{0: batch}}}}
  dims: {{batch: {{min: 1, max: 8}}}}
"""
FILE = """\
version: 1
name: net
model: {onnx: {path: before.onnx}}
optimize:
"""
CLIP = """<ir_version: 8, opset_import: ["" : 17]>
agraph (float[2, 4] x) => (float[2, 4] y)
<float low = {-3.0}, float high = {-1.0}> { c = Clip(x, low, high)  y = Relu(c) }"""
PAD = """<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 1, 4, 4] x) => (float[1, 1, 3, 3] y)
<int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}>
{ p = Pad(x, pads)  y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (p) }"""
AGAINST_MODEL = """\
import numpy as np, onnx, sys, torch
from onnx.reference import ReferenceEvaluator
from models import net
x = torch.randn(5, 4)
try:
    got = ReferenceEvaluator(onnx.load("by-hand.onnx")).run(None, {"x": x.numpy()})[0]
except Exception:
    sys.exit(1)
wanted = net().eval()(x).detach().numpy()
sys.exit(not (got.shape == wanted.shape and np.allclose(got, wanted, rtol=1e-3, atol=1e-4)))
"""
AGAINST_FILE = """\
import numpy as np, onnx, sys
from onnx.reference import ReferenceEvaluator
before, after = (ReferenceEvaluator(onnx.load(name)) for name in ("before.onnx", "by-hand.onnx"))
x = -1 - np.random.default_rng(0).random([{shape}], dtype=np.float32)
sys.exit(not np.allclose(before.run(None, {{"x": x}})[0], after.run(None, {{"x": x}})[0]))
"""
PYTHON = [sys.executable, "-W", "ignore", "-c"]
IMPORTING = {
    "models.py": IMPORTS,
    "helper.py": HELPER,
    "export.py": EXPORT.format(batch=2, dynamo=True),
    "net.yaml": TORCH.format(exporter="dynamo", batch=2),
}
MAKEFILE = "by-hand.onnx: export.py models.py\n\t{python} -W ignore export.py\n"

# What is wrong, with the tool and its check; the project's files; the script; the proof, which exits 1 where what the script
# wrote is wrong.
FAULTS = [
    (
        "a batch size becomes a number; TorchScript exporter, compared at the example",
        {"models.py": BAKED, "net.yaml": TORCH.format(exporter="torchscript", batch=2)},
        EXPORT.format(batch=2, dynamo=False),
        AGAINST_MODEL,
    ),
    (
        "the same, example batch 1; dynamo exporter with verify=True",
        {"models.py": BAKED, "net.yaml": TORCH.format(exporter="dynamo", batch=1)},
        EXPORT.format(batch=1, dynamo=True),
        AGAINST_MODEL,
    ),
    (
        "onnxscript's optimizer drops a Relu behind a Clip; compared with onnxruntime",
        {"before.onnx": CLIP, "net.yaml": FILE + "  - onnxscript: {}\n"},
        OPTIMIZE.format(call='onnxscript.optimizer.optimize(onnx.load("before.onnx"))', shape="(2, 4)"),
        AGAINST_FILE.format(shape="2, 4"),
    ),
    (
        "onnxoptimizer folds a Pad of zeros into a MaxPool; compared with onnxruntime",
        {"before.onnx": PAD, "net.yaml": FILE + "  - onnxoptimizer: [fuse_pad_into_pool]\n"},
        OPTIMIZE.format(
            call='onnxoptimizer.optimize(onnx.load("before.onnx"), ["fuse_pad_into_pool"])', shape="(1, 1, 4, 4)"
        ),
        AGAINST_FILE.format(shape="1, 1, 4, 4"),
    ),
]


def project(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    for name, text in files.items():
        if name.endswith(".onnx"):
            onnx.save(onnx.parser.parse_model(text), folder / name)
        else:
            (folder / name).write_text(text)
    return folder


def ended(command: list[str], folder: Path) -> int:
    """The exit code of a process in that folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    environment.pop("ONNXBUILD_CACHE", None)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False).returncode


def onnxbuild(folder: Path) -> int:
    return ended([sys.executable, "-m", "onnxbuild", "run", "net.yaml"], folder)


def planted(root: Path) -> None:
    for number, (said, files, script, proof) in enumerate(FAULTS):
        folder = project(root / str(number), files)
        code = ended([*PYTHON, script], folder)
        wrong = (folder / "by-hand.onnx").exists() and ended([*PYTHON, proof], folder) == 1
        ours = onnxbuild(folder)
        published = (folder / "build/net/model.onnx").exists()
        right = ours == 0 and published
        if right:  # then it must be: the same proof, of our file
            (folder / "build/net/model.onnx").replace(folder / "by-hand.onnx")
            right = ended([*PYTHON, proof], folder) == 0
        row(said, f"exit {code}, {'wrong' if wrong else 'right'}", told(ours, published=published, right=right))


def told(code: int, *, published: bool, right: bool) -> str:
    if right:
        return "exit 0, right"
    return f"exit {code}, {'WRONG' if published else 'nothing published'}"


def stale(root: Path) -> None:
    """A module that the model's file imports is edited; by hand, make knows the model's file alone."""
    folder = project(root / "stale", {**IMPORTING, "Makefile": MAKEFILE.format(python=sys.executable)})
    assert ended(["make"], folder) == 0 and onnxbuild(folder) == 0
    (folder / "helper.py").write_text(HELPER.replace("2.0", "3.0"))
    by_hand = ended(["make"], folder)
    wrong = ended([*PYTHON, AGAINST_MODEL], folder) == 1
    ours = onnxbuild(folder)
    (folder / "build/net/model.onnx").replace(folder / "by-hand.onnx")
    right = ended([*PYTHON, AGAINST_MODEL], folder) == 0
    row(
        "a module that the model imports is edited; make",
        f"exit {by_hand}, {'stale' if wrong else 'right'}",
        told(ours, published=True, right=right),
    )


def elsewhere(root: Path) -> None:
    """The same files in two folders."""
    digests: dict[str, set[str]] = {"by-hand.onnx": set(), "build/net/model.onnx": set()}
    for name in ("here", "in/another/folder"):
        folder = project(root / name, IMPORTING)
        assert ended([sys.executable, "-W", "ignore", "export.py"], folder) == 0 and onnxbuild(folder) == 0
        for file, seen in digests.items():
            seen.add(hashlib.sha256((folder / file).read_bytes()).hexdigest())
    same = ["same bytes" if len(seen) == 1 else "other bytes" for seen in digests.values()]
    row("the same files in another folder", *same)


def row(said: str, by_hand: str, ours: str) -> None:
    print(f"| {said} | {by_hand} | {ours} |", flush=True)


def main() -> None:
    print("| fault | script | onnxbuild |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        planted(Path(folder))
        stale(Path(folder))
        elsewhere(Path(folder))


if __name__ == "__main__":
    main()
