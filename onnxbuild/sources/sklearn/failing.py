"""What exceptions of scikit-learn, its converters and the boosters mean."""

from __future__ import annotations

import re
from pathlib import Path

from onnxbuild.errors import StageError
from onnxbuild.sources import failures

HINTS = (
    (
        r"Found unknown categories",
        "give the input data that the model was fitted for, as in data: {values: [red, white]}",
    ),
    (r"Input X contains NaN", "the data of an input holds NaN, which this estimator does not take"),
    (r"is (not white|black) ?listed", "allow it in white_op or black_op, or choose an estimator that needs none"),
    (r"could not convert string to float", "give inputs of text dtype: string only where the model learned text"),
)


def explain(error: Exception, what: str, root: Path) -> StageError:
    """A StageError that says what failed, the message, and what helps where that is known."""
    told = failures.explain(error, what, root)
    if isinstance(error, StageError) or told.hint:
        return told
    text = "\n".join(str(one) for one in failures.chain(error))
    hint = next((hint for pattern, hint in HINTS if re.search(pattern, text, re.IGNORECASE)), "")
    return StageError(told.fact, hint)
