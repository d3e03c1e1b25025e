"""Every model that onnx ships with its backend tests, laid out as a project: `python onnx_backend.py FOLDER [NAME…]`.

For each: `models/NAME.onnx`, `recipes/NAME.yaml`, which leaves all of `export` but the inputs' data to the file,
`data/NAME.npz` with the inputs of the test's first data set, and `expected/NAME/` with that set's arrays as onnx keeps them.
Knows nothing of onnxbuild.
"""

from __future__ import annotations

import fnmatch
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import yaml

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
AS_BYTES = "bfloat16"  # the one type of a recipe that numpy has no name for: kept as bytes
PLAIN = {"bool", "object", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))}
PLAIN |= {"float16", "float32", "float64", AS_BYTES}


class Case(NamedTuple):
    """A model, the inputs and expected outputs of its first data set (None: it has none), and the test's tolerances."""

    name: str
    model: onnx.ModelProto
    inputs: list[Any] | None
    outputs: list[Any] | None
    rtol: float
    atol: float


def cases() -> Iterator[Case]:
    """All that the package ships, the light models last."""
    from onnx.backend.test import loader

    for kind in KINDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, of the overflows that the tests are about
            found = loader.load_model_tests(kind=kind)
        for test in found:
            name = f"{kind}-{test.name.removeprefix('test_')}"
            if test.model is not None:
                inputs, outputs = test.data_sets[0] if test.data_sets else (None, None)
                yield Case(name, test.model, inputs, outputs, test.rtol, test.atol)
            else:
                yield _on_disk(name, Path(test.model_dir), test.rtol, test.atol)
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(folder.glob("*.onnx")):
        yield Case(path.stem.replace("_", "-", 1), onnx.load(path), None, None, 1e-3, 1e-7)


def _on_disk(name: str, folder: Path, rtol: float, atol: float) -> Case:
    model = onnx.load(folder / "model.onnx")
    data = folder / "test_data_set_0"
    inputs = [_read(data / f"input_{i}.pb", value) for i, value in enumerate(_fed(model, data))]
    outputs = [_read(data / f"output_{i}.pb", value) for i, value in enumerate(model.graph.output)]
    return Case(name, model, inputs, outputs, rtol, atol)


def _fed(model: onnx.ModelProto, data: Path) -> list[onnx.ValueInfoProto]:
    return list(model.graph.input)[: len(list(data.glob("input_*.pb")))]


def _read(path: Path, value: onnx.ValueInfoProto) -> Any:
    kind = value.type.WhichOneof("value")
    content = path.read_bytes()
    if kind == "sequence_type":
        return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if kind == "optional_type":
        return onnx.numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(content))


def write(case: Case, root: Path) -> None:
    """The files of a case."""
    onnx.save(case.model, root / "models" / f"{case.name}.onnx")
    names = [value.name for value in case.model.graph.input]
    given = dict(zip(names, case.inputs or [], strict=False))
    np.savez(
        root / "data" / f"{case.name}.npz", **{name: _kept(value) for name, value in given.items() if _is_plain(value)}
    )
    folder = root / "expected" / case.name
    folder.mkdir()
    for role, arrays in (("input", case.inputs), ("output", case.outputs)):
        for index, value in enumerate(arrays or []):
            if isinstance(value, np.ndarray | np.generic):
                onnx.save_tensor(onnx.numpy_helper.from_array(np.asarray(value)), folder / f"{role}_{index}.pb")
    np.savez(folder / "tolerance.npz", rtol=case.rtol, atol=case.atol)
    (root / "recipes" / f"{case.name}.yaml").write_text(yaml.safe_dump(recipe(case, given), sort_keys=False))


def recipe(case: Case, given: dict[str, Any]) -> dict[str, Any]:
    """All but the data of the inputs is left to the file; weights that are inputs too have their values there."""
    weights = {tensor.name for tensor in case.model.graph.initializer}
    data = {
        name: {"shape": list(value.shape), "data": {"npz": {"path": f"data/{case.name}.npz"}}}
        for name, value in given.items()
        if name not in weights and _is_plain(value)
    }
    written: dict[str, Any] = {"version": 1, "name": case.name, "model": {"onnx": {"path": f"models/{case.name}.onnx"}}}
    if data:
        written["export"] = {"inputs": data}
    if empty := _empty(case.model, data):  # a test about that size: it is the example's, and no other is derived
        written["export"]["dims"] = {dim: {"min": 0} for dim in empty}
        written["parity"] = {"derive": False}
    return written


def _empty(model: onnx.ModelProto, data: dict[str, Any]) -> list[str]:
    """The named dimensions that have the size 0 in the data."""
    return [
        dim.dim_param
        for value in model.graph.input
        for dim, size in zip(
            value.type.tensor_type.shape.dim, data.get(value.name, {"shape": []})["shape"], strict=False
        )
        if dim.dim_param and size == 0
    ]


def _is_plain(value: Any) -> bool:
    """Whether a .npz file and a recipe can hold a value."""
    return isinstance(value, np.ndarray | np.generic) and (value.dtype.name in PLAIN or value.dtype.kind in "US")


def _kept(value: Any) -> Any:
    array = np.asarray(value)
    return array.astype(str) if array.dtype.kind == "O" else array


def main(root: str, *only: str) -> None:
    """Write all cases, or those whose names match one of these patterns, and print their names."""
    folder = Path(root)
    for part in ("models", "data", "expected", "recipes"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for case in cases():
        if not only or any(fnmatch.fnmatchcase(case.name, pattern) for pattern in only):
            write(case, folder)
            print(case.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
