"""TensorRT's own part of the `tensorrt` target: from an ONNX file to an engine.

TensorRT and TensorRT-RTX share this interface, and say what is wrong to a logger alone. Knows no recipe and no store.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxbuild.errors import StageError
from onnxbuild.runtimes import tensorrt
from onnxbuild.text import units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnxbuild.contracts import Json

Sizes: TypeAlias = "tuple[list[int], list[int], list[int]]"  # of an input: the least, the example's, the most
DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "INT32": "int32", "INT64": "int64",
    "BOOL": "bool", "UINT8": "uint8",
}  # fmt: skip


def build(
    graph: Path, flavor: str, sizes: Mapping[str, Sizes], compute_capabilities: Sequence[str], *, tf32: bool
) -> tuple[bytes, dict[str, Json]]:
    """An engine of an ONNX file, and what is in it: {"version", "inputs", "outputs", "profiles"}.

    An input or output is {"name", "dtype", "shape"}, where a size is None that a profile leaves open. Raises StageError with
    what TensorRT logged.
    """
    trt = importlib.import_module(tensorrt.PACKAGES[flavor])
    logger = tensorrt.logger(trt)
    builder = trt.Builder(logger)
    # rtx knows nothing else; classic TensorRT before 11 chooses precisions by itself unless it is told
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    _parse(trt, network, logger, str(graph))
    config = builder.create_builder_config()
    (config.set_flag if tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
    _target(trt, config, compute_capabilities)
    inputs, outputs = _values(network)
    profiles = [_profile(builder, config, network, sizes)] if any(None in one["shape"] for one in inputs) else []
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise StageError(f"TensorRT can't build the engine: {plain(logger.errors)}", _remedy(logger.errors))
    return bytes(engine), {"version": trt.__version__, "inputs": inputs, "outputs": outputs, "profiles": profiles}


def _parse(trt: Any, network: Any, logger: Any, graph: str) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(graph):
        return
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    said = [f"{error.node_operator()}: {error.desc()}".removeprefix(": ") for error in errors]
    hint = "export the graph without these operators, or take tensorrt out of targets"
    raise StageError(f"TensorRT can't read the graph: {plain(said)}", hint)


def _target(trt: Any, config: Any, names: Sequence[str]) -> None:
    """Name the GPUs that the engine is for; without names the library has its own."""
    if not names:
        return
    known = [name for name in trt.ComputeCapability.__members__ if name != "NONE"]
    if unknown := [name for name in names if name not in known]:
        fact = f"TensorRT-RTX {trt.__version__} knows no compute capability {unknown[0]}"
        raise StageError(fact, f"targets.tensorrt.compute_capabilities may hold {', '.join(known)}")
    config.num_compute_capabilities = len(names)
    for place, name in enumerate(names):
        config.set_compute_capability(trt.ComputeCapability.__members__[name], place)


def _values(network: Any) -> tuple[list[Json], list[Json]]:
    inputs = [network.get_input(place) for place in range(network.num_inputs)]
    outputs = [network.get_output(place) for place in range(network.num_outputs)]
    if asked := [value.name for value in inputs if value.is_shape_tensor]:
        fact = (
            f"the values of input '{asked[0]}' decide shapes, and TensorRT needs their range, which no recipe declares"
        )
        raise StageError(fact, "make that size a dynamic axis of another input, or take tensorrt out of targets")
    return [_value(value) for value in inputs], [_value(value) for value in outputs]


def _value(value: Any) -> Json:
    shape = [None if size < 0 else size for size in value.shape]
    return {"name": value.name, "dtype": DTYPES.get(value.dtype.name, value.dtype.name), "shape": shape}


def _profile(builder: Any, config: Any, network: Any, sizes: Mapping[str, Sizes]) -> Json:
    """One optimization profile, for all of the sizes; it is tuned for the example's."""
    profile = builder.create_optimization_profile()
    used = {}
    for value in (network.get_input(place) for place in range(network.num_inputs)):
        used[value.name] = dict(zip(("min", "opt", "max"), sizes[value.name], strict=True))
        profile.set_shape(value.name, *sizes[value.name])
    config.add_optimization_profile(profile)
    return used


def difference(before: bytes, after: bytes) -> str:
    """How two engines differ, where that is in the numbers of names that TensorRT's compiler makes up and nothing else; else
    "".

    It counts those names up in the order in which its threads and its tables of addresses come to them, which is another one
    in each process. No option of the builder keeps it from that, nor does a single thread. The sums and products that its
    dynamic sizes come from may be written down in another order, too; that can't be told apart from other sizes here.
    """
    (one, old), (other, new) = _renumbered(before), _renumbered(after)
    if one != other:
        return ""
    names = units.plural(sum(was != now for was, now in zip(old, new, strict=True)), "name")
    return f"the same but for the numbers in {names} that TensorRT's compiler makes up, and so not the same bytes"


def _renumbered(engine: bytes) -> tuple[bytes, list[bytes]]:
    """An engine with those names numbered in the order in which they come, for comparing alone; and the numbers it had."""
    seen: dict[bytes, bytes] = {}
    found = re.sub(rb"__mye(\d+)", lambda match: seen.setdefault(match[1], b"__mye%d." % len(seen)), engine)
    return found, list(seen)


def _remedy(errors: Sequence[str]) -> str:
    said = " ".join(errors)
    if "Turing" in said:
        return "take SM75 out of targets.tensorrt.compute_capabilities, or make the graph float16 before"
    if "Cuda Runtime" in said:
        return "CURRENT, and classic TensorRT, need a GPU that works: name compute capabilities, with flavor: rtx"
    return ""


def plain(messages: Sequence[str]) -> str:
    """What TensorRT says, in one line: without its functions and source files."""
    said = "; ".join(dict.fromkeys(" ".join(message.split()) for message in messages))
    said = re.sub(r"I\w+::\w+: Error Code \d+: ", "", said)
    said = re.sub(r" ?\(?In \w+ at /\S+", "", said)
    return re.sub(r"\[\w+\.cpp\S*( \w+)?\] ", "", said) or "it gives no reason"
