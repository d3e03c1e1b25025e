"""What plain torch.onnx.export and onnxruntime make of a model: `python plain.py ENTRIES.json NAME…`, where models.py is.

Knows nothing of onnxbuild. Each entry is exported as torch's own documentation has it, with the names of the dynamic
axes, and run at the example's sizes, at the smallest and at the largest, and on the data of a file where the entry names
one: those on which something was found wrong. One line of JSON for each entry on stdout.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

RTOL, ATOL = 1e-3, 1e-5  # onnxbuild's own default


def main(path: str, *names: str) -> None:
    """Print what becomes of each entry, by name."""
    sys.path.insert(0, ".")
    entries = json.loads(Path(path).read_text(encoding="utf-8"))
    for entry in (entries[name] for name in names):
        began = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()):
            found = tried(entry)
        print(json.dumps({"name": entry["name"], **found, "seconds": round(time.monotonic() - began, 1)}), flush=True)


def tried(entry: dict[str, Any]) -> dict[str, Any]:
    """`status` is right, wrong, or which step failed (model, export, runtime); `said` is what was said of it."""
    import models

    torch.manual_seed(0)
    try:
        model = getattr(models, entry["factory"])(**entry["kwargs"]).eval()
        cases = {which: arrays(entry, which) for which in entry["shapes"]}
        if entry["failing"]:
            with np.load(entry["failing"]) as kept:
                cases["failing"] = {name: kept[f"input/{name}"] for name in entry["inputs"]}
        with torch.no_grad():
            wanted = {which: outputs(model, entry, given) for which, given in cases.items()}
    except Exception as error:  # noqa: BLE001  # a model's code may raise anything
        return {"status": "model", "said": first_line(error)}
    try:
        proto = exported(model, entry, cases["example"])
    except Exception as error:  # noqa: BLE001  # so may an exporter
        return {"status": "export", "said": first_line(error.__cause__ or error)}
    return compared(proto, cases, wanted)


def compared(proto: bytes, cases: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Whether the exported graph gives what the model gives, and whether onnxruntime's own rewriting is what does not."""
    import onnxruntime

    found = {}
    for level in ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        try:
            session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
            found[level] = [
                why for which, given in cases.items() for why in wrong(session, which, given, wanted[which])
            ]
        except Exception as error:  # noqa: BLE001  # onnxruntime's have no common class
            found[level] = [first_line(error)]
        if not found[level]:
            break
    if not found["ORT_ENABLE_ALL"]:
        return {"status": "right", "said": ""}
    return {"status": "wrong" if found["ORT_DISABLE_ALL"] else "runtime", "said": found["ORT_ENABLE_ALL"][0]}


def wrong(session: Any, which: str, given: dict[str, Any], wanted: list[Any]) -> Iterator[str]:
    """The outputs that are not what the model gives, by shape or by value."""
    taken = {value.name for value in session.get_inputs()}
    got = session.run(None, {name: array for name, array in given.items() if name in taken})
    if len(got) != len(wanted):
        yield f"{len(got)} outputs instead of {len(wanted)}"
        return
    for index, (one, other) in enumerate(zip(got, wanted, strict=True)):
        if one.shape != other.shape:
            yield f"{which}: output {index} has the shape {list(one.shape)} instead of {list(other.shape)}"
        elif not np.allclose(one, other, RTOL, ATOL, equal_nan=True):
            apart = np.max(np.abs(one.astype(np.float64) - other.astype(np.float64)))
            yield f"{which}: output {index} is {apart:.1e} off, of {np.max(np.abs(other)):.1e}"


def exported(model: torch.nn.Module, entry: dict[str, Any], given: dict[str, Any]) -> bytes:
    """The model as a message, the dynamic axes named."""
    names = {name: {int(axis): dim for axis, dim in entry["axes"].get(name, {}).items()} for name in given}
    program = torch.onnx.export(
        model,
        kwargs=filled(entry["arguments"], {name: torch.from_numpy(array) for name, array in given.items()}),
        dynamic_shapes=filled(entry["arguments"], names),
        input_names=list(given),
        dynamo=True,
        verbose=False,
    )
    return program.model_proto.SerializeToString()


def outputs(model: torch.nn.Module, entry: dict[str, Any], given: dict[str, Any]) -> list[Any]:
    """All tensors that the model returns, in order."""
    arguments = filled(entry["arguments"], {name: torch.from_numpy(array) for name, array in given.items()})
    leaves = torch.utils._pytree.tree_leaves(model(**arguments))
    return [leaf.numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]


def filled(arguments: Any, by_name: dict[str, Any]) -> Any:
    """The arguments with the inputs' names replaced."""
    if isinstance(arguments, str):
        return by_name[arguments]
    if isinstance(arguments, list):
        return [filled(one, by_name) for one in arguments]
    return {key: filled(value, by_name) for key, value in arguments.items()}


def arrays(entry: dict[str, Any], which: str) -> dict[str, Any]:
    """Values of the entry's description, drawn anew for each input."""
    made = {}
    for name, spec in entry["inputs"].items():
        rng = np.random.default_rng(zlib.crc32(f"{entry['name']} {which} {name}".encode()))
        shape, dtype = entry["shapes"][which][name], np.dtype(spec["dtype"])
        ((kind, options),) = (spec.get("data") or {"normal": {}}).items()
        if kind == "integers":
            made[name] = rng.integers(options.get("low", 0), options["high"], shape, dtype)
        elif kind == "values":
            made[name] = np.resize(np.array(options, dtype), shape)
        elif kind == "constant":
            made[name] = np.full(shape, options, dtype)
        else:
            made[name] = rng.normal(size=shape).astype(dtype)
    return made


def first_line(error: BaseException) -> str:
    """What an exception says first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:240]


if __name__ == "__main__":
    main(*sys.argv[1:])
