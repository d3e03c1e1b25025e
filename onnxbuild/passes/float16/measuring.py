"""Whether float16 overflows: the range of every value in float32, and the converted graph in true half precision.

The range is that of the graph before, with the weights that were clamped as they are now. It says nothing of the sums
inside an operator; onnx's reference evaluator, which rounds to half precision after each one, does, where it is fast
enough and knows the operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxbuild.errors import RefusalError, StageError
from onnxbuild.graphs import modelfile, tensors
from onnxbuild.runtimes import onnxruntime
from onnxbuild.text.wording import flow, some

if TYPE_CHECKING:
    from onnx import ModelProto

    from onnxbuild.contracts import Arrays
    from onnxbuild.passes.float16.converting import Converted

OVERFLOWS = 65520.0  # from here on float16 rounds to infinity
LEAST_OPSET = 10  # IsInf
EVALUATED = 20_000_000  # elements of all values together that the reference evaluator is run on, and of all weights
_PROBE = "onnxbuild probe "


class Range(NamedTuple):
    """Of a value over all data: its largest finite magnitude, whether it is ever infinite or NaN."""

    largest: float = 0.0
    nonfinite: bool = False


def require_range(
    before: ModelProto, folder: Path, made: Converted, feeds: Callable[[], Iterator[Arrays]], scratch: Path
) -> list[str]:
    """Notes on what was measured. Raises StageError where a value overflows, with the nodes to leave in float32.

    `before` is the float32 graph, its weights in `folder`; the converted one's are in `scratch`.
    """
    names = [value.name for value in before.graph.input]
    names += [name for node in before.graph.node for name in node.output]
    wanted = [name for name in dict.fromkeys(names) if name in made.halves]
    if not wanted:
        return ["nothing became float16"]
    version = next((one.version for one in before.opset_import if tensors.is_standard(one.domain)), 0)
    if version < LEAST_OPSET:
        return [f"the range of values was not measured: it takes opset {LEAST_OPSET}"]
    ranges, notes, smallest = _ranges(before, folder, made, wanted, feeds)
    if over := [name for name in wanted if ranges[name].largest >= OVERFLOWS]:
        what = some([f"'{name}' reaches {ranges[name].largest:.3g}" for name in over])
        room = bool(made.clamped) and all(ranges[name].largest < 1.5 * OVERFLOWS for name in over)
        raise _overflow(before, made, over, f"more than float16 holds (65504): {what}", room=room)
    if smallest is None:
        return [*notes, "the range of values was not measured: no case could be run, or all are empty"]
    largest = max(wanted, key=lambda name: ranges[name].largest)
    notes.append(f"largest value: {ranges[largest].largest:.3g}, in '{largest}'; float16 holds 65504")
    if len([*tensors.graphs(before)]) > 1:
        notes.append("values inside branches and loops were not measured")
    whole = {name for name in wanted if not ranges[name].nonfinite}
    return [*notes, _in_halves(before, made, smallest, whole, scratch)]


def _overflow(before: ModelProto, made: Converted, over: list[str], fact: str, *, room: bool = False) -> RefusalError:
    """The error; `room` where a little more room than clamped weights leave would do."""
    around = [
        node.name
        for node in before.graph.node
        if node.name not in made.blocked and {*over} & {*node.input, *node.output}
    ]
    hint = f"leave them in float32: node_block_list: {flow(around)}"
    less = "clamp weights, such as a mask's, to less, and sums with them fit: max_finite_val: 60000; or "
    return RefusalError(f"float16: {fact}", less + hint if room else hint)


def _ranges(
    before: ModelProto, folder: Path, made: Converted, wanted: list[str], feeds: Callable[[], Iterator[Arrays]]
) -> tuple[dict[str, Range], list[str], Arrays | None]:
    """The range of each value, notes, and the feed with the fewest elements of them, {} if that is still too many. One that
    leaves values empty, as a batch of 0 does, shows nothing of them, so any other comes before it.
    """
    probed, kept = _probed(before, folder, made, wanted)
    entries = {
        "session.model_external_initializers_file_folder_path": str(folder),
        "session.disable_prepacking": "1",  # packed copies of the weights would take as much memory again
    }
    try:
        session = onnxruntime.on_cpu(probed.SerializeToString(), "disable_all", entries=entries)
    except Exception as error:
        raise StageError(f"float16: the float32 graph can't be run: {onnxruntime.first_line(error)}") from error
    ranges = dict.fromkeys(kept, Range())
    smallest: tuple[int, int, Arrays] | None = None
    failed = ""
    takes = {value.name for value in session.get_inputs()}
    for feed in feeds():
        try:
            results = session.run(None, {name: array for name, array in feed.items() if name in takes})
        except Exception as error:  # noqa: BLE001  # a case that this graph can't be run at is told of by parity
            failed = onnxruntime.first_line(error)
            continue
        found = results[-3 * len(kept) :]
        for name, largest, whole in zip(kept, found[::3], found[1::3], strict=True):
            was = ranges[name]
            ranges[name] = Range(max(was.largest, float(largest)), was.nonfinite or not bool(whole == 0))
        sizes = [int(size) for size in found[2::3]]
        if any(sizes) and (smallest is None or (sizes.count(0), sum(sizes)) < smallest[:2]):
            smallest = sizes.count(0), sum(sizes), feed
    notes = [f"a case could not be measured: {failed}"] if failed else []
    if smallest is None:
        return ranges, notes, None
    return ranges, notes, smallest[2] if smallest[1] <= EVALUATED else {}


def _probed(before: ModelProto, folder: Path, made: Converted, wanted: list[str]) -> tuple[ModelProto, list[str]]:
    """The graph with three more outputs for each value: its largest finite magnitude, 0 if all of it is finite, its size."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    model = type(before)()
    model.CopyFrom(before)
    graph = model.graph
    for tensor in tensors.large_candidates(model):
        if tensor.name in made.clamped:
            values = np.frombuffer(b"".join(tensors.chunks(tensor, folder)), "<f4")
            tensors.set_inline(
                tensor, np.where(np.isfinite(values), np.clip(values, -made.most, made.most), values).tobytes()
            )
    zero, flat = f"{_PROBE}zero", f"{_PROBE}flat"
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), zero))
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), flat))
    for name in wanted:
        size, infinite, finite, line, some_, most, nothing, whole, count = (f"{_PROBE}{name} {n}" for n in range(9))
        graph.node.extend([
            helper.make_node("Abs", [name], [size]),
            helper.make_node("IsInf", [size], [infinite]),
            helper.make_node("Where", [infinite, zero, size], [finite]),
            helper.make_node("Reshape", [finite, flat], [line]),
            helper.make_node("Concat", [line, zero], [some_], axis=0),  # an empty value has no largest
            helper.make_node("ReduceMax", [some_], [most], keepdims=0),
            helper.make_node("Mul", [name, zero], [nothing]),
            helper.make_node("ReduceSum", [nothing], [whole], keepdims=0),
            helper.make_node("Size", [name], [count]),
        ])  # fmt: skip
        for output, kind in ((most, TensorProto.FLOAT), (whole, TensorProto.FLOAT), (count, TensorProto.INT64)):
            graph.output.append(helper.make_tensor_value_info(output, kind, []))
    return model, wanted


def _in_halves(before: ModelProto, made: Converted, feed: Arrays, whole: set[str], scratch: Path) -> str:
    """A note on the run in half precision. Raises StageError where a value of `whole`, all finite, isn't there."""
    said = "true half precision was not tried: {}"
    weights = sum(tensors.elements(tensor) for tensor in tensors.large_candidates(made.model))
    if not feed or weights > EVALUATED:
        return said.format("the model is too large for onnx's reference evaluator")
    try:
        results = _evaluated(made.model, feed, scratch)
    except Exception as error:  # noqa: BLE001  # what it does not know it does not say in one way
        return said.format(f"onnx's reference evaluator can't run it: {onnxruntime.first_line(error)}")
    over = [name for name in results if name in whole and not _is_finite(results[name])]
    if over:
        raise _overflow(before, made, over[:1], f"'{over[0]}' is not finite in true half precision; in float32 it is")
    return "true half precision (onnx's reference evaluator): all that is finite in float32 is"


def _evaluated(model: ModelProto, feed: Arrays, scratch: Path) -> dict[str, Any]:
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    whole = type(model)()
    whole.CopyFrom(model)
    modelfile.read_in(whole, scratch)
    types = {value.name: value.type.tensor_type.elem_type for value in whole.graph.input}
    given = {
        name: array.astype(np.float16) if types[name] == 10 else array for name, array in feed.items() if name in types
    }
    with np.errstate(all="ignore"):
        found: dict[str, Any] = ReferenceEvaluator(whole).run(None, given, intermediate=True)
    return found


def _is_finite(value: Any) -> bool:
    import numpy as np

    return not isinstance(value, np.ndarray) or value.dtype.kind != "f" or bool(np.isfinite(value).all())
