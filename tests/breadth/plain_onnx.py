"""What onnx's checker and onnxruntime make of files: `python plain_onnx.py PROJECT NAME…`, one line of JSON for each.

Knows nothing of onnxbuild. A file is loaded as it is written (no graph optimisation), on the CPU, and run on its test's
own inputs; what was built from it, where that is there, is run on the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime


def main(root: str, *names: str) -> None:
    """Print what becomes of each case, by name."""
    for name in names:
        print(json.dumps({"name": name, **tried(Path(root), name)}), flush=True)


def tried(root: Path, name: str) -> dict[str, Any]:
    """`status` is right (it runs; `expected` says whether it gives what the test expects), or the step that failed."""
    path = root / "models" / f"{name}.onnx"
    try:
        onnx.checker.check_model(path)
    except Exception as error:  # noqa: BLE001  # a file that is no protobuf, or that the checker refuses
        return {"status": "checker", "said": first_line(error)}
    try:
        session = opened(path)
    except Exception as error:  # noqa: BLE001  # onnxruntime's have no common class
        return {"status": "load", "said": first_line(error)}
    given = inputs(root / "expected" / name, session, onnx.load(path, load_external_data=False))
    if given is None:
        return {"status": "right", "said": "its data are no tensors", "expected": None, "same": None}
    try:
        wanted = session.run(None, given)
    except Exception as error:  # noqa: BLE001  # ditto
        return {"status": "run", "said": first_line(error)}
    built = root / "build" / name / "model.onnx"
    return {
        "status": "right",
        "said": "",
        "expected": as_expected(root / "expected" / name, wanted),
        "same": same(built, given, session, wanted) if built.exists() else None,
    }


def opened(path: Path) -> onnxruntime.InferenceSession:
    """A session that runs the file as it is written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def inputs(folder: Path, session: onnxruntime.InferenceSession, model: onnx.ModelProto) -> dict[str, Any] | None:
    """The test's own inputs; ones where it has none, None where one can't be had."""
    order = [value.name for value in model.graph.input]
    given: dict[str, Any] = {}
    for value in session.get_inputs():
        kept = folder / f"input_{order.index(value.name)}.pb"
        if kept.exists():
            given[value.name] = fed(onnx.load_tensor(kept))
        elif value.type == "tensor(float)" and not list(folder.glob("input_*")):
            given[value.name] = np.ones([size if isinstance(size, int) else 2 for size in value.shape], np.float32)
        else:
            return None
    return given


def fed(tensor: onnx.TensorProto) -> Any:
    """An array as onnxruntime takes it, or an OrtValue for the types that numpy has no name for."""
    array = onnx.numpy_helper.to_array(tensor)
    if array.dtype.kind == "V" or array.dtype.name not in np.sctypeDict:
        if array.dtype.kind in "OSU":
            return array.astype(object)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(raw(array), tensor.data_type)
    return array


def raw(array: Any) -> Any:
    """The bytes of an array of a type that numpy has no name for, as unsigned integers."""
    return array.view({1: np.uint8, 2: np.uint16}[array.dtype.itemsize])


def as_expected(folder: Path, got: list[Any]) -> bool | None:
    """Whether the outputs are what the test expects; None where it does not say."""
    tolerance = np.load(folder / "tolerance.npz")
    found = []
    for index, array in enumerate(got):
        kept = folder / f"output_{index}.pb"
        if kept.exists() and isinstance(array, np.ndarray):
            wanted = onnx.numpy_helper.to_array(onnx.load_tensor(kept))
            found.append(near(array, wanted, tolerance["rtol"], tolerance["atol"]))
    return all(found) if found else None


def near(one: Any, other: Any, rtol: float, atol: float) -> bool:
    """Whether two arrays agree."""
    if one.shape != other.shape:
        return False
    if one.dtype.kind not in "fc" or other.dtype.kind not in "fc":
        try:
            return bool(np.array_equal(one.astype(np.float64), other.astype(np.float64), equal_nan=True))
        except (TypeError, ValueError):  # text
            return bool(np.array_equal(one.astype(str), other.astype(str)))
    return bool(np.allclose(one, other, rtol, atol, equal_nan=True))


def same(built: Path, given: dict[str, Any], session: onnxruntime.InferenceSession, wanted: list[Any]) -> bool | str:
    """Whether the built file gives exactly what the original gives, for the outputs that it has."""
    mine = opened(built)
    names = [value.name for value in session.get_outputs()]
    taken = {value.name for value in mine.get_inputs()}
    got = mine.run(None, {name: value for name, value in given.items() if name in taken})
    pairs = zip([value.name for value in mine.get_outputs()], got, strict=True)
    return all(near(array, wanted[names.index(name)], 0.0, 0.0) for name, array in pairs)


def first_line(error: BaseException) -> str:
    """What an exception says first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:240]


if __name__ == "__main__":
    main(*sys.argv[1:])
