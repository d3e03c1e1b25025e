"""Two arrays by one comparator, as a parity measures and judges them."""

from __future__ import annotations

from onnxbuild.parity import gates
from onnxbuild.parity.comparators import COMPARATORS

OPTIONS = {
    "cosine": {"min": 0.9},
    "sqnr": {"min": 20.0},
    "top_k": {"k": 2, "agreement": 0.5},
    "argmax": {},
    "boxes": {"iou": 0.5},
    "exact": {},
    "sorted": {"by": "y"},
}


def options(name, **own):
    return COMPARATORS[name].Options(**(own or OPTIONS[name]))


def measured(name, got, reference, opts=None, **beside):
    opts = opts or options(name)
    return gates.measure(got, reference, {name: gates.parameters(name, opts)}, beside or {"y": reference})[name]


def judged(name, got, reference, opts=None, **beside):
    opts = opts or options(name)
    return gates.judge(name, measured(name, got, reference, opts, **beside), opts)
