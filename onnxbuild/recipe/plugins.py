"""The parts of a recipe that plug-ins make: source, steps, passes, targets, each type from its table. Pure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from onnxbuild.parity.tolerance import Tolerances
from onnxbuild.passes import PASSES
from onnxbuild.sources import SOURCES
from onnxbuild.steps import STEPS
from onnxbuild.targets import TARGETS

Field: TypeAlias = tuple[str, Any, Any]  # name, type and default


def _one_of(name: str, doc: str, table: dict[str, Any], *beside: Field) -> type[Struct]:
    """A mapping with exactly one key named after a plug-in, that holds that plug-in's options; what may be `beside` it."""
    return _any_of(name, doc, table, *beside)


def _any_of(name: str, doc: str, table: dict[str, Any], *beside: Field) -> type[Struct]:
    """A mapping with keys named after plug-ins, each holding that plug-in's options; what may be `beside` them."""
    fields: list[Field] = [(key, module.Options | UnsetType, UNSET) for key, module in table.items()]
    fields += beside
    return msgspec.defstruct(
        name, fields, frozen=True, forbid_unknown_fields=True, omit_defaults=True, namespace={"__doc__": doc}
    )


def _of_target(name: str, module: Any) -> type[Struct]:
    """A target's own options, and what every target has."""
    fields = [
        (
            "parity",
            Annotated[
                Tolerances | UnsetType, Meta(description="Tolerances for this target, in place of the recipe's.")
            ],
            UNSET,
        ),
        (
            "optional",
            Annotated[bool, Meta(description="Leave it out, and say so, where its tool is not installed.")],
            False,
        ),
    ]
    doc = {"__doc__": module.Options.__doc__}
    title = f"{name.title()}Target"
    return msgspec.defstruct(
        title, fields, bases=(module.Options,), frozen=True, forbid_unknown_fields=True, namespace=doc
    )


Model = _one_of("Model", "Where the model comes from; exactly one key.", SOURCES)
BESIDE: dict[str, tuple[str, ...]] = {"Pass": ("parity",)}  # keys that are none of the one which a mapping has to have
_TOLERANCES = "Tolerances in place of those before: of this pass's graph, later ones, and targets without their own."
Pass = _one_of(
    "Pass",
    "One optimizer pass, and what its graph may be off; exactly one key beside `parity`.",
    PASSES,
    ("parity", Annotated[Tolerances | UnsetType, Meta(description=_TOLERANCES)], UNSET),
)
Step = _one_of("Step", "One step before or after the model; exactly one key.", STEPS)
_TARGET_OPTIONS = {name: SimpleNamespace(Options=_of_target(name, module)) for name, module in TARGETS.items()}
Targets = _any_of("Targets", "What other runtimes load, by the target's name.", _TARGET_OPTIONS)
