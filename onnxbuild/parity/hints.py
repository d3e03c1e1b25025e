"""What to do about a graph that fails its parity, in a sentence or two: only what helps where the failure is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from onnxbuild.parity import sizes, tolerance
from onnxbuild.parity.verdict import Verdict

if TYPE_CHECKING:
    from onnxbuild.contracts import Json

STEPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}  # of 1.0 to the next one
FEW = 4  # rounding steps; more than that may well be an error of another kind


KEPT_SHAPE = (
    "onnxruntime keeps something of a shape that it has seen: try runtime.session.enable_mem_pattern: false; "
    "it is a fault of onnxruntime or of the provider"
)


class Blamed(NamedTuple):
    """One group of failures, and what it is put down to.

    `dim` is the dimension whose size decides, "" where none does; `graph` the stage that made the first graph with such a
    failure, `entry` the recipe's entry that asks for that stage, () where none does; `right_at` the optimization levels of
    onnxruntime at which it is right; `traits` what the inputs of all failing runs have and those of no other; `not_there`
    the cases that hold with other data, `there_too` those that break with other data; `reordered` the axis along which the
    values are right, in another order.
    """

    failed: Sequence[Verdict]
    held: Sequence[Verdict]
    worst: Verdict
    example: Mapping[str, int]
    dim: str
    graph: str
    entry: Sequence[str | int] = ()
    right_at: Sequence[str] = ()
    traits: Sequence[str] = ()
    not_there: Sequence[str] = ()
    there_too: Sequence[str] = ()
    reordered: int | None = None
    unsteady: bool = False
    tunable: bool = False  # whether the pass can leave some nodes as they are
    several: bool = False  # whether the recipe has more such passes
    drawn_anew: bool = False  # whether it was tried with other data where it failed
    allowed_before: bool = False  # whether what holds for that graph allows what fails here
    place: str = ""  # where the recipe says what is allowed, "" where it says nothing but for what such an entry adds


def of(one: Blamed, facts: Json, exporter: str, fixed: Sequence[str]) -> str:
    """What the user can do about one group of failures."""
    if told := _of_recipe(one):
        return told
    if one.unsteady:
        return "the graph gives another result each time for the same input: make what it draws at random an input"
    if one.reordered is not None:
        return (
            "where scores are equal, each runtime is free in their order: take data without ties, make the order "
            "definite in the model (a second key, or a small term that grows with the index), or compare a list of indices "
            "by sorted: {by: the output of scores}"
        )
    if one.right_at:
        return (
            f"set runtime.session.graph_optimization_level: {one.right_at[-1]}, at which it is right; "
            "it is a fault of onnxruntime, whose developers will want the files kept of it"
        )
    if rounding := _rounding(one, facts):
        return rounding
    atol = tolerance.needed_atol(facts, one.worst.output, one.worst.rtol) if one.worst.rtol is not None else None
    small = atol is not None and one.worst.worst and atol <= 0.01 * max(1.0, _scale(one, facts))
    found = _of_pass(one) or _of_fixed(one, fixed) or _of_sizes(one, exporter) or _of_everywhere(one, facts, exporter)
    if atol is not None and small and not _is_baked(one):  # an error that grows with the size is no rounding
        place = f"{_tolerances(one)}.outputs.{one.worst.output}"
        why = ", reason: …" if atol > tolerance.ATOL else ""
        found = [*found, f"if that error is acceptable: {place}: {{atol: {atol:g}{why}}}"]
    several = len(one.failed) + len(one.held) > 1
    closer = "to look closer, set parity.derive to false and name that one case under parity.cases" if several else ""
    return "; ".join(found) or closer


def _of_recipe(one: Blamed) -> str:
    """What to do where the recipe asks for what can't be, or for more than of the graph before; "" elsewhere."""
    if one.worst.why == "unfit":
        return f"compare it in another way: {_tolerances(one)}.outputs.{one.worst.output}"
    if one.allowed_before:
        there = f"{_entry(one)}, where a wider tolerance holds" if one.entry else one.graph
        return f"most of it comes from {there}: widen {one.place or 'parity'}, or look at that"
    return ""


def _entry(one: Blamed) -> str:
    section, which = one.entry[:2]
    return f"{section}[{which}]" if section == "optimize" else f"{section}.{which}"


def _tolerances(one: Blamed) -> str:
    """Where the recipe says what is allowed: a pass and a target have places of their own."""
    if one.place or not one.entry:
        return one.place or "parity"
    return f"{_entry(one)}.parity"


def _scale(one: Blamed, facts: Json) -> float:
    """What an error is small beside: the value that it is in, or, of a target that rounds, the largest of the output."""
    assert one.worst.worst is not None
    if not one.entry or one.entry[0] != "targets":
        return abs(float(one.worst.worst.reference))
    rows = (row for row in facts["results"] if row["output"] == one.worst.output)
    return max((abs(float(point["reference"])) for row in rows for point in row["points"]), default=0.0)


def _of_pass(one: Blamed) -> list[str]:
    if not one.entry:
        return []
    section, name = one.entry[0], one.entry[-1]
    if section == "targets":
        return [f"take '{name}' out of targets, or look at its options"]
    if section in ("prepend", "append"):
        return [
            "the graph before is right between the steps' definitions: look at prepend and append, and at their nodes"
        ]
    if one.tunable:
        which = f" --pass {name}" if one.several else ""
        return [
            f"onnxbuild tune{which} finds the nodes that '{name}' has to leave as they are; or take it out of {section}"
        ]
    return [f"take '{name}' out of {section}, or keep only those of its steps that are right"]


def _of_fixed(one: Blamed, fixed: Sequence[str]) -> list[str]:
    """What the tracer took for a constant, where no other size or value would have come out."""
    if not fixed or (one.dim and not _is_baked(one)):
        return []
    return [f"the graph was {fixed[0]}; compute it with tensors, or use exporter: dynamo"]


def _of_sizes(one: Blamed, exporter: str) -> list[str]:
    if one.dim:
        return _of_dim(one, exporter)
    related = sizes.relation([v.dims for v in one.failed], [v.dims for v in one.held])
    if related and not one.not_there and not one.there_too:
        return [f"it holds where the sizes hang together: say so in export.dims, {{{related}}}"]
    return []


def _of_dim(one: Blamed, exporter: str) -> list[str]:
    """Why one dimension's sizes decide; the example's is its size while the model was traced."""
    dim, example = one.dim, one.example[one.dim]
    if not _is_baked(one):
        values = "" if one.drawn_anew else ", or with other values"
        return [f"look at what the model does with {dim} at these sizes{values}"]
    if exporter == "none":
        return [f"the file computes with a fixed {dim}: {example}; export it anew with a dynamic {dim}"]
    advice = (
        f"{dim} was fixed at the example's size: look for int(x.shape[i]), len(x), .item() or a Python loop over it"
    )
    if example > 1:
        return [f"{advice}, and use x.shape[i] as it is"]
    return [advice, f"exporters take a size of {example} for a constant: give the example {dim}=2 or more"]


def _of_everywhere(one: Blamed, facts: Json, exporter: str) -> list[str]:
    if one.held:
        return []
    rows = [row for row in facts["results"] if row["output"] == one.worst.output and row["shape"] is not None]
    shapes, wanted = ({tuple(row[key] or ()) for row in rows} for key in ("shape", "reference_shape"))
    if exporter not in ("", "none") and len(rows) > 1 and len(shapes) == 1 < len(wanted):
        shape = list(next(iter(shapes)))
        advice = "the exporter took it for a constant; look for .numpy(), .tolist(), .item() or torch.tensor(...)"
        return [f"the graph gives the shape {shape} whatever goes in: {advice} of a computed value"]
    if not one.worst.ran and len(one.failed) == 1:
        return []
    where = (
        "wrong at every size: look at the operators, not at the shapes" if one.failed[1:] else "look at the operators"
    )
    return [where if exporter == "none" else f"{where}; the other exporter may differ"]


def _rounding(one: Blamed, facts: Json) -> str:
    """What to do where all errors are of the size of the dtype's rounding, whatever the shapes; "" where any is not."""
    output, rtol, atol = one.failed[0].output, one.failed[0].rtol, one.failed[0].atol
    rows = [row for row in facts["results"] if row["output"] == output]
    if rtol is None or atol is None or any(row["error"] or row["mismatches"] for row in rows):
        return ""
    dtype = rows[0]["dtype"]
    largest = max((abs(float(point["reference"])) for row in rows for point in row["points"]), default=0.0)
    step = STEPS.get(dtype, 0.0) * largest
    off = max(verdict.max_abs or 0.0 for verdict in one.failed)
    if not 0 < off <= FEW * step:
        return ""
    fitting = max(rtol, float(f"{FEW * STEPS[dtype]:.1g}"))
    needed = tolerance.needed_atol(facts, output, fitting)
    wanted = [f"rtol: {fitting:g}"] if fitting > rtol else []
    wanted += [f"atol: {needed:g}"] if needed is not None and needed > atol else []
    if not wanted:
        return ""
    wanted += ["reason: …"]
    steps = f"{off / step:.2g}"
    return (
        f"at most {off:.2g} off is {steps} rounding step{'' if steps == '1' else 's'} of {dtype} at the largest value "
        f"compared ({largest:.3g}), so the sizes are hardly to blame; tolerances that fit {dtype}: "
        f"{_tolerances(one)}.outputs.{output}: {{{', '.join(wanted)}}}"
    )


def _is_baked(one: Blamed) -> bool:
    """Whether it holds at the example's size of the deciding dimension alone."""
    return bool(one.dim) and {verdict.dims[one.dim] for verdict in one.held} == {one.example[one.dim]}
