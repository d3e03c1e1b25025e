"""What the reference stage tries of the source model besides the cases, see `parity.probes`. No kind of stage of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path

from onnxbuild.contracts import Arrays, Reference, Task
from onnxbuild.errors import StageError

SHOWN = 4  # names told before "and 3 more"


def probed(task: Task, model: Reference, root: Path, first: Arrays) -> Arrays:
    """What is tried besides the cases, at the sizes and on the data of the first one, whose result is `first`.

    Raises StageError where the model gives another result for the same data.
    """
    import numpy as np

    from onnxbuild.parity import probes, samples

    inputs, case, seed = task.options["inputs"], task.options["cases"][0], task.options["seed"]
    given, redrawn = (make(inputs, case, seed, root) for make in (samples.make, samples.other))
    other: Arrays = {}
    if any(not probes.same(given[name], redrawn[name]) for name in inputs):
        with contextlib.suppress(Exception):  # what fits the description need not fit together
            other = model.call(redrawn)
    if len(inputs) == 1 and other:
        matter, unknown = ([*inputs] if probes.differ(first, other) else []), list[str]()
    else:
        matter, unknown = _inputs_that_matter(model, given, redrawn, first)
    # Right after other runs at these sizes: a state whose shape fits is used, and one of another shape is made anew.
    require_steady(model, given, first)
    return {
        probes.MATTER: np.array(matter, object),
        probes.UNKNOWN: np.array(unknown, object),
        **{f"{probes.OTHER}/{name}": array for name, array in other.items()},
    }


def require_steady(model: Reference, given: Arrays, first: Arrays) -> None:
    """Raises StageError where the model does not give for the first case's data what it gave the first time."""
    from onnxbuild.parity import probes

    try:
        apart = probes.drift(first, model.call(given))
    except Exception as error:  # a model's code may raise anything
        raise _unsteady(model.changed(), f"on the second call {type(error).__name__}: {error}") from error
    if apart:
        output, off = max(apart.items(), key=lambda pair: pair[1])
        raise _unsteady(model.changed(), f"output '{output}' is {off:.3g} off")


def _inputs_that_matter(model: Reference, given: Arrays, redrawn: Arrays, first: Arrays) -> tuple[list[str], list[str]]:
    """The inputs that change some output, and those for whose other values the model raises."""
    from onnxbuild.parity import probes

    matter, unknown = [], []
    for number, (name, array) in enumerate(given.items()):
        if number >= probes.MOST and not probes.same(array, redrawn[name]):
            continue
        raised = False
        for changed in probes.changes(array, redrawn[name]):
            try:
                other = model.call({**given, name: changed})
            except Exception:  # noqa: BLE001  # a value that the model does not take
                raised = True
                continue
            if probes.differ(first, other):
                matter.append(name)
                break
        if raised and name not in matter:
            unknown.append(name)
    return matter, unknown


def _unsteady(changed: list[str], seen: str) -> StageError:
    """The error of a model that gives another result for the same data."""
    if changed:
        return StageError(
            f"forward changes {_some(changed)}, and a second call on the same data gives another result: {seen}",
            "a graph keeps nothing from one run to the next: make the state an input and an output of the model",
        )
    return StageError(
        f"the model gives another result for the same data: {seen}",
        "dropout or batch norm in train mode (F.dropout without training=self.training)? torch.rand? "
        "make random numbers an input of the model",
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
