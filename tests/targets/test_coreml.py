"""The coreml target through the front door: a recipe, a run, the package that came out, interpreted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from proof import proven
from workspace import Workspace

pytest.importorskip("onnx2coreml", reason="the extra `coreml` is not installed")

from onnxbuild import recipe as recipes
from onnxbuild.contracts import Shapes
from onnxbuild.errors import StageError
from onnxbuild.plan import planner
from onnxbuild.runtimes import mil
from onnxbuild.targets import coreml
from onnxbuild.targets import coreml_package as package

# Transposes that conversion moves about, an output whose name Core ML does not take, an integer that it takes smaller.
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,6,5,3] x, int64[N] k) => (float[N,6,5,4] y, float[N,6,5,4] "z.1", int64[N] next)
<float[4,3,1,1] w = {%s}, int64 one = {1}>
{
    a = Transpose <perm=[0,3,1,2]> (x)
    b = Conv (a, w)
    y = Transpose <perm=[0,2,3,1]> (b)
    c = Relu (b)
    d = Transpose <perm=[0,2,3,1]> (c)
    "z.1" = Add (d, y)
    next = Add (k, one)
}
"""
RECIPE = """\
version: 1
name: net
model: {onnx: {path: m.onnx}}
export:
  inputs:
    x: {dtype: float32, shape: [2, 6, 5, 3]}
    k: {dtype: int64, shape: [2], data: {integers: {low: 0, high: 9}}}
  outputs: [y, z.1, next]
  dynamic_axes: {x: {0: N}, k: {0: N}, y: {0: N}, z.1: {0: N}, next: {0: N}}
  dims: {N: {min: 1, max: 4}}
targets:
  coreml: {compute_precision: FLOAT32}
"""


def model() -> onnx.ModelProto:
    weights = ", ".join(f"{value:.4f}" for value in np.random.default_rng(0).normal(size=12))
    parsed = onnx.parser.parse_model((MODEL % weights).replace('"z.1"', "z1"))
    for node in parsed.graph.node:
        node.output[:] = ["z.1" if name == "z1" else name for name in node.output]
    parsed.graph.output[1].name = "z.1"
    return parsed


def project(root: Path) -> Workspace:
    made = Workspace.make(root)
    onnx.save(model(), made.root / "m.onnx")
    made.write("net.yaml", RECIPE)
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = project(tmp_path_factory.mktemp("coreml") / "project")
    made.run("run", "net.yaml")
    return made


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {"x": rng.normal(size=(2, 6, 5, 3)).astype(np.float32), "k": np.array([3, -4])}


def test_the_package_is_one_and_computes_what_the_model_does(built):
    library = mil.library()
    from coremltools import libmodelpackage

    folder = built.root / "build/net"
    opened = mil.open(folder / "coreml", {}, ["y", "z.1", "next"])
    got = opened.call(inputs())
    expected = onnxruntime.InferenceSession(folder / "model.onnx").run(["y", "z.1", "next"], inputs())

    assert libmodelpackage.ModelPackage.isValid(str(folder / "coreml" / package.PACKAGE))
    for array, reference in zip(got.values(), expected, strict=True):
        np.testing.assert_allclose(array, reference, rtol=1e-5, atol=1e-6)
    spec = library.models.MLModel(str(folder / "coreml" / package.PACKAGE), skip_model_load=True).get_spec()
    assert [value.name for value in spec.description.output] == ["y", "z_1", "next"]
    assert spec.description.metadata.author == ""
    assert not [key for key in spec.description.metadata.userDefined if "date" in key]


def test_the_report_says_what_stood_in_and_where_it_was_compared(built):
    report = built.report("net")
    (told,) = report["targets"]

    assert told["level"] == "emulated"
    assert "Core ML runs on macOS alone: here its program was interpreted with torch" in told["why"]
    assert (
        "not the arithmetic of a device; the files are bound to N=2: compared there alone, and at none of"
        in told["why"]
    )
    cases = {row["case"] for row in report["parity"] if row["stage"] == "parity/coreml"}
    assert cases == {"N=2", "k=0", "k=8", "x=negative"}
    assert len({row["case"] for row in report["parity"] if row["stage"] == "parity/export"}) > 2
    notes = " ".join(report["notes"])
    assert "target/coreml: takes one shape: x is [2, 6, 5, 3], k is [2]" in notes
    assert "z.1 is called z_1 in Core ML, which takes no such name" in notes
    assert "input k is int32, the model's is int64" in notes
    assert "output 'next' comes out as int32, the model's is int64" in notes
    assert "emulated: Core ML runs on macOS alone" in built.read("build/net/report.html")
    assert [file["path"] for file in told["files"]] == [f"coreml/{file}" for file in package.FILES]


def test_another_size_or_precision_builds_the_target_alone(edited):
    edited.replace("net.yaml", "FLOAT32}", "FLOAT16, dims: {N: 1}, parity: {atol: 1.0e-2, reason: float16}}")
    edited.run("run", "net.yaml")

    assert edited.built("net") == {"target/coreml", "parity/coreml", "package"}
    assert {row["case"] for row in edited.report("net")["parity"] if row["stage"] == "parity/coreml"} == {"N=1"}
    weights = edited.root / "build/net/coreml" / package.WEIGHTS
    assert weights.stat().st_size == 64 + 64 + 12 * 2  # the file's head, the tensor's, and its halves


def test_several_sizes_are_functions_that_share_their_weights(edited):
    new = "FLOAT32, minimum_deployment_target: iOS18, dims: {N: [1, 4]}}"
    edited.replace("net.yaml", "FLOAT32}", new)
    edited.run("run", "net.yaml")
    folder = edited.root / "build/net/coreml"
    spec = mil._read(folder / package.MODEL)
    opened = mil.open(folder, {}, ["y", "z.1", "next"])
    feed = {"x": np.ones((3, 6, 5, 3), np.float32), "k": np.arange(3)}

    assert {row["case"] for row in edited.report("net")["parity"] if row["stage"] == "parity/coreml"} >= {"N=1", "N=4"}
    assert [one.name for one in spec.description.functions] == ["N_1", "N_4"]
    assert spec.description.defaultFunctionName == "N_1"
    assert [[one.name for one in function.output] for function in spec.description.functions] == [
        ["y", "z_1", "next"]
    ] * 2
    assert (folder / package.WEIGHTS).stat().st_size == 64 + 64 + 12 * 4
    assert "has a function for each size, of which N_1 is the default: N_1, N_4" in " ".join(
        edited.report("net")["notes"]
    )
    with pytest.raises(
        StageError, match=r"input 'x' is bound to \[1, 6, 5, 3\] or \[4, 6, 5, 3\], and was given \[3, 6, 5, 3\]"
    ):
        opened.call(feed)
    assert "target/coreml, the same bytes" in edited.run("verify", "--rebuild", "net.yaml").out


def test_the_sizes_that_are_asked_for_are_compared_whatever_the_others(workspace):
    onnx.save(model(), workspace.root / "m.onnx")
    workspace.write("net.yaml", RECIPE.replace("max: 4", "max: 40").replace("FLOAT32}", "FLOAT32, dims: {N: 23}}"))
    stages = {
        stage.name: stage
        for stage in planner.plan(recipes.load(workspace.root / "net.yaml").recipe, workspace.root).stages
    }

    assert [case["shapes"]["k"] for case in stages["parity/coreml"].options["cases"]] == [[23]]
    assert [23] in [case["shapes"]["k"] for case in stages["reference"].options["cases"]]
    assert stages["target/coreml"].options["shapes"]["inputs"]["x"]["shape"] == [23, 6, 5, 3]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("FLOAT32}", "FLOAT32, dims: {M: 1}}", "targets.coreml.dims: unknown dimension 'M'"),
        ("FLOAT32}", "FLOAT32, dims: {N: 9}}", "targets.coreml.dims.N: the size 9 of 'N' is more than its max"),
        ("FLOAT32}", "fp16}", "targets.coreml.compute_precision"),
        (
            "FLOAT32}",
            "FLOAT32, dims: {N: all}}",
            "'all' is not of the form that is expected here hint: expected a size, a list of sizes, or from_dims",
        ),
        ("FLOAT32}", "FLOAT32, dims: {N: [1, 0]}}", "targets.coreml.dims.N[1]: must be at least 1, found 0"),
        (
            "FLOAT32}",
            "FLOAT32, source: program, dims: {N: [1, 9]}}",
            "targets.coreml.dims.N: the size 9 of 'N' is more than its max",
        ),
        (
            "FLOAT32}",
            "FLOAT32, source: program}",
            "targets.coreml.source: an onnx model gives no program of torch.export hint: leave it at graph",
        ),
        ("dtype: int64,", "dtype: uint8,", "Core ML takes no input of uint8, as 'k' is"),
    ],
)
def test_what_it_cant_take_is_said_before_anything_is_built(edited, old, new, said):
    edited.replace("net.yaml", old, new)

    assert said in " ".join(edited.run("check", "net.yaml", code=2).err.split())


DECLARED = Shapes(
    {"x": {"dtype": "float32", "shape": [2, 3]}, "z": {"dtype": "float32", "shape": [2, 6]}},
    ["y"],
    {"x": {"0": "N", "1": "T"}, "z": {"0": "N", "1": "U"}, "y": {"0": "N"}},
    {
        "N": {"min": 1, "max": 9},
        "M": {"max": 8, "multiple_of": 2},
        "T": {"min": 1},
        "U": "2*T",
        "Z": {"min": 0, "max": 4},
    },
)
NEWER = (
    "give minimum_deployment_target: iOS18, macOS15, watchOS11, tvOS18 or a later one, or one size of each dimension"
)
GRAPHS = "list its sizes; or give source: program, for a PyTorch model"
OTHERWISE = "give one size of it, or source: graph with a list of its sizes"
# Sizes, the place, what is wrong with them, and what helps; each for a graph at iOS17, a graph at iOS18, and a program.
GRAPH, NEW, PROGRAM = {}, {"minimum_deployment_target": "iOS18"}, {"source": "program"}
WRONG = [
    ({"N": 3, "T": [4]}, GRAPH, []),
    ({"N": [3, 4], "T": [4, 5]}, NEW, []),
    ({"N": "from_dims"}, PROGRAM, []),
    ({"N": [3, 4]}, NEW | PROGRAM, []),
    ({"N": [3, 4]}, GRAPH, [("minimum_deployment_target", "several sizes become functions, which iOS17 has not", NEWER)]),
    ({"N": "from_dims"}, GRAPH, [("dims", "onnx2coreml takes no range of sizes, as of 'N'", GRAPHS)]),
    (
        {"N": [3, 4]}, PROGRAM,
        [("minimum_deployment_target", "iOS17 takes listed sizes of one input, and x and z have them", NEWER)],
    ),
    (
        {"T": "from_dims"}, PROGRAM,
        [
            ("export.dims.T", "Core ML takes no size without an end, as 'T' is", "say T: {max: 64}"),
            ("dims", "coremltools leaves no dimension open that others are computed of, as 'U' is of 'T'", OTHERWISE),
        ],
    ),
    ({"M": "from_dims"}, PROGRAM, [("dims", "coremltools leaves no dimension open that has steps, as 'M' does", OTHERWISE)]),
    (
        {"Z": "from_dims"}, PROGRAM,
        [
            (
                "export.dims.Z",
                "Core ML takes no empty input, and the sizes of 'Z' start at 0",
                "let them start at 1, or list the sizes",
            )
        ],
    ),
    ({"N": [3, 3]}, NEW, [("dims.N", "the sizes [3, 3] of 'N' are not all different", "give each size once")]),
    ({"N": []}, GRAPH, [("dims.N", "the sizes [] of 'N' are none", "give each size once")]),
    (
        {"N": [1, 2], "M": "from_dims"}, NEW | PROGRAM,
        [
            (
                "dims",
                "'N' has listed sizes and 'M' a range, and Core ML takes one or the other",
                "list the sizes of all dimensions, or of none",
            ),
            ("dims", "coremltools leaves no dimension open that has steps, as 'M' does", OTHERWISE),
        ],
    ),
    (
        {"N": [*range(1, 10)], "T": [*range(1, 20)]}, NEW,
        [("dims", "the sizes come to 171 shapes, and Core ML takes 128", "give fewer sizes")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("dims", "options", "expected"), WRONG)
def test_sizes_that_a_converter_cant_leave_open(dims, options, expected):
    assert list(coreml.wrong(coreml.Options(dims=dims, **options), DECLARED)) == expected


def test_inputs_that_core_ml_has_no_shape_or_type_for():
    shapes = Shapes(
        {
            "a": {"dtype": "bool", "shape": [2]},
            "b": {"dtype": "float32", "shape": []},
            "c": {"dtype": "float32", "shape": [1] * 6},
            "d": {"dtype": "float32", "shape": [2, 0]},
        }
    )

    assert list(coreml.wrong(coreml.Options(), shapes)) == [
        (
            "",
            "Core ML takes no input of bool, as 'a' is",
            "it takes float16, float32, float64, int32, int64: convert inside the model, or take coreml out of targets",
        ),
        (
            "",
            "Core ML takes inputs of 1 to 5 axes, 'b' has 0",
            "reshape inside the model, or take coreml out of targets",
        ),
        (
            "",
            "Core ML takes inputs of 1 to 5 axes, 'c' has 6",
            "reshape inside the model, or take coreml out of targets",
        ),
        ("", "Core ML takes no empty input, as 'd' is", "give an example without a size of 0"),
    ]


def test_nothing_is_left_in_the_temporary_folder(edited, tmp_path):
    (tmp_path / "tmp").mkdir()
    edited.env["TMPDIR"] = str(tmp_path / "tmp")
    edited.replace("net.yaml", "FLOAT32", "FLOAT16, parity: {atol: 1.0e-2, reason: float16}")
    edited.run("run", "net.yaml")

    assert "target/coreml" in edited.built("net")
    assert [path for path in (tmp_path / "tmp").iterdir() if path.is_dir()] == []  # other libraries keep a file there


CODE = """\
import hashlib, pathlib, sys
import msgspec
from onnxbuild.contracts import Shapes
from onnxbuild.targets import coreml
from onnxbuild.targets import coreml_package as package
shapes = msgspec.json.decode(sys.argv[3], type=Shapes)
made, _ = coreml.build(pathlib.Path(sys.argv[1]), coreml.Options(), pathlib.Path(sys.argv[2]), shapes)
print({name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in made.items()})
print([name for name in ("tensorflow", "torch", "sklearn", "xgboost") if name in sys.modules])
"""


def test_the_same_bytes_in_other_processes_and_nothing_imported_that_is_not_needed(built, tmp_path):
    shapes = {"inputs": {"x": {"dtype": "float32", "shape": [2, 6, 5, 3]}, "k": {"dtype": "int64", "shape": [2]}}}
    printed = set()
    for seed in ("0", "1", "2"):
        (scratch := tmp_path / seed).mkdir()
        command = [
            sys.executable,
            "-c",
            CODE,
            str(built.root / "build/net/model.onnx"),
            str(scratch),
            json.dumps(shapes),
        ]
        environment = {**built.command()[1], "PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        printed.add(done.stdout)
        assert done.stderr == ""

    assert len(printed) == 1
    assert printed.pop().endswith("}\n[]\n")


def test_names_that_were_made_up_are_numbered_in_order(built):
    spec = mil._read(built.root / "build/net/coreml" / package.MODEL)
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    names = [
        one.attributes["name"].immediateValue.tensor.strings for one in block.operations if one.type == "transpose"
    ]
    for number, name in enumerate(names):
        name.values[0] = f"transpose_{90 - number}"  # as in a process that made others before
    spec.description.metadata.userDefined["com.github.apple.coremltools.conversion_date"] = "2026-01-01"
    package.canonical(spec)

    assert spec.SerializeToString(deterministic=True) == (built.root / "build/net/coreml" / package.MODEL).read_bytes()


def nothing(files):
    pass


def scaled(files):
    """A weight of weight.bin, 1 % larger."""
    path = files[package.WEIGHTS]
    data = bytearray(path.read_bytes())
    at = int.from_bytes(data[64 + 16 : 64 + 24], "little")
    data[at : at + 4] = (np.frombuffer(data[at : at + 4], "<f4") * np.float32(1.01)).tobytes()
    path.write_bytes(data)


def swapped(files):
    """Two outputs of one shape, each under the other's name."""
    spec = mil._read(files[package.MODEL])
    other = {"y": "z_1", "z_1": "y"}
    function = spec.mlProgram.functions["main"]
    for operation in function.block_specializations[function.opset].operations:
        for value in operation.outputs:
            value.name = other.get(value.name, value.name)
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.name:
                    binding.name = other.get(binding.name, binding.name)
    files[package.MODEL].write_bytes(spec.SerializeToString())


def dropped(files):
    """An axis of an output, lost on the way from the graph."""
    wrong = model()
    wrong.graph.node.append(onnx.helper.make_node("ReduceMean", ["y"], ["lost"], axes=[3], keepdims=0))
    wrong.graph.output[0].name = "lost"
    folder = files[package.MODEL].parent / "again"
    folder.mkdir()
    onnx.save(wrong, folder / "m.onnx")
    shapes = Shapes({"x": {"dtype": "float32", "shape": [2, 6, 5, 3]}, "k": {"dtype": "int64", "shape": [2]}})
    made, _ = coreml.build(folder / "m.onnx", coreml.Options(compute_precision="FLOAT32"), folder, shapes)
    for name, path in made.items():
        files[name].write_bytes(path.read_bytes())
    spec = mil._read(files[package.MODEL])
    spec.description.output[0].shortDescription = "y"
    files[package.MODEL].write_bytes(spec.SerializeToString())


FAULTS = [(nothing, set()), (scaled, {"y", "z.1"}), (swapped, {"y", "z.1"}), (dropped, {"y"})]


@pytest.mark.parametrize(("change", "outputs"), FAULTS)
def test_a_fault_between_the_graph_and_the_package_is_found(built, tmp_path, change, outputs):
    rows = proven(built, "net", "coreml", tmp_path, change)

    assert {row["output"] for row in rows if row["error"] or row["max_abs"] > 1e-5} == outputs


def test_what_the_interpreter_lacks_is_told_and_is_no_failure(workspace):
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> net (float[5,2,3] x) => (float[5,1,2,4] y) <float[1,16,3] w = {%s}, '
    )
    text += 'float[1,16,4] r = {%s}> {y, h, c = LSTM <hidden_size=4, direction="reverse"> (x, w, r)}'
    drawn = [", ".join(f"{value:.3f}" for value in np.random.default_rng(0).normal(size=size)) for size in (48, 64)]
    onnx.save(onnx.parser.parse_model(text % tuple(drawn)), workspace.root / "m.onnx")
    workspace.write(
        "net.yaml",
        """\
        version: 1
        name: net
        model: {onnx: {path: m.onnx}}
        export: {inputs: {x: {dtype: float32, shape: [5, 2, 3]}}, outputs: [y]}
        targets: {coreml: {}}
        """,
    )
    workspace.run("run", "net.yaml")
    (told,) = workspace.report("net")["targets"]

    assert (told["level"], told["why"]) == (
        "built, not run", "the interpreter of MIL has no lstm with direction reverse",
    )  # fmt: skip


def test_what_the_converter_refuses_is_a_failed_stage(tmp_path):
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) <int64 i = {0}> { y = CumSum (x, i) }'
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "g.onnx")

    with pytest.raises(StageError, match="onnx2coreml has no CumSum") as refused:
        coreml.build(tmp_path / "g.onnx", coreml.Options(), tmp_path, Shapes({"x": {"dtype": "float32", "shape": [2]}}))
    assert refused.value.hint == "write the model with other operators, or take coreml out of targets"


def test_a_model_without_large_weights_has_the_same_files(tmp_path):
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
        ),
        tmp_path / "g.onnx",
    )
    shapes = Shapes({"x": {"dtype": "float32", "shape": [2]}})
    made, _ = coreml.build(tmp_path / "g.onnx", coreml.Options(), tmp_path, shapes)

    mil.library()
    from coremltools import libmodelpackage

    assert made[package.WEIGHTS].stat().st_size == 64
    assert libmodelpackage.ModelPackage.isValid(str(tmp_path / package.PACKAGE))


def test_its_tools_are_named_where_they_are_missing():
    assert coreml.requires(coreml.Options()) == {"coremltools": "coreml", "onnx2coreml": "coreml"}


def test_importing_the_targets_loads_nothing_heavy():
    code = (
        "import sys, onnxbuild.targets, onnxbuild.runtimes; print({'coremltools', 'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())

    assert done.stdout == "set()\n"
