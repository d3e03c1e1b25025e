from __future__ import annotations

from onnxbuild.sources.pytorch.tracing import SHOWN, fixed


def tracer(place: str, what: str) -> str:
    return f"{place}TracerWarning: {what} might cause the trace to be incorrect. We can't record the data flow."


def test_what_tracing_fixed_in_the_project_is_one_note():
    heard = [
        tracer("models/m.py:6: ", "Converting a tensor to a Python boolean"),
        "UserWarning: mind the gap",
        tracer("models/m.py:9: ", "Converting a tensor to a Python integer"),
        tracer("models/m.py:9: ", "Using len to get tensor shape"),
        tracer("", "Converting a tensor to a Python float"),  # of a library
        "m.py:3: TracerWarning: torch.tensor results are registered as constants in the trace. You can safely ignore it.",
    ]

    (note,) = fixed(heard)
    assert note == (
        "traced with the example's values, and the same for every input: "
        "models/m.py:6 (converting a tensor to a Python boolean), "
        "models/m.py:9 (converting a tensor to a Python integer, using len to get tensor shape)"
    )
    assert fixed(heard[4:]) == []
    (many,) = fixed(tracer(f"m.py:{line}: ", "Iterating over a tensor") for line in range(SHOWN + 3))
    assert many.endswith(f"m.py:{SHOWN - 1} (iterating over a tensor) and 3 more (see the export's warnings)")
