"""The stage that is added to a recipe's DAG where a proof fails: it looks into the failure. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from onnxbuild.parity import tolerance
from onnxbuild.plan.dag import Stage
from onnxbuild.stages import STAGES

_AROUND = ("model", "prepend", "append", "renames")


def stage_for(stages: Sequence[Stage], proof: Stage, failed: Mapping[str, list[str]]) -> Stage:
    """The stage that looks into a proof which failed at these cases, by these outputs.

    It is no part of a plan: only a failure brings it about. It takes what the proof took, and runs the source's model as
    the reference does.
    """
    reference = next(stage for stage in stages if stage.name == proof.needs["reference"][0])
    module = STAGES["diagnose"]
    assert proof.tolerances is not None
    tolerances = msgspec.to_builtins(tolerance.unreasoned(proof.tolerances))
    if proof.options.get("bare"):  # what is around the source's own model may be more than is around that graph
        own = {key: reference.options[key] for key in _AROUND if key in reference.options}
        proof = msgspec.structs.replace(proof, options={**proof.options, "around": own})
    judged = {"of": proof.name, "failed": dict(failed), "tolerances": tolerances}
    return Stage(
        f"diagnose/{proof.name.partition('/')[2]}",
        "diagnose",
        module.__name__,
        f"{module.VERSION}.{reference.version}.{proof.version}",
        reference.options | proof.options | judged,
        needs=proof.needs,
        files=reference.files | proof.files,
        preload=reference.preload,
        tools=tuple(dict.fromkeys((*module.DISTRIBUTIONS, *proof.tools, *reference.tools))),
        facets=tuple(dict.fromkeys((*proof.facets, *reference.facets))),
        traits=module.TRAITS,
        fields=reference.fields | proof.fields | module.FIELDS,
        proof=proof.name,
    )
