"""The signal-to-quantization-noise ratio: how much stronger the reference is than the difference from it, in decibels.

SQNR = 10 log10(sum r^2 / sum (a - r)^2), in float64; see A. Oppenheim and R. Schafer, "Discrete-Time Signal Processing",
4.8.3, and onnxruntime.quantization.qdq_loss_debug, which computes the same. 20 dB are an error of a tenth, 40 dB of a
hundredth. A graph that gives zeros has 0 dB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from onnxbuild.parity.verdict import Look

if TYPE_CHECKING:
    import numpy as np

PARAMETERS: tuple[str, ...] = ()
BESIDE = ""
VARIES: int | None = None
UNIT = " dB"
LEAST = "min"


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """10 log10(sum r^2 / sum (a - r)^2) over all elements of a case: 20 dB are an error of a tenth, 40 dB a hundredth."""

    min: Annotated[
        float, Meta(gt=0, description="The least ratio at any case, in dB; zeros instead of a result have 0.")
    ]


def figure(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    """The ratio in dB: infinite where nothing differs, minus infinity where the reference is zeros and something does.

    What is not finite on both sides is left out.
    """
    import numpy as np

    a, b = got.astype(np.float64), reference.astype(np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    largest = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)) or 1.0
    signal, noise = float(((b / largest) ** 2).sum()), float(((a / largest - b / largest) ** 2).sum())
    if noise == 0:
        return float("inf") if np.array_equal(a, b) else 300.0
    return float(10 * (np.log10(signal) - np.log10(noise))) if signal else float("-inf")


def look(got: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> Look:  # noqa: ARG001  # the protocol's
    """No strings; hollow where there is no signal in what is finite."""
    import numpy as np

    if reference.dtype.kind in "OUSb":
        kind = "bool" if reference.dtype.kind == "b" else "strings"
        return Look(refused=f"sqnr is of numbers, and this output is of {kind}; 'exact' compares it")
    signal = not reference.size or bool(((reference != 0) & np.isfinite(reference.astype(np.float64))).any())
    return Look(hollow="" if signal else "the reference is all zeros: there is no signal")
