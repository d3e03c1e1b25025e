"""The two projects that the mutation matrix edits, and a bench that edits, builds, compares and reverts."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
from workspace import Workspace

from onnxbuild import recipe as recipes
from onnxbuild.engine.session import Session, Settings
from onnxbuild.queries import remembered
from onnxbuild.queries.affected import Search
from onnxbuild.recipe.types import Recipe
from onnxbuild.report.progress import Progress
from onnxbuild.store.digests import Digests
from onnxbuild.system import changes, observed
from onnxbuild.targets import DIFFERENCES

NEVER = frozenset({"build", ".onnxbuild", "home", "__pycache__"})  # not part of a project's state
SETTLED = 0.05  # seconds after an edit, so that it can't be taken for one made while a stage ran


@dataclass
class Bench:
    """A built project, and one long session in which edits of it are built: the caches in memory are under test too."""

    workspace: Workspace
    session: Session
    other: Session  # with a store and an output folder of its own, hashing every file anew
    git: dict[str, str]  # the variables by which git finds the repository that it was committed to

    @property
    def root(self) -> Path:
        return self.workspace.root

    def build(self, recipe: str, session: Session | None = None, *, ask: bool = True) -> set[str]:
        """Build and give the stages that ran; none may where there is said to be nothing to do by what is remembered."""
        time.sleep(SETTLED)
        session = session or self.session
        path = self.root / recipe
        asked = (
            remembered.question([str(path)], f"{session.settings.out}", str(session.settings.cache or ""))
            if ask
            else None
        )
        known = asked.answer() if asked is not None else None
        (report,) = list(session.build_all(session.load([path], asked)))
        assert report.status == "done", [failure.fact for failure in report.failures]
        ran = {stage.name for stage in report.stages if stage.status == "built"}
        assert known is None or (ran == set() and [one.name for one in known] == [report.name])
        return ran

    def remembers(self, recipe: str) -> bool:
        """Whether it is remembered that there is nothing to do, as there is not: a wrong memory must have its chance."""
        asked = remembered.question([str(self.root / recipe)], "None", "")
        assert asked is not None
        for _ in range(2):  # the first run after a build still has the report to write
            if asked.answer() is None:
                assert self.build(recipe) == set()
        return asked.answer() is not None

    def affected(self, recipe: str) -> list[str]:
        """Why what was edited can affect the recipe, by what was last built of it; nothing where it can't."""
        store = self.root / ".onnxbuild"
        with mock.patch.dict(os.environ, self.git):
            search = Search(changes.since("HEAD", str(self.root)), lambda _: (store, Digests(store / "digests.json")))
            found = search.of(str(self.root / recipe))
        return [cause.text for cause in found.reasons] if found else []

    def artifacts(self, recipe: str, folder: Path | None = None) -> dict[str, bytes]:
        """What was published of a recipe, less the reports and what vouches for it."""
        name = recipes.load_all([self.root / recipe])[0].recipe.name
        published = (folder or self.root / "build") / name
        files = [*published.glob("model.onnx*"), *published.glob("*/*")]
        return {path.relative_to(published).as_posix(): path.read_bytes() for path in files}

    def recipe(self, recipe: str) -> Recipe:
        """What the recipe says, every default in it."""
        return recipes.load_all([self.root / recipe])[0].recipe

    def clean(self, recipe: str) -> dict[str, bytes]:
        """What an empty store makes of the project as it is now, as far as that is settled."""
        store, out = self.other.settings.cache, self.other.settings.out
        assert store is not None
        assert out is not None
        for folder in (store / "traces", store / "objects", store / "latest", out):
            shutil.rmtree(folder, ignore_errors=True)
        self.build(recipe, self.other)
        return settled(self.artifacts(recipe, out))


def settled(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files whose bytes their makers keep from build to build: not TensorRT's engines."""
    return {path: content for path, content in files.items() if path.rpartition("/")[2] not in DIFFERENCES}


def committed(root: Path, git: Path) -> dict[str, str]:
    """Commit a project to a repository that lies elsewhere; gives the variables by which git finds it."""
    variables = {"GIT_DIR": str(git), "GIT_WORK_TREE": str(root)}
    (git / "info").mkdir(parents=True)
    (git / "info/exclude").write_text("".join(f"{name}/\n" for name in sorted(NEVER)))
    own = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "as it was built"]):
        subprocess.run(["git", *own, *command], cwd=root, env={**os.environ, **variables}, check=True)
    return variables


@contextlib.contextmanager
def bench(root: Path) -> Iterator[Bench]:
    """Sessions on the project in this folder, as it is now."""
    git = committed(root, root.parent / "git")
    observed.MINIMUM_AGE_NS = 20_000_000  # in place of 2 s: no row waits
    settings = Settings(cache=root.parent / "clean-store", out=root.parent / "clean-out", paranoid=True)
    said = io.StringIO()
    with (
        Session(Settings(), Progress(said, quiet=True, errors=said)) as session,
        Session(settings, Progress(said, quiet=True, errors=said)) as other,
    ):
        yield Bench(Workspace(root), session, other, git)


def state(root: Path) -> dict[str, tuple[str, bytes | str, int]]:
    """Every file and link of a project: kind, content and mode."""
    found: dict[str, tuple[str, bytes | str, int]] = {}
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if name not in NEVER]
        for name in files:
            path = Path(folder, name)
            key = path.relative_to(root).as_posix()
            if path.is_symlink():
                found[key] = ("link", os.readlink(path), 0)
            else:
                found[key] = ("file", path.read_bytes(), path.stat().st_mode)
    return found


def revert(root: Path, before: dict[str, tuple[str, bytes | str, int]]) -> None:
    """Bring a project back to an earlier state, touching only what differs."""
    now = state(root)
    for name in now.keys() - before.keys():
        (root / name).unlink()
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        if not NEVER & set(folder.relative_to(root).parts) and not any(folder.iterdir()):
            folder.rmdir()
    for name, (kind, content, mode) in before.items():
        if now.get(name) == (kind, content, mode):
            continue
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if kind == "link":
            path.symlink_to(str(content))
        else:
            assert isinstance(content, bytes)
            path.write_bytes(content)
            path.chmod(mode)


# Edits

Edit = Callable[[Path], None]


def swap(file: str, old: str, new: str) -> Edit:
    def edit(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text, f"{file} has no {old!r}"
        (root / file).write_text(text.replace(old, new))

    return edit


def put(file: str, text: str | bytes) -> Edit:
    def edit(root: Path) -> None:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return edit


def both(*edits: Edit) -> Edit:
    def edit(root: Path) -> None:
        for one in edits:
            one(root)

    return edit


def remove(file: str) -> Edit:
    return lambda root: (root / file).unlink()


def move(file: str, to: str) -> Edit:
    return lambda root: (root / file).rename(root / to)


# The project around an .onnx file

MINI = """\
base: [common/first.yaml, common/last.yaml]
version: 1
name: mini
model: {onnx: {path: model/m.onnx}}
export:
  opset: 17
  inputs:
    x: {dtype: float32, shape: [2, 4]}
    s: {dtype: float32, shape: [2, 4], data: {npz: {path: data/s.npz}}}
  outputs: [y]
  dynamic_axes: {x: {0: batch}, s: {0: batch}, y: {0: batch}}
  dims: {batch: {min: 1, max: 5}}
optimize:
  - onnxoptimizer: [eliminate_identity]
  - onnxruntime: {}
parity:
  rtol: 1.0e-3
  atol: 1.0e-5
  seed: 0
  cases:
    real: {dims: {batch: 3}, data: {x: {npz: {path: data/x.npz}}}}
runtime: {session: {intra_op_num_threads: 1}}
benchmark: {warmup: 0, runs: 2}
"""

BASES = {"first": "benchmark: {dims: {batch: 3}}\n", "last": "benchmark: {dims: {batch: 4}}\n"}

GRAPH = """
<ir_version: 8, opset_import: ["": 17]>
mini (float[batch, 4] x, float[batch, 4] s) => (float[batch, 4] y) {
    h = MatMul(x, w)
    i = Identity(h)
    b = Add(i, s)
    y = Relu(b)
}
"""


def weights(root: Path, seed: int = 0) -> bytes:
    """The bytes of the model's weights."""
    return np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32).tobytes()


def npz(seed: int, name: str) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: np.random.default_rng(seed).normal(size=(2, 4)).astype(np.float32)})
    return file.getvalue()


def write_model(path: Path, op: str = "Relu", data: str = "m.data") -> None:
    """The model beside its weights, which are external data."""
    model = onnx.parser.parse_model(GRAPH.replace("Relu", op))
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4, 4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": data, "offset": "0", "length": "64"}.items():
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())


def mini(root: Path) -> None:
    for folder in ("model", "data"):
        (root / folder).mkdir(parents=True)
    (root / "pyproject.toml").touch()
    (root / "mini.yaml").write_text(MINI)
    for name, text in BASES.items():
        put(f"common/{name}.yaml", text)(root)
    write_model(root / "model/m.onnx")
    (root / "model/m.data").write_bytes(weights(root))
    (root / "data/s.npz").write_bytes(npz(1, "s"))
    (root / "data/x.npz").write_bytes(npz(2, "x"))


# The same with targets

TARGETS = """\
targets:
  ort: {optimization_level: basic}
  openvino: {parity: {rtol: 1.0e-2, atol: 1.0e-2, reason: r}}
  tensorrt: {compute_capabilities: [SM86]}
"""


def ships(root: Path) -> None:
    mini(root)
    (root / "mini.yaml").write_text(MINI + TARGETS)


# The same with passes that look at data

SMALLER = """\
version: 1
name: smaller
model: {onnx: {path: c.onnx}}
export:
  opset: 19
  inputs:
    x: {dtype: float32, shape: [2, 3, 4, 4]}
  outputs: [y]
  dynamic_axes: {x: {0: batch}, y: {0: batch}}
optimize:
  - quantize_static: {nodes_to_quantize: [a], data: {npz: {path: data/x.npz, batch_size: 2}}}
  - quantize_static: {nodes_to_quantize: [b], data: {images: {path: pictures, size: [4, 4]}}}
  - quantize_static: {nodes_to_quantize: [c], data: {generator: {function: calibration:samples, kwargs: {count: 2}}}}
  - float16: {}
parity: {rtol: 0.9, atol: 4.0, derive: false, seed: 0, reason: r}
"""
CONVOLUTIONS = """
<ir_version: 8, opset_import: ["": 19]>
smaller (float[batch, 3, 4, 4] x) => (float[batch, 3, 4, 4] y) {
    [a] p = Conv<kernel_shape = [1, 1]>(x, u)
    [b] q = Conv<kernel_shape = [1, 1]>(p, v)
    [c] r = Conv<kernel_shape = [1, 1]>(q, w)
    y = Add(r, r)
}
"""
SAMPLES = """\
import json
from pathlib import Path

import numpy as np


def samples(count):
    scale = json.loads((Path(__file__).parent / "scale.json").read_text())
    rng = np.random.default_rng(0)
    return [{"x": (scale * rng.normal(size=(1, 3, 4, 4))).astype(np.float32)} for _ in range(count)]
"""


def picture(seed: int) -> bytes:
    """A picture in a format that is a line of text and the pixels."""
    return b"P6 4 4 255\n" + np.random.default_rng(seed).integers(0, 256, 48, dtype=np.uint8).tobytes()


def pixels(seed: int, name: str = "x") -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: np.random.default_rng(seed).normal(size=(4, 3, 4, 4)).astype(np.float32)})
    return file.getvalue()


def smaller(root: Path) -> None:
    (root / "pictures").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    model = onnx.parser.parse_model(CONVOLUTIONS)
    for seed, name in enumerate("uvw"):
        values = np.random.default_rng(seed).normal(size=(3, 3, 1, 1)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    (root / "c.onnx").write_bytes(model.SerializeToString())
    files = {"smaller.yaml": SMALLER, "calibration.py": SAMPLES, "scale.json": "1.0", "data/x.npz": pixels(1)}
    for name, content in {**files, "pictures/a.ppm": picture(1), "pictures/b.ppm": picture(2)}.items():
        put(name, content)(root)


# The project around a torch model

NET = """\
version: 1
name: net
model:
  pytorch:
    factory: models.net:make
    kwargs: {add: 0.0, width: 4}
    seed: 0
    checkpoint: {path: weights/current.safetensors, strict: false}
export:
  exporter: torchscript
  opset: 17
  inputs:
    x: {dtype: float32, shape: [2, 4]}
  outputs: [y]
  dynamic_axes: {x: {0: batch}, y: {0: batch}}
  dims: {batch: {min: 1, max: 3}}
  arguments: {args: [x]}
symbolics:
  mutations::twice: {decompose: models.symbolic:twice}
"""

SOURCES = {
    "models/__init__.py": "import models.side\n",
    "models/side.py": "SIDE = 1.0\n",
    "models/net.py": """\
import importlib
import json
import os
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from models import ops
from models.layers import block

HERE = Path(__file__).parent


class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = block(width)
        self.scale = json.loads((HERE / "scale.json").read_text())["scale"]
        try:
            self.scale = json.loads((HERE / "override.json").read_text())["scale"]
        except FileNotFoundError:
            pass
        if os.path.exists("settings.json"):
            self.scale = 5.0
        self.register_buffer("shift", torch.from_numpy(np.load(HERE / "shift.npy")))
        self.count = len(os.listdir(HERE / "parts"))

    def forward(self, x):
        from models.lazy import late
        named = importlib.import_module("models.named")
        try:
            from models import fast
        except ImportError:
            fast = None
        from space import name

        y = late(ops.twice(self.body(x)) * self.scale + self.shift + self.count)
        return named.f(y) + name.BIAS + (1.0 if fast else 0.0)


def make(width, add):
    return Net(width)


def other(width, add):
    return Net(width)
""",
    "models/layers.py": "import torch\n\n\ndef block(width):\n    return torch.nn.Linear(width, 4)\n",
    "models/lazy.py": "def late(x):\n    return x + 1.0\n",
    "models/named.py": "def f(x):\n    return x * 2.0\n",
    "models/unused.py": "",
    "models/ops.py": """\
import torch


torch.library.define("mutations::twice", "(Tensor x) -> Tensor")
twice = torch.ops.mutations.twice


@torch.library.impl("mutations::twice", "CompositeExplicitAutograd")
def _(x):
    return x * 2.0


@torch.library.register_fake("mutations::twice")
def _(x):
    return torch.empty_like(x)
""",
    "models/symbolic.py": "def twice(op, x):\n    return op.Mul(x, 2.0)\n",
    "models/scale.json": '{"scale": 3.0}',
    "models/parts/one.txt": "",
    "space/name.py": "BIAS = 0.5\n",
}


def checkpoint(seed: int) -> bytes:
    """A safetensors file with the bias alone, written by hand: the format is a length, a JSON header and the bytes."""
    import json

    header = json.dumps({"body.bias": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    header += b" " * (-len(header) % 8)
    values = np.random.default_rng(seed).normal(size=4).astype(np.float32).tobytes()
    return len(header).to_bytes(8, "little") + header + values


def net(root: Path) -> None:
    for name, text in SOURCES.items():
        put(name, text)(root)
    (root / "pyproject.toml").touch()
    (root / "net.yaml").write_text(NET)
    np.save(root / "models/shift.npy", np.arange(4, dtype=np.float32))
    put("weights/one.safetensors", checkpoint(1))(root)
    put("weights/two.safetensors", checkpoint(2))(root)
    (root / "weights/current.safetensors").symlink_to("one.safetensors")
