"""The parts of a recipe about running and writing the final graph; what `types` makes the whole of. Knows no other part."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct


def form(pattern: str, expected: str) -> Meta:
    """A pattern, and in plain words what it asks for. Python's `$` alone would let a last line break through."""
    return Meta(pattern=rf"^{pattern}$(?!\n)", max_length=200, extra_json_schema={"x-expected": expected})


def said(description: str) -> Meta:
    """What editors and the reference show of a key."""
    return Meta(description=description)


Identifier = Annotated[str, form(r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and '_', not starting with a digit")]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]


class Session(Struct, frozen=True, forbid_unknown_fields=True):
    """onnxruntime.SessionOptions, by its own names."""

    graph_optimization_level: Annotated[
        Literal["disable_all", "basic", "extended", "layout", "all"], said("How far onnxruntime rewrites the graph.")
    ] = "all"
    intra_op_num_threads: Annotated[int, Meta(ge=0, description="0 leaves it to onnxruntime.")] = 0
    inter_op_num_threads: Annotated[int, Meta(ge=0, description="The same; used where nodes run in parallel.")] = 0
    execution_mode: Annotated[Literal["sequential", "parallel"], said("Whether nodes may run at the same time.")] = (
        "sequential"
    )
    enable_mem_pattern: Annotated[bool, said("Plan memory by the last run of the same sizes.")] = True
    enable_cpu_mem_arena: Annotated[bool, said("Keep freed memory for later runs.")] = True
    config_entries: Annotated[dict[str, str], Meta(description="add_session_config_entry, by key.")] = {}


class Runtime(Struct, frozen=True, forbid_unknown_fields=True):
    """How onnxruntime runs the graph, for parity and benchmark."""

    providers: Annotated[
        list[Annotated[str, Meta(examples=["CPUExecutionProvider", "CUDAExecutionProvider"])]],
        Meta(min_length=1, description="Execution providers, the preferred one first."),
    ] = msgspec.field(default_factory=lambda: ["CPUExecutionProvider"])
    provider_options: Annotated[dict[str, dict[str, str]], said("Options of providers, by the provider's name.")] = {}
    require: Annotated[
        list[str], Meta(description="Providers that must really run; anything else fails the build.")
    ] = []
    session: Session = Session()


class Benchmark(Struct, frozen=True, forbid_unknown_fields=True):
    """How the latency of the final graph is measured, beside the graph before the first pass that loses precision."""

    warmup: Annotated[NonNegative, said("Runs that are not timed, before those that are.")] = 10
    runs: Annotated[Positive, said("Runs that are timed.")] = 100
    dims: Annotated[
        dict[Identifier, Positive], Meta(description="Sizes to measure at; the example's where left out.")
    ] = {}


class Package(Struct, frozen=True, forbid_unknown_fields=True):
    """How the files are written."""

    external_data: Annotated[
        bool, Meta(description="Write the weights to model.onnx.data; always so past protobuf's 2 GiB limit.")
    ] = False
    layout: Annotated[
        Literal["plain", "ort_model_package"],
        Meta(
            description="plain: model.onnx and a folder per target. ort_model_package: beside them model_package/, which "
            "onnxruntime's model package API opens: a variant per provider and target, weights by their content."
        ),
    ] = "plain"
