"""Says of the nodes that a failure names where they come from. What it takes is read only where one is named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from onnxbuild.contracts import Trait

if TYPE_CHECKING:
    from onnxbuild.contracts import Outcome
    from onnxbuild.plan.dag import Stage
    from onnxbuild.report.types import StageReport
    from onnxbuild.store.interface import Store


def placed(
    stage: Stage, report: StageReport, stages: Iterable[Stage], outcomes: Mapping[str, Outcome], store: Store
) -> StageReport:
    """The report of a stage; in its failure each node that is named has its scope and its line, where they are known.

    `stages` are the plan's, in order.
    """
    if report.failure is None or "'" not in report.failure.fact or "graph" not in stage.needs:
        return report
    from onnxbuild.queries import lines

    if not lines.NAMED.search(report.failure.fact):
        return report
    of, chain = stage.needs["graph"][0], []
    for one in stages:
        if one.is_a(Trait.GRAPH) and one.name in outcomes:
            chain.append(outcomes[one.name])
        if one.name == of:
            break
    found = lines.traced(store, chain)
    if found is None:
        return report
    failure = msgspec.structs.replace(report.failure, fact=lines.told(report.failure.fact, *found))
    return msgspec.structs.replace(report, failure=failure)
