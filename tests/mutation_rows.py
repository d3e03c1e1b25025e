"""The rows of the mutation matrix: what is changed, and which stages that must run. Tables and edits, no tests."""

# ruff: noqa: E501  # a table reads by its columns

from __future__ import annotations

import mmap
import os
import shutil
from pathlib import Path

import mutations
from mutations import both, checkpoint, move, npz, put, remove, swap, weights, write_model

from onnxbuild.system import distributions

GRAPHS = ("export", "1-onnxoptimizer", "2-onnxruntime")
CHECKS = {f"check/{name}" for name in GRAPHS}
PARITIES = {f"parity/{name}" for name in GRAPHS}
PASSES_RUN = {"optimize/1-onnxoptimizer", "optimize/2-onnxruntime"}
RENAMED = ("1-rename", "2-onnxoptimizer", "3-onnxruntime")
SOURCE = {"export", "reference"}
CASES = {"reference", *PARITIES}
ALL = SOURCE | CHECKS | PARITIES | PASSES_RUN | {"benchmark", "package"}
NET = {"export", "reference", "check/export", "parity/export", "package"}

RECIPE = "mini.yaml"
MODEL = "model/m.onnx"
DATA = "model/m.data"


def recipe(old: str, new: str) -> mutations.Edit:
    return swap(RECIPE, old, new)


def recipe_of(file: str, old: str, new: str) -> mutations.Edit:
    return swap(file, old, new)


def renamed(file: str, old: str, new: str) -> mutations.Edit:
    return lambda root: (root / file).write_text((root / file).read_text().replace(old, new))


def session(text: str) -> mutations.Edit:
    return recipe("intra_op_num_threads: 1", text)


# Weights are rewritten in every way that has fooled a build tool.


def same_time(root: Path) -> None:
    """Other bytes of the same size, and the time of modification put back."""
    path = root / DATA
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(weights(root, 3))
    os.utime(path, ns=times)


def replaced(root: Path) -> None:
    (root / "new").write_bytes(weights(root, 4))
    shutil.copystat(root / DATA, root / "new")
    os.replace(root / "new", root / DATA)


def mapped(root: Path) -> None:
    with open(root / DATA, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[:4] = weights(root, 5)[:4]


def linked(root: Path) -> None:
    """A link that then leads to another file of the same size and time."""
    (root / "model/n.onnx").write_bytes((root / MODEL).read_bytes().replace(b"Relu", b"Tanh"))
    shutil.copystat(root / MODEL, root / "model/n.onnx")
    (root / MODEL).unlink()
    (root / MODEL).symlink_to("n.onnx")


SAME_GRAPH = {"export", "benchmark", *CASES, *CHECKS}
X = "    x: {dtype: float32, shape: [2, 4]}\n"
S = "    s: {dtype: float32, shape: [2, 4], data: {npz: {path: data/s.npz}}}\n"
DIMS = "dims: {batch: {min: 1, max: 5}}"
ONNX_ROWS: dict[str, tuple[mutations.Edit, set[str]]] = {
    # the model and its weights
    "model: another operator": (lambda root: write_model(root / MODEL, "Tanh"), ALL),
    "model: a link to another file": (linked, ALL),
    "weights: another content": (lambda root: put(DATA, weights(root, 1))(root), ALL),
    "weights: same size and time": (same_time, ALL),
    "weights: replaced by rename": (replaced, ALL),
    "weights: written through mmap": (mapped, ALL),
    "weights: in another file": (
        both(move(DATA, "model/n.data"), lambda root: write_model(root / MODEL, data="n.data")),
        SOURCE,  # the same values, and the wave stops
    ),
    # export
    "export.inputs: another example size": (recipe("shape: [2, 4]", "shape: [4, 4]"), SAME_GRAPH),
    "export.inputs: other data": (
        recipe("x: {dtype: float32, shape: [2, 4]}", "x: {dtype: float32, shape: [2, 4], data: {uniform: {high: 2.0}}}"),
        {*SOURCE, *PARITIES, "benchmark"},
    ),
    "export.inputs: the data's file": (put("data/s.npz", npz(7, "s")), {*SOURCE, *PARITIES, "benchmark"}),
    "export.inputs: the data's key": (
        both(recipe("{path: data/s.npz}", "{path: data/s.npz, key: t}"), put("data/s.npz", npz(1, "t"))),
        {*SOURCE, *PARITIES, "benchmark"},
    ),
    "export.inputs: the order": (both(recipe(f"{X}{S}", f"{S}{X}"), lambda root: (root / MODEL).write_bytes(_other_order(root / MODEL))), ALL),
    "export.dims: another range": (recipe(DIMS, "dims: {batch: {min: 1, max: 7}}"), {"export", *CASES}),
    "export.dims: a default written out": (recipe(DIMS, "dims: {batch: {min: 1, max: 5, multiple_of: 1}}"), set()),
    "export.dynamic_axes: another name": (both(*(renamed(path, "batch", "n") for path in (RECIPE, "common/first.yaml", "common/last.yaml"))), SAME_GRAPH),
    "export.opset": (
        both(recipe("opset: 17", "opset: 18"), lambda root: (root / MODEL).write_bytes(_opset(root / MODEL, 18))),
        ALL,
    ),
    "export.outputs": (
        both(recipe("outputs: [y]", "outputs: [z]"), recipe("y: {0: batch}", "z: {0: batch}"), lambda root: (root / MODEL).write_bytes((root / MODEL).read_bytes().replace(b"\x01y", b"\x01z"))),
        ALL,
    ),
    # steps
    "append: where there was none": (
        recipe("optimize:\n", "append: {y: {shape: [2, 4], steps: [{softmax: {}}], outputs: [p]}}\noptimize:\n"),
        (ALL | {"attach", "check/attach", "parity/attach"}) - {"export", "check/export"},
    ),
    # passes
    "optimize: an option": (recipe("[eliminate_identity]", "[eliminate_identity, eliminate_deadend]"), {"optimize/1-onnxoptimizer"}),
    "optimize: an option with an effect": (recipe("[eliminate_identity]", "[nop]"), PASSES_RUN),
    "optimize: another pass's option": (recipe("onnxruntime: {}", "onnxruntime: {disabled_optimizers: [MatMulAddFusion]}"), {"optimize/2-onnxruntime", "benchmark", "package"}),
    "optimize: hardware-bound level": (recipe("onnxruntime: {}", "onnxruntime: {graph_optimization_level: extended}"), {"optimize/2-onnxruntime", "check/2-onnxruntime", "parity/2-onnxruntime", "benchmark", "package"}),
    "optimize: a comparator from a pass on": (recipe("  - onnxruntime: {}\n", "  - onnxruntime: {}\n    parity: {outputs: {y: {sqnr: {min: 9}}}, reason: r}\n"), {"parity/2-onnxruntime"}),
    "optimize: a comparator from an earlier pass on": (recipe("[eliminate_identity]\n", "[eliminate_identity]\n    parity: {outputs: {y: {sqnr: {min: 9}}}, reason: r}\n"), {"parity/1-onnxoptimizer", "parity/2-onnxruntime"}),
    "optimize: one more": (recipe("  - onnxruntime: {}\n", "  - onnxruntime: {}\n  - onnxoptimizer: [nop]\n"), {"optimize/3-onnxoptimizer"}),
    "optimize: one less": (recipe("  - onnxruntime: {}\n", ""), {"benchmark", "package"}),
    "optimize: the order": (
        recipe("  - onnxoptimizer: [eliminate_identity]\n  - onnxruntime: {}\n", "  - onnxruntime: {}\n  - onnxoptimizer: [eliminate_identity]\n"),
        {"optimize/1-onnxruntime", "optimize/2-onnxoptimizer"},
    ),
    "optimize: other names": (
        recipe("optimize:\n", "optimize:\n  - rename: {inputs: {s: k}, outputs: {y: z}}\n"),
        {
            "reference", "parity/export", *(f"{kind}/{graph}" for kind in ("check", "parity") for graph in RENAMED),
            *(f"optimize/{graph}" for graph in RENAMED), "benchmark", "package",
        },
    ),
    # parity
    "parity.seed": (recipe("seed: 0", "seed: 1"), {*CASES, "benchmark"}),
    "parity.cases: one more": (recipe("    real:", "    more: {dims: {batch: 2}}\n    real:"), CASES),
    "parity.cases: another size": (recipe("real: {dims: {batch: 3}", "real: {dims: {batch: 4}"), CASES),
    "parity.cases: the data's file": (put("data/x.npz", npz(8, "x")), CASES),
    "parity.derive": (recipe("seed: 0", "seed: 0\n  derive: false"), CASES),
    "parity.max_elements": (recipe("seed: 0", "seed: 0\n  max_elements: 24"), CASES),
    "parity.allow_not_run": (recipe("seed: 0", "seed: 0\n  allow_not_run: ['acme::Op']"), {"reference", *PARITIES}),
    # runtime
    "runtime.session.intra_op_num_threads": (session("intra_op_num_threads: 2"), {*PARITIES, "benchmark"}),
    "runtime.session.inter_op_num_threads": (session("intra_op_num_threads: 1, inter_op_num_threads: 1"), {*PARITIES, "benchmark"}),
    "runtime.session.graph_optimization_level": (session("intra_op_num_threads: 1, graph_optimization_level: basic"), {*PARITIES, "benchmark"}),
    "runtime.session.execution_mode": (session("intra_op_num_threads: 1, execution_mode: parallel"), {*PARITIES, "benchmark"}),
    "runtime.session.enable_mem_pattern": (session("intra_op_num_threads: 1, enable_mem_pattern: false"), {*PARITIES, "benchmark"}),
    "runtime.session.enable_cpu_mem_arena": (session("intra_op_num_threads: 1, enable_cpu_mem_arena: false"), {*PARITIES, "benchmark"}),
    "runtime.session.config_entries": (session("intra_op_num_threads: 1, config_entries: {session.disable_prepacking: '1'}"), {*PARITIES, "benchmark"}),
    "runtime.providers": (recipe("\nruntime: {", "\nruntime: {providers: [XnnpackExecutionProvider, CPUExecutionProvider], "), {*PARITIES, "benchmark"}),
    "runtime.provider_options": (recipe("\nruntime: {", "\nruntime: {provider_options: {CPUExecutionProvider: {}}, "), {*PARITIES, "benchmark"}),
    "runtime.require": (recipe("\nruntime: {", "\nruntime: {require: [CPUExecutionProvider], "), {*PARITIES, "benchmark"}),
    # bases
    "base: another value": (swap("common/last.yaml", "batch: 4", "batch: 5"), {"benchmark"}),
    "base: the order": (recipe("[common/first.yaml, common/last.yaml]", "[common/last.yaml, common/first.yaml]"), {"benchmark"}),
    "base: null": (swap("common/last.yaml", "{dims: {batch: 4}}", "null"), {"benchmark"}),
    # benchmark and package
    "benchmark.warmup": (recipe("warmup: 0", "warmup: 1"), {"benchmark"}),
    "benchmark.runs": (recipe("runs: 2", "runs: 3"), {"benchmark"}),
    "benchmark.dims": (recipe("runs: 2", "runs: 2, dims: {batch: 5}"), {"benchmark"}),
    "benchmark: none": (recipe("benchmark: {warmup: 0, runs: 2}\n", "benchmark: null\n"), set()),
    "package.external_data": (recipe("benchmark:", "package: {external_data: true}\nbenchmark:"), {"package"}),
    "name": (recipe("name: mini", "name: other"), {"package"}),
}  # fmt: skip


def _opset(path: Path, version: int) -> bytes:
    import onnx

    model = onnx.load(path, load_external_data=False)
    model.opset_import[0].version = version
    data: bytes = model.SerializeToString()
    return data


def _other_order(path: Path) -> bytes:
    import onnx

    model = onnx.load(path, load_external_data=False)
    inputs = [*reversed(model.graph.input)]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    data: bytes = model.SerializeToString()
    return data


# What targets are made of. Here tensorrt is built and can't be run.


def of_target(*names: str) -> set[str]:
    """All stages of targets that can be run."""
    return {f"{kind}/{name}" for kind in ("target", "parity", "benchmark") for name in names}


RUN = of_target("ort", "openvino")
BUILT = RUN | {"target/tensorrt"}
OPENVINO = "openvino: {parity: {rtol: 1.0e-2, atol: 1.0e-2, reason: r}}"
TARGET_ROWS: dict[str, tuple[mutations.Edit, set[str]]] = {
    "ort: an option": (recipe("level: basic", "level: disable_all"), {"target/ort"}),
    "ort: hardware-bound level": (recipe("level: basic", "level: all"), {*of_target("ort"), "package"}),
    "openvino: precision": (recipe(OPENVINO, OPENVINO.replace("{", "{precision: fp16, ", 1)), {*of_target("openvino"), "package"}),
    "tensorrt: another GPU": (recipe("[SM86]", "[SM86, SM89]"), {"target/tensorrt", "package"}),
    "one less": (recipe("  tensorrt: {compute_capabilities: [SM86]}\n", ""), {"package"}),
    "a target's tolerance": (recipe("atol: 1.0e-2, reason: r}", "atol: 2.0e-2, reason: other}"), set()),
    "an option written out": (recipe("[SM86]}", "[SM86], tf32: true}"), set()),
    "a pass that changes nothing": (recipe("[eliminate_identity]", "[eliminate_identity, eliminate_deadend]"), {"optimize/1-onnxoptimizer"}),
    "a pass that changes the graph": (recipe("  - onnxruntime: {}\n", ""), {"benchmark", *BUILT, "package"}),
    "weights: in another file": ONNX_ROWS["weights: in another file"],
    "export.dims: another range": (recipe(DIMS, "dims: {batch: {min: 1, max: 7}}"), {"export", *CASES, "parity/ort", *of_target("openvino"), "target/tensorrt", "package"}),
}  # fmt: skip
TARGET_FACETS = {
    "system": {"target/ort", "target/tensorrt", "parity/openvino", "benchmark/openvino"},
    "node": set(),
}
TARGET_VERSIONS = {
    "ort": {"target/ort"},
    "openvino": {"target/openvino"},
    "tensorrt": {"target/tensorrt"},
    "coreml": set(),
}
TARGET_PACKAGES = {
    ("flatbuffers", "torch", "coremltools"): {"target/ort"},
    ("openvino",): of_target("openvino"),
    ("tensorrt-rtx-cu13",): {"target/tensorrt"},
}


# Data that passes look at.

SMALL = "smaller.yaml"


def below(number: int) -> set[str]:
    """A pass that looks at data, all that comes after it, and what proves their graphs."""
    names = ["1-quantize_static", "2-quantize_static", "3-quantize_static", "4-float16"][number - 1 :]
    return {f"{kind}/{name}" for kind in ("optimize", "check", "parity") for name in names} | {"package"}


HALF = {
    "reference",
    "optimize/4-float16",
    "parity/export",
    *(f"parity/{n}-quantize_static" for n in (1, 2, 3)),
    "parity/4-float16",
}
DATA_ROWS: dict[str, tuple[mutations.Edit, set[str]]] = {
    "npz: another content": (put("data/x.npz", mutations.pixels(5)), below(1)),
    "images: one less": (remove("pictures/a.ppm"), below(2)),
    "images: a file that is none": (put("pictures/notes.txt", "none"), set()),
    "generator: a comment": (lambda root: (root / "calibration.py").write_text(mutations.SAMPLES + "# a comment\n"), {"optimize/3-quantize_static"}),
    "generator: a file that it reads": (put("scale.json", "2.0"), below(3)),
    "float16: an option": (swap(SMALL, "float16: {}", "float16: {op_block_list: [Add]}"), below(4)),
    "float16: the data of the cases": (swap(SMALL, "seed: 0", "seed: 1"), HALF),
}  # fmt: skip


# What a model's code is made of and opens.

COMMENT = "\n# a comment\n"


def comment(file: str) -> mutations.Edit:
    return lambda root: (root / file).write_text((root / file).read_text() + COMMENT)


def shift(root: Path) -> None:
    import numpy as np

    np.save(root / "models/shift.npy", np.zeros(4, np.float32))


def relinked(target: str) -> mutations.Edit:
    return both(
        remove("weights/current.safetensors"), lambda root: (root / "weights/current.safetensors").symlink_to(target)
    )


def compiled(file: str) -> mutations.Edit:
    """A module that exists as bytecode alone."""

    def edit(root: Path) -> None:
        import py_compile

        py_compile.compile(str(root / file), cfile=str((root / file).with_suffix(".pyc")), doraise=True)
        (root / file).unlink()

    return edit


YAML = "net.yaml"
PACKAGE = "import torch\n\n\ndef block(width):\n    return torch.nn.Linear(width, 4).requires_grad_(False).apply(lambda m: m.weight.mul_(3.0))\n"
TORCH_ROWS: dict[str, tuple[mutations.Edit, set[str]]] = {
    # source: a comment runs the two stages that load it, and their results stop the wave
    "source: the factory's module": (comment("models/net.py"), SOURCE),
    "source: a helper": (comment("models/layers.py"), SOURCE),
    "source: imported inside forward": (comment("models/lazy.py"), SOURCE),
    "source: imported by importlib": (comment("models/named.py"), SOURCE),
    "source: imported by __init__": (comment("models/side.py"), SOURCE),
    "source: __init__": (comment("models/__init__.py"), SOURCE),
    "source: of a namespace package": (comment("space/name.py"), SOURCE),
    "source: the custom operator": (comment("models/ops.py"), SOURCE),
    "source: the operator's symbolic": (comment("models/symbolic.py"), {"export"}),
    "source: bytecode alone": (compiled("models/lazy.py"), SOURCE),
    # source with an effect
    "source: a helper does something else": (swap("models/layers.py", "Linear(width, 4)", "Linear(width, 4).double().float().requires_grad_(False).apply(lambda m: m.weight.mul_(2.0))"), NET),
    "source: late code does something else": (swap("models/lazy.py", "+ 1.0", "+ 2.0"), NET),
    "source: a package before a module": (put("models/layers/__init__.py", PACKAGE), NET),
    "source: a package in the place of a namespace": (both(put("space/__init__.py", ""), put("space/name.py", "BIAS = 7.0\n")), NET),
    "source: an empty package in the place of a namespace": (put("space/__init__.py", ""), SOURCE),
    "source: a module that was missing": (put("models/fast.py", ""), NET),
    # files that the code opens, or looks for
    "file: json": (put("models/scale.json", '{"scale": 4.0}'), NET),
    "file: npy": (shift, NET),
    "file: one that could not be opened": (put("models/override.json", '{"scale": 9.0}'), NET),
    "file: one that did not exist": (put("settings.json", "{}"), NET),
    "file: one more in a folder that is listed": (put("models/parts/two.txt", ""), NET),
    # the recipe
    "model.factory": (recipe_of(YAML, "models.net:make", "models.net:other"), SOURCE),
    "model.kwargs": (both(recipe_of(YAML, "width: 4}", "width: 5}"), recipe_of(YAML, "shape: [2, 4]", "shape: [2, 5]")), NET),
    "model.kwargs: the order": (recipe_of(YAML, "{add: 0.0, width: 4}", "{width: 4, add: 0.0}"), SOURCE),
    "model.seed": (recipe_of(YAML, "seed: 0", "seed: 1"), NET),
    "model.checkpoint: another content": (put("weights/one.safetensors", checkpoint(3)), NET),
    "model.checkpoint: a link to another file": (relinked("two.safetensors"), NET),
    "model.checkpoint: none": (recipe_of(YAML, "    checkpoint: {path: weights/current.safetensors, strict: false}\n", ""), NET),
    "export.exporter": (both(recipe_of(YAML, "exporter: torchscript", "exporter: dynamo"), recipe_of(YAML, "opset: 17", "opset: 18")), NET - {"reference"}),
    "export.opset": (recipe_of(YAML, "opset: 17", "opset: 18"), NET - {"reference"}),
    "export.arguments": (recipe_of(YAML, "{args: [x]}", "{kwargs: {x: x}}"), SOURCE),
    "symbolics: another function": (
        both(recipe_of(YAML, "models.symbolic:twice", "models.symbolic:sum"), comment("models/symbolic.py"), put("models/symbolic.py", "def sum(op, x):\n    return op.Add(x, x)\n")),
        NET - {"reference"},
    ),
}  # fmt: skip


# Our own code, the machine, what is installed.

FACETS = {"python": SOURCE, "cpu_flags": {*PARITIES, "benchmark"}, "cpu": {"benchmark"}, "cores": {"benchmark"}}
VERSIONS = {
    ("stage", "export"): {"export"},
    ("stage", "reference"): {"reference"},
    ("stage", "check"): CHECKS,
    ("stage", "optimize"): PASSES_RUN,
    ("stage", "parity"): PARITIES,
    ("stage", "benchmark"): {"benchmark"},
    ("stage", "package"): {"package"},
    ("source", "onnx"): SOURCE,
    ("source", "pytorch"): set(),
    ("pass", "onnxoptimizer"): {"optimize/1-onnxoptimizer"},
    ("pass", "onnxruntime"): {"optimize/2-onnxruntime"},
    ("pass", "onnxsim"): set(),
}
LOADS_ONNX = ALL - {"benchmark"}
RUNTIME = {"reference", *CHECKS, *PARITIES, "optimize/2-onnxruntime", "benchmark"}
PACKAGES = {
    "numpy": ALL,
    "ml-dtypes": ALL,
    "onnx": LOADS_ONNX,
    "protobuf": LOADS_ONNX,
    distributions.runtime_distribution(): RUNTIME,
    "onnxoptimizer": {"optimize/1-onnxoptimizer"},
    "torch": set(),
    "onnxscript": set(),
    "onnxsim": set(),
    "safetensors": set(),
    "msgspec": set(),
    "pyyaml": set(),
    "jinja2": set(),
    "pytest": set(),
}


# What may run nothing.


def touch(root: Path) -> None:
    for path in root.rglob("*"):
        if not mutations.NEVER & set(path.relative_to(root).parts):
            os.utime(path)


def modes(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and not mutations.NEVER & set(path.relative_to(root).parts):
            path.chmod(0o600)


def reordered(file: str) -> mutations.Edit:
    """The same recipe with its keys in another order and layout."""

    def edit(root: Path) -> None:
        import yaml

        def turned(value):
            if not isinstance(value, dict):
                return [turned(item) for item in value] if isinstance(value, list) else value
            keep = {"inputs", "dims", "x", "s", "y"} & value.keys()  # the order of inputs is the graph's
            return {key: turned(value[key]) for key in (value if keep else reversed(value))}

        whole = yaml.safe_load((root / file).read_text())
        (root / file).write_text(yaml.safe_dump(turned(whole), sort_keys=False, default_flow_style=False))

    return edit


NOTHING: dict[str, mutations.Edit] = {
    "touch": touch,
    "chmod": modes,
    "YAML: comments": lambda root: [path.write_text("# new\n" + path.read_text()) for path in root.glob("*.yaml")],
    "YAML: line ends": lambda root: [
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")) for path in root.glob("*.yaml")
    ],
    "a description": lambda root: [
        path.write_text(path.read_text() + "description: words\n") for path in root.glob("*.yaml")
    ],
    "an unrelated file": put("notes.txt", "hello"),
    "an unrelated module": put("models/another.py", "import this"),
    "an unrelated module at the root": put("another.py", ""),
    "an unrelated package": put("tools/__init__.py", ""),
    "another recipe": put("broken.yaml", "version: 1\n"),
    "a repository": put(".git/HEAD", "ref: refs/heads/main"),
    "a virtual environment": put(".venv/lib/python3.11/site-packages/numpy/__init__.py", ""),
    "a module that would hide the standard library's": put("json.py", ""),
    "what an editor leaves": put("models/.net.py.swp", "x"),
    "bytecode": put("models/__pycache__/net.cpython-311.pyc", b"x"),
}
MINI_NOTHING: dict[str, mutations.Edit] = {
    "base: a value that the next one replaces": swap("common/first.yaml", "batch: 3", "batch: 5"),
    "base: a comment": both(*(put(f"common/{name}.yaml", f"# words\n{text}") for name, text in mutations.BASES.items())),
    "base: one under the other": both(recipe("[common/first.yaml, common/last.yaml]", "common/last.yaml"), put("common/last.yaml", "base: first.yaml\n" + mutations.BASES["last"])),
    "base: written out": both(recipe("base: [common/first.yaml, common/last.yaml]\n", ""), recipe("runs: 2", "runs: 2, dims: {batch: 4}")),
    "base: in another folder": both(recipe("common/last.yaml", "deeper/last.yaml"), put("deeper/last.yaml", mutations.BASES["last"]), remove("common/last.yaml")),
    "YAML: the order of keys": reordered(RECIPE),
    "YAML: quotes and numbers": both(recipe("name: mini", "name: 'mini'"), recipe("rtol: 1.0e-3", "rtol: 0.001")),
    "YAML: defaults written out": recipe("onnxruntime: {}", "onnxruntime: {graph_optimization_level: basic}"),
    "parity.rtol": recipe("rtol: 1.0e-3", "rtol: 2.0e-3\n  reason: r"),
    "parity.allow_vacuous": recipe("seed: 0", "seed: 0\n  allow_vacuous: true"),
    "parity.atol": recipe("atol: 1.0e-5", "atol: 2.0e-5\n  reason: r"),
    "parity.outputs": recipe("parity:", "parity:\n  outputs: {y: {rtol: 1.0e-2, reason: r}}"),
    "a pass's tolerance": recipe("  - onnxruntime: {}\n", "  - onnxruntime: {}\n    parity: {rtol: 2.0e-3, reason: r}\n"),
    "the model's file has another name": both(move(MODEL, "model/other.onnx"), recipe(MODEL, "model/other.onnx")),
    "the digest of the model's file written down": lambda root: recipe("path: model/m.onnx", f"path: model/m.onnx, sha256: {_sha256(root / MODEL)}")(root),
}  # fmt: skip
NET_NOTHING: dict[str, mutations.Edit] = {
    "the checkpoint has another name": both(move("weights/one.safetensors", "weights/other.safetensors"), relinked("other.safetensors")),
    "the checkpoint is no link": both(
        remove("weights/current.safetensors"), lambda root: shutil.copy(root / "weights/one.safetensors", root / "weights/current.safetensors")
    ),
    "a file that the model doesn't open": put("weights/two.safetensors", checkpoint(9)),
    "a module that nothing imports": comment("models/unused.py"),
    "a file in a folder that is listed changes": put("models/parts/one.txt", "x"),
    "a folder that could be a module": lambda root: (root / "models/layers").mkdir(),
    "the tolerance": lambda root: (root / YAML).write_text((root / YAML).read_text() + "parity: {rtol: 1.0e-2, reason: r}\n"),
}  # fmt: skip
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "HOME": {"HOME": "/nonexistent", "USER": "somebody", "LOGNAME": "somebody"},
    "TZ": {"TZ": "Asia/Tokyo"},
    "LC_ALL": {"LC_ALL": "C", "LANG": "de_DE.UTF-8"},
    "PYTHONHASHSEED": {"PYTHONHASHSEED": "7"},
    "threads": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    "any variable": {"ANYTHING": "x", "TERM": "dumb", "NO_COLOR": "1"},
}


def _sha256(path: Path) -> str:
    from onnxbuild.system.files import sha256_file

    return sha256_file(path)
