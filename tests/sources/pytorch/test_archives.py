"""TorchScript archives: the same state dict as torch's own loader gives, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from onnxbuild.errors import StageError
from onnxbuild.sources.pytorch import archives, loading

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class Various(torch.nn.Module):
    """Weights of every form that a state dict has, and attributes that are none of it."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4))
        self.tied = self.layers[0].weight
        self.again = self.layers[1]
        self.brief = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        self.turned = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4).t())
        self.scalar = torch.nn.Parameter(torch.tensor(3.0))
        self.register_buffer("none", torch.ones(0, 3))
        self.register_buffer("steps", torch.tensor([1, 2]))
        self.register_buffer("part", torch.arange(10)[2:5])
        self.register_buffer("mask", torch.tensor([True, False]))
        self.plain = torch.ones(3)
        self.numbers, self.tensors, self.names = [1, 2], [torch.ones(1)], {"x": 1}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.brief.float().sum() + self.turned.sum() + self.scalar + self.tied.sum() + self.part.sum()
        others = self.plain.sum() + self.numbers[0] + self.tensors[0] + self.names["x"] + self.none.sum()
        return self.again(self.layers(x)) + weights + others + self.steps.sum() + self.mask.sum()


class Restored(torch.nn.Module):
    """Restores itself by code, which leaves a file: torch.jit.load runs it."""

    def __init__(self):
        super().__init__()
        self.w = torch.ones(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.w

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.w, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        torch.ops.aten.save(state[0], "owned")
        self.w = state[0]
        self.training = state[1]


class Around(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Restored()
        self.linear = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.inner(x))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("archives") / "various.pt"
    torch.jit.script(Various()).save(path)
    return path


@pytest.mark.parametrize("traced", [False, True])
def test_the_state_dict_is_what_torchs_own_loader_gives(tmp_path, saved, traced):
    if traced:
        saved = tmp_path / "traced.pt"
        torch.jit.trace(Various().eval(), torch.ones(2, 3, 4, 4)).save(saved)
    expected = torch.jit.load(saved).state_dict()

    found = loading.read_state_dict(saved)

    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype, name
        assert found[name].stride() == tensor.stride(), name


@pytest.mark.parametrize("module", [Restored, Around])
def test_code_that_restores_a_module_is_not_run(tmp_path, monkeypatch, module):
    monkeypatch.chdir(tmp_path)
    torch.jit.script(module()).save("w.pt")
    subprocess.run([sys.executable, "-W", "ignore", "-c", "import torch; torch.jit.load('w.pt')"], check=True)
    assert os.path.exists("owned"), "torch.jit.load does run it"
    os.unlink("owned")

    with pytest.raises(StageError, match=r"w\.pt is refused: only TorchScript code of its own") as caught:
        loading.read_state_dict(tmp_path / "w.pt")

    assert os.listdir() == ["w.pt"]
    assert caught.value.hint == "save the model's state_dict() alone, best to a safetensors file"


def rewritten(source: Path, path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The archive with other records; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            content = change(info.filename.partition("/")[2], old.read(info))
            if content is not None:
                new.writestr(info.filename, content)
    return path


def test_what_a_big_endian_machine_wrote_is_refused(tmp_path, saved):
    path = rewritten(saved, tmp_path / "w.pt", lambda name, content: b"big" if name == "byteorder" else content)

    with pytest.raises(StageError) as caught:
        loading.read_state_dict(path)

    assert caught.value.fact == "w.pt was written on a big-endian machine"
    assert caught.value.hint == "save it again on a little-endian one"


class Touches:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


class Evaluates:
    def __reduce__(self):
        return eval, ("open('owned', 'w')",)


PICKLES = {
    "a call": pickle.dumps(Touches(), 2),
    "eval": pickle.dumps(Evaluates(), 2),
    "a call by name": b"cos\nsystem\n(S'touch owned'\ntR.",
    "an instance": b"(S'touch owned'\nios\nsystem\n.",
    "an object": b"(cos\nsystem\nS'touch owned'\no.",
    "a stack's name": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0btouch owned\x85R.",
    "a persistent call": b"\x80\x02(X\x07\x00\x00\x00storagecos\nsystem\nX\x05\x00\x00\x00owned" + b"tQ.",
    "a changed stand-in": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",
    "a changed class": b"\x80\x02c__torch__\nM\n}X\x01\x00\x00\x00aK\x01sb.",
    "a class of no code": b"\x80\x02c__torch__.os\nsystem\n)\x81}b.",
    "a number": b"\x80\x02K\x01.",
    "nothing": b"",
    "garbage": b"\x80\x02\xff\xff",
    "an end too soon": b"\x80\x02c__torch__\nVarious\n)\x81",
    "a module in itself": b"\x80\x02c__torch__.tests\nM\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.",
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_made_up_pickle_calls_nothing_and_is_refused(tmp_path, monkeypatch, saved, kind):
    monkeypatch.chdir(tmp_path)
    code = b"class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n"

    def change(name: str, content: bytes) -> bytes:
        return PICKLES[kind] if name == "data.pkl" else content

    path = rewritten(saved, tmp_path / "w.pt", change)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("various/code/__torch__/tests.py", code)

    with pytest.raises(StageError, match=r"^w\.pt ") as caught:
        loading.read_state_dict(path)

    assert os.listdir() == ["w.pt"] and "Traceback" not in caught.value.fact


@pytest.mark.parametrize("cut", [0, 1, 7, "missing"])
def test_a_tensor_that_its_record_does_not_hold_is_refused(tmp_path, saved, cut):
    def change(name: str, content: bytes) -> bytes | None:
        if name != "data/0":
            return content
        return None if cut == "missing" else content[:cut]

    with pytest.raises(StageError, match=r"^w\.pt "):
        loading.read_state_dict(rewritten(saved, tmp_path / "w.pt", change))


@pytest.mark.parametrize("name", ["data.pkl", "data/0", "test_archives.py"])
def test_a_record_that_unpacks_to_more_than_it_may_is_refused(tmp_path, saved, name):
    path = tmp_path / "w.pt"
    shutil.copy(saved, path)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            bomb = info.filename.endswith(f"/{name}")
            content = bytes(archives.LARGEST + 1) if bomb else old.read(info)
            new.writestr(info.filename, content, zipfile.ZIP_DEFLATED if bomb else zipfile.ZIP_STORED)

    with pytest.raises(StageError, match=r"w\.pt unpacks '.*' to 67,1"):
        loading.read_state_dict(path)
