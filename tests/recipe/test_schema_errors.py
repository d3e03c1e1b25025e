"""The types and the published schema accept the same data, and nothing makes the loader fall over."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import msgspec
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxbuild import recipe
from onnxbuild.errors import UserError
from onnxbuild.recipe import filling, schema_errors, yaml_reader
from onnxbuild.recipe.findings import found
from onnxbuild.recipe.types import ONE_OF, Recipe, keys
from onnxbuild.text.wording import did_you_mean, nearest

RICH = """
version: 1
name: a.b-c_1
model:
  pytorch:
    factory: nets.resnet:resnet50
    kwargs: {deep: [1, {x: null}]}
    seed: 3
    checkpoint: {path: w.bin, sha256: "", package: "", key: "", prefix: "", strict: true}
description: text
export:
  inputs:
    x: {dtype: float32, shape: [2, 3], data: {normal: {mean: 0.5, std: 1}}}
    y: {dtype: int64, shape: [], data: {integers: {low: -1, high: 4}}}
    z: {dtype: bool, shape: [2], data: {npz: {path: d.npz, key: k}}}
    w: {dtype: uint8, shape: [2], data: {constant: 4}}
    v: {dtype: float64, shape: [2], data: {uniform: {low: 0, high: 2.5}}}
  outputs: [o, p]
  exporter: torchscript
  opset: 17
  dynamic_axes: {x: {0: batch, 1: seq}, o: {0: batch}}
  dims: {batch: {min: 1, max: 9}, seq: {multiple_of: 3}}
  arguments: {args: [x, [y, {k: z}]], kwargs: {w: w, flag: true, v: v}}
symbolics:
  acme::f: {decompose: "nets.resnet:resnet50"}
  acme::g.out:
    node:
      domain: com.acme
      op_type: G
      inputs: [a]
      outputs: [b]
      version: 2
      attributes: {alpha: {type: float, argument: a2}}
optimize: [onnxsim: {}, {onnxoptimizer: [eliminate_deadend], parity: {rtol: 0.5, reason: r}}]
parity:
  rtol: 1e-3
  atol: 0
  outputs: {o: {rtol: 1, sqnr: {min: 9.5}, top_k: {k: 2}, reason: r}}
  cases: {big: {dims: {batch: 9}, data: {x: {constant: 0}}}}
  derive: false
  max_elements: 10
  seed: 1
  allow_not_run: ["com.acme::G"]
runtime:
  providers: [CPUExecutionProvider]
  provider_options: {CPUExecutionProvider: {a: b}}
  require: [CPUExecutionProvider]
  session: {graph_optimization_level: basic, config_entries: {a: "1"}, enable_mem_pattern: false}
benchmark: {warmup: 0, runs: 1, dims: {batch: 2}}
package: {external_data: true}
"""
DATA = yaml_reader.read(RICH).data
VALIDATOR = schema_errors.validator()

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-3, 40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "x", "0", "12", "a::b", "a:b", "dynamo", "float32", "x\n", "café", "a b", "m.n:f.g", "0" * 64]
    ),
    st.text(max_size=8),
    st.sampled_from(["a", "é"]).map(lambda letter: letter * 201),
)
TEXT = st.text(max_size=3)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2), max_leaves=3
)
NAMES = st.sampled_from(["x", "0", "00", "1", "", "onnx", "node", "opset", "x\n", "a" * 201]) | TEXT


def containers(data):
    if isinstance(data, (dict, list)):
        yield data
        for item in data.values() if isinstance(data, dict) else data:
            yield from containers(item)


@st.composite
def mutants(draw):
    """A recipe with one to three values, keys or parts of it changed, added, moved or taken away."""
    data = copy.deepcopy(DATA)
    for _ in range(draw(st.integers(1, 3))):
        places = list(containers(data))
        place = draw(st.sampled_from(places))
        value = draw(VALUES | st.sampled_from(places).map(copy.deepcopy))
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        what = draw(st.sampled_from(["change", "remove", "rename"])) if keys else "add"
        key = draw(st.sampled_from(keys)) if keys else 0
        if isinstance(place, list) and what == "add":
            place.append(value)
        elif what == "add":
            place[draw(NAMES)] = value
        elif what == "change":
            place[key] = value
        elif what == "remove" or isinstance(place, list):
            del place[key]
        else:
            place[draw(NAMES)] = place.pop(key) if draw(st.booleans()) else place[key]
    return data


def one_key_each(value) -> bool:
    """What the types leave to the rules: a mapping that must have exactly one key has it."""
    if isinstance(value, ONE_OF) and len(keys(value)) != 1:
        return False
    parts = [getattr(value, name) for name in value.__struct_fields__] if isinstance(value, msgspec.Struct) else []
    parts += list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return all(map(one_key_each, parts))


TOLD = {"export": {}, "inputs": {}, "outputs": ["y"], "dtype": "bool", "shape": []}  # what a model may tell


def accepted_by_types(data) -> bool:
    data = copy.deepcopy(data)
    for path in filling.missing(data, opset=False):
        part = data.setdefault("export", {})
        for key in path[1:-1]:
            part = part[key]
        part[path[-1]] = TOLD[path[-1]]
    try:
        return one_key_each(msgspec.convert(data, Recipe))
    except msgspec.ValidationError:
        return False


def test_the_rich_recipe_is_of_the_right_shape():
    assert accepted_by_types(DATA)
    assert VALIDATOR.is_valid(DATA)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutants())
def test_types_and_schema_agree(data):
    assert accepted_by_types(data) == VALIDATOR.is_valid(data)


def problems_of(content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_bytes(content)
        try:
            recipe.load(path)
        except UserError as error:
            return error.problems
    return ()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutants())
def test_a_mutant_is_loaded_or_refused_with_places(data):
    problems = problems_of(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())
    places = [(problem.line, problem.column) for problem in problems]
    assert places == sorted(places)
    assert all(problem.line >= 1 and problem.column >= 1 and problem.fact for problem in problems)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_refused(content):
    assert problems_of(content), "no random text is a recipe"


def test_what_all_names_have_in_common_makes_none_of_them_near():
    beside = ["int8ok.yaml", "torch.yaml", "m.onnx"]
    assert [nearest(name, beside) for name in ("nope.yaml", "lost.onnx")] == ["", ""]
    assert nearest("torhc.yaml", beside) == nearest("TORCH.yml", beside) == "did you mean 'torch.yaml'?"
    assert nearest("--foo", ["--out", "--jobs"]) == "" and nearest("--jbos", ["--jobs"]) == "did you mean '--jobs'?"


def test_hints_name_the_nearest_else_the_few():
    assert did_you_mean("Onnxsim", ["onnxsim", "onnxruntime"]) == "did you mean 'onnxsim'?"
    assert did_you_mean("zzz", ["onnxsim", "onnxruntime"]) == "known here: onnxsim, onnxruntime"
    assert did_you_mean("zzz", [f"name{n}" for n in range(100)]) == ""
    assert did_you_mean("zzz", []) == ""


def test_values_in_words():
    assert found("x" * 100) == f"the string '{'x' * 60}…'"
    assert [found(value) for value in (None, True, 3, 0.5, [], {})] == [
        "nothing", "true", "the integer 3", "the number 0.5", "a list", "a mapping",
    ]  # fmt: skip
