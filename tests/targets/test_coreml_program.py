"""The coreml target made from the PyTorch model itself: what onnx2coreml refuses, several sizes, a range of them."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from proof import proven
from workspace import Workspace

pytest.importorskip("onnx2coreml", reason="the extra `coreml` is not installed")

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Shapes, Trait
from onnxbuild.errors import StageError
from onnxbuild.plan import planner
from onnxbuild.runtimes import mil
from onnxbuild.targets import coreml
from onnxbuild.targets import coreml_package as package
from onnxbuild.targets.coreml import Options

# Its running sum has no lowering in onnx2coreml; its choice is of numbers, by a condition that has axes.
NET = """\
import torch
from parts import WIDTH

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, WIDTH)

    def forward(self, x, k):
        y = torch.relu(self.linear(x))
        side = torch.where((k > 3)[:, None, None], 0.5, -0.5)
        return {"total.1": y.cumsum(-1), "plain": y * 2 + side, "next": k + 1}
"""
RECIPE = """\
version: 1
name: net
model: {pytorch: {factory: net:Net, seed: 3}}
export:
  exporter: torchscript
  opset: 17
  inputs:
    x: {dtype: float32, shape: [2, 5, 6]}
    k: {dtype: int64, shape: [2], data: {integers: {low: 0, high: 9}}}
  outputs: [total.1, plain, next]
  dynamic_axes: {x: {0: N, 1: T}, k: {0: N}, total.1: {0: N, 1: T}, plain: {0: N, 1: T}, next: {0: N}}
  dims: {N: {min: 1, max: 4}, T: {min: 2, max: 40}}
optimize: [{onnxoptimizer: [eliminate_identity]}]
targets:
  coreml: {source: program, minimum_deployment_target: iOS18, compute_precision: FLOAT32, dims: {N: [4, 1], T: 7}}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = Workspace.make(tmp_path_factory.mktemp("coreml") / "project")
    made.write("net.py", NET)
    made.write("parts.py", "WIDTH = 8\n")
    made.write("net.yaml", RECIPE)
    made.run("run", "net.yaml")
    return made


def inputs(n: int, t: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {"x": rng.normal(size=(n, t, 6)).astype(np.float32), "k": np.arange(n)}


def compared(workspace: Workspace) -> set[str]:
    return {row["case"] for row in workspace.report("net")["parity"] if row["stage"] == "parity/coreml"}


def test_a_list_of_shapes_is_one_package_that_computes_at_each(built):
    library = mil.library()
    folder = built.root / "build/net"
    opened = mil.open(folder / "coreml", {}, ["total.1", "plain", "next"])
    session = onnxruntime.InferenceSession(folder / "model.onnx")

    for n in (4, 1):
        got = opened.call(inputs(n, 7))
        expected = session.run(["total.1", "plain", "next"], inputs(n, 7))
        for array, reference in zip(got.values(), expected, strict=True):
            np.testing.assert_allclose(array, reference, rtol=1e-5, atol=1e-6)
    with pytest.raises(
        StageError, match=r"input 'x' is bound to \[4, 7, 6\] or \[1, 7, 6\], and was given \[2, 7, 6\]"
    ):
        opened.call(inputs(2, 7))
    spec = library.models.MLModel(str(folder / "coreml" / package.PACKAGE), skip_model_load=True).get_spec()
    shapes = [list(one.shape) for one in spec.description.input[0].type.multiArrayType.enumeratedShapes.shapes]
    assert shapes == [[4, 7, 6], [1, 7, 6]]
    assert [value.name for value in spec.description.output] == ["total_1", "plain", "next"]
    assert not [key for key in spec.description.metadata.userDefined if "date" in key]


def test_the_report_says_what_it_was_made_of_and_where_it_was_compared(built):
    report = built.report("net")
    (told,) = report["targets"]
    notes = " ".join(report["notes"])

    assert told["level"] == "emulated"
    assert compared(built) == {"N=4,T=7", "N=1,T=7"}
    assert "the files are bound to N=4|1, T=7: compared there alone" in told["why"]
    assert "made from the source model: the passes of `optimize` are not in it" in notes
    assert "takes these shapes: x is [4, 7, 6] or [1, 7, 6], k is [4] or [1]" in notes
    assert "total.1 is called total_1 in Core ML, which takes no such name" in notes


def asked(workspace: Workspace) -> tuple[Options, Shapes, list[str]]:
    """What the recipe asks of the target, what it is told of the inputs, and the cases that it is compared at."""
    plan = planner.plan(recipes.load(workspace.root / "net.yaml").recipe, workspace.root)
    (stage,) = plan.those(Trait.TARGETS)
    proof = next(one for one in plan.stages if one.name == "parity/coreml")
    shapes = msgspec.convert(stage.options["shapes"], Shapes)
    return msgspec.convert(stage.options["options"], Options), shapes, [one["name"] for one in proof.options["cases"]]


def test_a_range_of_sizes_is_compared_at_every_case(built, edited, tmp_path):
    edited.replace("net.yaml", "dims: {N: [4, 1], T: 7}}", "dims: {N: from_dims, T: from_dims}}")
    options, shapes, cases = asked(edited)
    _, notes = coreml.build_from(program(nothing, times=40), options, tmp_path, shapes)
    opened = mil.open(tmp_path, {}, ["total.1", "plain", "next"])

    assert cases == [row["case"] for row in built.report("net")["parity"] if row["stage"] == "parity/export"][::3]
    assert notes[0] == "takes a range of sizes: N 1 to 4, T 2 to 40"
    for n, t in ((2, 5), (1, 40), (4, 2)):
        got = opened.call(inputs(n, t))
        expected = own()(*map(torch.from_numpy, inputs(n, t).values())).values()
        for array, reference in zip(got.values(), expected, strict=True):
            np.testing.assert_allclose(array, reference.detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(StageError, match=r"input 'x' is bound to \[1 to 4, 2 to 40, 6\], and was given \[5, 40, 6\]"):
        opened.call(inputs(5, 40))


def test_it_is_made_again_for_the_models_code_and_for_no_pass(edited):
    edited.replace("net.yaml", "optimize: [{onnxoptimizer: [eliminate_identity]}]\n", "")
    assert planned(edited, "target/coreml")["state"] == "up to date"

    edited.write("parts.py", "WIDTH = 8  # of the layer\n")
    found = planned(edited, "target/coreml")
    assert (found["state"], "parts.py" in str(found["why"])) == ("run", True)


def planned(workspace: Workspace, stage: str) -> dict:
    (plan,) = json.loads(workspace.run("plan", "--json", "net.yaml").out)["recipes"]
    return next(one for one in plan["stages"] if one["name"] == stage)


class Changed(torch.nn.Module):
    """The recipe's model, less what a converter might lose: what comes out goes through `fault`."""

    def __init__(self, net: torch.nn.Module, fault) -> None:
        super().__init__()
        self.net, self.fault = net, fault

    def forward(self, x: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.fault(self.net, *self.net(x, k).values()))


def own() -> torch.nn.Module:
    made: dict = {}
    exec(NET.replace("from parts import WIDTH", "WIDTH = 8"), made)
    torch.manual_seed(3)
    return made["Net"]().eval()


def program(fault, times: int = 0) -> torch.export.ExportedProgram:
    """As torch.export has it, dynamic in N and, where `times` is its end, in T."""
    axes = {0: torch.export.Dim("N", min=1, max=4)}
    more = {1: torch.export.Dim("T", min=2, max=times)} if times else {}
    example = (torch.randn(2, 7, 6), torch.arange(2))
    return torch.export.export(Changed(own(), fault), example, dynamic_shapes={"x": axes | more, "k": axes})


def nothing(_, *results):
    return results


def scaled(net, *results):
    return (results[0], results[1] + 0.01 * net.linear.weight[0, 0], results[2])


def swapped(_, total, plain, following):
    return plain, total, following


def dropped(_, total, plain, following):
    return total, plain[..., 0], following


FAULTS = [(nothing, set()), (scaled, {"plain"}), (swapped, {"total.1", "plain"}), (dropped, {"plain"})]


@pytest.mark.parametrize(("fault", "outputs"), FAULTS)
def test_a_fault_between_the_model_and_the_package_is_found(built, tmp_path, fault, outputs):
    options, shapes, _ = asked(built)

    def change(files):
        made, _ = coreml.build_from(program(fault), options, tmp_path, shapes)
        for name, path in made.items():
            files[name].write_bytes(path.read_bytes())

    rows = proven(built, "net", "coreml", tmp_path, change)

    assert {row["case"] for row in rows} == {"N=4,T=7", "N=1,T=7"}
    assert {row["output"] for row in rows if row["error"] or row["max_abs"] > 1e-5} == outputs


def test_where_the_graph_is_refused_the_other_way_is_named(edited):
    edited.replace("net.yaml", "source: program, ", "")
    said = " ".join(edited.run("run", "net.yaml", code=1).text.split())

    assert "onnx2coreml has no CumSum" in said
    assert (
        "hint: give targets.coreml.source: program, to try the source model itself; or write the model with other"
        in said
    )


def test_what_coremltools_has_no_operator_for_is_named(tmp_path):
    class Sorted(torch.nn.Module):
        def forward(self, x):
            return (torch.linalg.qr(x)[0],)

    made = torch.export.export(Sorted(), (torch.eye(3),))
    shapes = Shapes({"x": {"dtype": "float32", "shape": [3, 3]}}, ["y"])
    with pytest.raises(StageError, match=r"coremltools can't convert the program of torch\.export: .*qr") as refused:
        coreml.build_from(made, Options(source="program"), tmp_path, shapes)

    assert refused.value.hint == "write the model with other operators, or take coreml out of targets"


@pytest.mark.heavy
def test_the_same_bytes_in_other_surroundings(edited):
    assert "target/coreml, the same bytes" in edited.run("verify", "--rebuild", "net.yaml").out
