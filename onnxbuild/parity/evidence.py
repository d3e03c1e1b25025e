"""What was found out about a graph that fails, once it had failed: read by whoever says in words what is wrong. Pure.

The stage `diagnose` measures it: the failing cases under weaker optimization of onnxruntime's own, the sizes with data
drawn anew, what failing runs have in common. Knows no arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct


class Run(Struct, frozen=True):
    """One output in one run of the graph beside the source model: at a case's own data, or at data drawn anew for it."""

    case: str
    output: str
    passed: bool
    traits: list[str]
    drawn: bool = False


class Evidence(Struct, frozen=True):
    """What was tried. `right_at`: the optimization levels of onnxruntime at which an output is right wherever it failed.

    `reordered` gives the axis along which an output has the reference's values in another order, `unsteady` whether the
    graph gives two results for one input, `kept` the files of failing cases, relative to the output folder.
    """

    right_at: dict[str, list[str]] = {}
    runs: list[Run] = []
    reordered: dict[str, int] = {}
    unsteady: bool = False
    kept: list[str] = []


NONE = Evidence()


def shared(runs: Iterable[Run]) -> list[str]:
    """What the inputs of every failing run have and those of no other run; [] where too few hold to tell."""
    runs = list(runs)
    failed = [set(run.traits) for run in runs if not run.passed]
    held = [set(run.traits) for run in runs if run.passed]
    if not failed or len(held) < 2:  # of one that holds, chance alone tells it from the others
        return []
    common = failed[0].intersection(*failed).difference(*held)
    return [trait for run in runs for trait in run.traits if trait in common][: len(common)]


def other_data(
    evidence: Evidence, output: str, failed: Sequence[str], held: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The failing cases at which other data hold, and the cases that hold at which other data fail."""
    anew = [run for run in evidence.runs if run.output == output and run.drawn]
    holds = {run.case for run in anew if run.passed}
    breaks = {run.case for run in anew if not run.passed}
    return [case for case in failed if case in holds], [case for case in held if case in breaks]
