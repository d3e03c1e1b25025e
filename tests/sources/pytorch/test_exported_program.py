"""Programs of torch.export: what they say of themselves, what a recipe may ask of them, and archives from elsewhere."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.export import Dim

from onnxbuild.contracts import Task
from onnxbuild.errors import StageError
from onnxbuild.sources.pytorch import Checkpoint, Options, files, inspecting, loading, programs, pt2, recognised, wrong
from onnxbuild.sources.pytorch.adapter import Adapter

MODEL = """\
import torch
from torch.export import Dim


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x, mask=None, state=None, mode="sum"):
        y = self.head(x)
        y = y if mask is None else y * mask
        y = y if state is None else y + state[0] - state[1]
        return {"y": y, "both": (torch.cat([y, y]).sum(1) if mode == "sum" else torch.cat([y, y]).mean(1),)}


def program():
    torch.manual_seed(0)
    batch, state = Dim("batch", min=1, max=16), torch.randn(2, 4)
    inputs = {"mask": torch.ones(2, 4), "state": (state, state + 1)}
    axes = {"x": {0: batch}, "mask": {0: batch}, "state": ({0: batch}, {0: batch})}
    return torch.export.export(Net(), (torch.randn(2, 8),), inputs, dynamic_shapes=axes)


def module():
    return Net()
"""


@pytest.fixture(scope="module")
def net():
    namespace: dict = {"__name__": "net"}
    exec(compile(MODEL, "net.py", "exec"), namespace)
    return namespace


@pytest.fixture(scope="module")
def archive(net, tmp_path_factory):
    """A .pt2 file."""
    path = tmp_path_factory.mktemp("archive") / "net.pt2"
    torch.export.save(net["program"](), path)
    return path


def test_a_program_says_it_all(net, archive):
    for program in (net["program"](), pt2.load(archive)):
        found = programs.interface(program)
        assert [(value.name, value.dtype, value.shape) for value in found.inputs] == [
            ("x", "float32", ["batch", 8]),
            ("mask", "float32", ["batch", 4]),
            ("state_0", "float32", ["batch", 4]),
            ("state_1", "float32", ["batch", 4]),
        ]
        assert [(value.name, value.shape) for value in found.outputs] == [("y", ["batch", 4]), ("both.0", ["2*batch"])]
        assert found.dims == {"batch": {"min": 1, "max": 16}}
        assert found.sizes == {"batch": 2}
        assert found.arguments == {"args": ["x"], "kwargs": {"mask": "mask", "state": ["state_0", "state_1"]}}


class Images(torch.nn.Module):
    def forward(self, image, ids, scale, mode="nearest"):
        tokens = ids["tokens"].cumsum(1)
        return torch.nn.functional.interpolate(image, scale_factor=2.0, mode=mode) * scale, tokens[:, 1:]


@pytest.fixture(scope="module")
def images():
    axes = {
        "image": {2: 8 * Dim("h", min=1, max=10)},
        "ids": {"tokens": {1: Dim("s", min=3)}},
        "scale": None,
        "mode": None,
    }
    inputs = (torch.zeros(1, 3, 16, 24), {"tokens": torch.zeros(2, 5, dtype=torch.int64)}, 3, "nearest")
    return torch.export.export(Images(), inputs, dynamic_shapes=axes)


def test_multiples_constants_and_nested_inputs(images):
    found = programs.interface(images)
    assert {value.name: value.shape for value in (*found.inputs, *found.outputs)} == {
        "image": [1, 3, "height", 24],
        "ids_tokens": [2, "sequence"],
        "output_0": [1, 3, "2*height", 48],
        "output_1": [2, "sequence - 1"],
    }
    assert found.dims == {
        "height": {"min": 8, "max": 80, "multiple_of": 8},
        "sequence": {"min": 3},
    }
    constants = [{"constant": 3}, {"constant": "nearest"}]
    assert found.arguments == {"args": ["image", {"tokens": "ids_tokens"}, *constants], "kwargs": {}}
    adapter = Adapter(
        images.module(), [value.name for value in found.inputs], ["output_0", "output_1"], found.arguments
    )
    made = adapter(torch.ones(1, 3, 8, 24), torch.ones(2, 4, dtype=torch.int64))
    assert [list(one.shape) for one in made] == [[1, 3, 16, 48], [2, 3]]
    assert float(made[0].max()) == 3


def asked(images, axes, dims):
    found = programs.interface(images)
    adapter = Adapter(
        images.module(),
        ["picture", "words"],
        ["a", "b"],
        json.loads(json.dumps(found.arguments).replace('"image"', '"picture"').replace('"ids_tokens"', '"words"')),
    )
    export = {"inputs": {"picture": {}, "words": {}}, "dynamic_axes": axes, "dims": dims}
    programs.require(images, adapter, programs.asked_by_recipe(export))


def test_what_a_program_was_not_captured_for_is_refused_with_the_axis(images):
    height = {"picture": {"2": "h"}}
    asked(images, height, {"h": {"min": 8, "max": 64, "multiple_of": 16}})
    asked(images, {"words": {"1": "s"}}, {"s": {"min": 3}})
    for axes, dims, fact, hint in (
        (
            {"picture": {"0": "n"}},
            {},
            "axis 0 of picture is 1 in the program, whatever goes in",
            "take it out of export.dynamic_axes, or export the program anew",
        ),
        (
            height,
            {"h": {"min": 8, "max": 96, "multiple_of": 8}},
            "axis 2 of picture goes from 8 to 80 in the program, in the recipe ('h') from 8 to 96",
            "narrow export.dims.h, or export the program anew for a wider range",
        ),
        (
            height,
            {"h": {"min": 8, "max": 80}},
            "axis 2 of picture has multiples of 8 in the program",
            "say so in export.dims.h: {multiple_of: 8}",
        ),
        (
            {"words": {"1": "s"}},
            {"s": {"min": 2}},
            "axis 1 of words goes from 3 in the program, in the recipe ('s') from 2",
            "narrow export.dims.s",
        ),
    ):
        with pytest.raises(StageError) as raised:
            asked(images, axes, dims)
        assert fact in raised.value.fact
        assert hint in raised.value.hint


def test_one_dimension_has_one_name(net):
    program = net["program"]()
    adapter = Adapter(
        program.module(), ["x", "mask", "a", "b"], ["y"], {"kwargs": {"x": "x", "mask": "mask", "state": ["a", "b"]}}
    )
    cases = [
        {"dims": {"n": n, "m": m}, "shapes": {"x": [n, 8], "mask": [m, 4], "a": [n, 4], "b": [n, 4]}}
        for n, m in ((2, 3), (3, 2), (32, 5))
    ]
    with pytest.raises(StageError) as raised:
        programs.require(program, adapter, programs.asked_by_cases(cases))
    assert "axis 0 of x goes from 1 to 16 in the program, in the recipe ('n') from 2 to 32" in raised.value.fact
    assert "axis 0 of mask is one dimension with axis 0 of x in the program" in raised.value.fact
    with pytest.raises(StageError) as raised:
        programs.require(program, adapter, programs.asked_by_cases(cases[:2]))
    assert raised.value.hint == "call it 'n' in export.dynamic_axes"


def test_only_what_no_recipe_can_say_is_refused():
    from collections import namedtuple

    Pair = namedtuple("Pair", "a b")  # noqa: PYI024  # what torch.export registers by itself

    class Sum(torch.nn.Module):
        def forward(self, pair):
            return pair.a + pair.b

    program = torch.export.export(Sum(), (Pair(torch.ones(2), torch.ones(2)),))
    assert programs.interface(program).arguments == {"args": [["pair_a", "pair_b"]], "kwargs": {}}
    with pytest.raises(StageError, match="the program takes a slice") as raised:
        programs._listed(slice(1))
    assert raised.value.hint == "export it from a module that takes tensors, lists and mappings"


def test_a_factory_or_an_archive():
    assert files(Options(path="m.pt2")) == {"program": "m.pt2"}
    assert files(Options("a:b", checkpoint=Checkpoint("w.pt"))) == {"checkpoint": "w.pt"}
    assert recognised(Path("a/m.pt2"), "m.pt2") == {"path": "m.pt2"}
    assert recognised(Path("a/m.pt"), "m.pt") is None
    assert list(wrong(Options(path="m.pt2"))) == list(wrong(Options("a:b", kwargs={"a": 1}, seed=3))) == []
    for options, told in (
        (
            Options(),
            ("", "neither 'factory' nor 'path' is given", "give one: module:callable, or the path of a .pt2 archive"),
        ),
        (
            Options("a:b", path="m.pt2"),
            ("path", "a 'factory' is given too", "give one of them: an archive holds the whole model"),
        ),
        (
            Options("a:b", sha256="0" * 64),
            ("sha256", "'sha256' is of an archive, and there is a factory", "a checkpoint has its own"),
        ),
        (
            Options(path="m.pt2", seed=1),
            ("seed", "'seed' means nothing for an archive", "an archive holds its weights; remove it"),
        ),
    ):
        assert list(wrong(options)) == [told]


class Runs:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def rewritten(archive, target, change, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w", compression) as new:
        records = {name: old.read(name) for name in old.namelist()}
        change(records)
        for name, content in records.items():
            new.writestr(name, content)
    return target


def replaced(record, old, new):
    def change(records):
        assert old in records[record]
        records[record] = records[record].replace(old, new)

    return change


PROGRAM, CONFIG = "net/models/model.json", "net/data/weights/model_weights_config.json"


def pickled(path):
    def change(records):
        file = io.BytesIO()
        torch.save((Runs(path),), file)
        records["net/data/sample_inputs/model.pt"] = file.getvalue()

    return change


def evil(path):
    return f"__import__('pathlib').Path('{path}').touch()".encode()


CHANGES = {
    "weights that are pickled": (
        lambda _: replaced(CONFIG, b'"use_pickle": false', b'"use_pickle": true'),
        "'head.weight' is a pickle, which may call code",
    ),
    "inputs that are pickled": (pickled, "its sample inputs hold more than tensors and plain values"),
    "a size": (
        lambda path: replaced(PROGRAM, b"Symbol(", evil(path) + b" or Symbol("),
        "is more than arithmetic on sizes",
    ),
    "a size's attribute": (
        lambda _: replaced(PROGRAM, b"Symbol(", b"Symbol.mro() or Symbol("),
        "is more than arithmetic on sizes",
    ),
    "a guard": (
        lambda path: replaced(PROGRAM, b"\"L['x'].size()", b'"' + evil(path) + b" or L['x'].size()"),
        "is more than arithmetic on sizes",
    ),
    "a function": (
        lambda _: replaced(PROGRAM, b"torch.ops.aten.cat.default", b"torch.os.system"),
        "it calls 'torch.os.system', which is no operator",
    ),
    "a file": (
        lambda _: replaced(PROGRAM, b"torch.ops.aten.cat.default", b"torch.ops.aten.from_file.default"),
        "which is no operator",
    ),
    "a module": (
        lambda _: replaced(PROGRAM, b'"nn_module_stack": "', b'"nn_module_stack": "__enum__'),
        "it names a Python module to import",
    ),
    "a library": (
        lambda _: lambda records: records.update({"net/data/aotinductor/model/a.so": b""}),
        "it holds 'data/aotinductor/model/a.so'",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_an_archive_that_may_run_code_is_refused_and_runs_none(archive, tmp_path, kind):
    make, fact = CHANGES[kind]
    path = rewritten(archive, tmp_path / "net.pt2", make(tmp_path / "ran"))
    with pytest.raises(StageError, match=r"net\.pt2 is refused: ") as raised:
        pt2.load(path)
    assert fact in raised.value.fact
    assert raised.value.hint.startswith("where you trust it, let a `factory` return torch.export.load(path)")
    assert not (tmp_path / "ran").exists()


def test_archives_that_are_none(archive, tmp_path):
    path = tmp_path / "net.pt2"
    older = lambda records: records.update({"net/serialized_exported_program.json": records.pop(PROGRAM)})
    for fact, write in (
        ("is no .pt2 archive, which is a zip file", lambda: path.write_bytes(pickle.dumps(Runs(tmp_path / "ran")))),
        ("is not a readable .pt2 archive: ", lambda: path.write_bytes(archive.read_bytes()[:500])),
        ("is of an older torch's form", lambda: rewritten(archive, path, older)),
        ("holds no exported program", lambda: rewritten(archive, path, lambda records: records.pop(PROGRAM))),
        (
            "has no record 'data/constants",
            lambda: rewritten(archive, path, lambda r: r.pop("net/data/constants/model_constants_config.json")),
        ),
        ("is refused: 'net/", lambda: rewritten(archive, path, lambda _: None, zipfile.ZIP_DEFLATED)),
        ("can't be loaded by torch", lambda: rewritten(archive, path, replaced(PROGRAM, b'"nodes"', b'"knots"'))),
    ):
        write()
        with pytest.raises(StageError) as raised:
            pt2.load(path)
        assert fact in raised.value.fact
        assert raised.value.hint.startswith("save it anew by torch.export.save, from a program of tensors")
    assert not (tmp_path / "ran").exists()
    assert pt2.load(rewritten(archive, path, lambda _: None)).graph_signature.user_inputs[0] == "x"


@pytest.fixture
def project(workspace, archive):
    workspace.write("net.py", MODEL)
    (workspace.root / "net.pt2").write_bytes(archive.read_bytes())
    return workspace


@pytest.mark.heavy
def test_an_archive_is_built_with_nothing_said_of_it(project, net):
    project.write("m.yaml", "version: 1\nname: m\nmodel: {pytorch: {path: net.pt2}}\n")
    project.run("run", "m.yaml")
    path = project.root / "build/m/model.onnx"
    assert [value.name for value in onnx.load(path).graph.input] == ["x", "mask", "state_0", "state_1"]
    report = project.report("m")
    assert {row["status"] for row in report["parity"]} == {"passed"}
    assert {one["dims"]["batch"] for one in report["stages"][0]["facts"]["cases"]} >= {1, 2, 16}
    x, mask, state = (np.full(shape, 0.5, np.float32) for shape in ((3, 8), (3, 4), (3, 4)))
    given = {"x": x, "mask": mask, "state_0": state, "state_1": state}
    y, both = onnxruntime.InferenceSession(path).run(None, given)
    wanted = net["program"]().module()(
        *map(torch.from_numpy, (x,)), mask=torch.from_numpy(mask), state=(torch.from_numpy(state),) * 2
    )
    np.testing.assert_allclose(y, wanted["y"].detach(), rtol=1e-5)
    assert both.shape == (6,)

    project.write(
        "wide.yaml", project.read("m.yaml").replace("name: m", "name: wide") + "export: {dims: {batch: {max: 64}}}\n"
    )
    ran = project.run("run", "wide.yaml", code=1)
    assert "axis 0 of x goes from 1 to 16 in the program, in the recipe ('batch') from 1 to 64" in ran.err

    replaced_ = rewritten(
        project.root / "net.pt2",
        project.root / "other.pt2",
        replaced(CONFIG, b'"use_pickle": false', b'"use_pickle": true'),
    )
    replaced_.replace(project.root / "net.pt2")
    ran = project.run("run", "m.yaml", code=None)
    assert ran.code != 0
    assert "net.pt2 is refused: 'head.weight' is a pickle" in ran.err


def test_a_factory_may_give_a_program(project, monkeypatch):
    monkeypatch.syspath_prepend(str(project.root))
    built = loading.build({"factory": "net:program"}, {}, project.root)
    assert programs.interface(built.program).sizes == {"batch": 2}
    assert not built.model.training

    options = {"source": {"pytorch": {"factory": "net:program"}}, "given": {}, "example": ""}
    found = inspecting.inspect(Task("inspect", "", options, {}, str(project.root), "", ""))
    assert found.interface == programs.interface(built.program)
    assert 0 < found.atol < 1e-3
    assert "their axes and ranges are those of the exported program" in found.looked[0]


def test_a_string_goes_to_forward(project):
    project.write(
        "mean.yaml",
        """\
        version: 1
        name: mean
        model: {pytorch: {factory: "net:module"}}
        export:
          inputs: {x: {dtype: float32, shape: [2, 8]}}
          outputs: [y, both.0]
          dynamic_axes: {x: {0: batch}, y: {0: batch}, both.0: {0: rows}}
          dims: {batch: {max: 4}, rows: 2*batch}
          arguments: {kwargs: {x: x, mask: {constant: null}, mode: {constant: mean}}}
        """,
    )
    project.run("run", "mean.yaml")
    model = onnx.load(project.root / "build/mean/model.onnx")
    assert "ReduceMean" in {node.op_type for node in model.graph.node}
