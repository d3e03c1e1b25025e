"""The licences that installed distributions declare in their metadata. Judges none of them.

Source: https://packaging.python.org/specifications/core-metadata.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from onnxbuild.system import distributions

_LONGEST = 100  # characters; some put all of their licence's text there
_CLASSIFIER = "License :: "


class Licence(NamedTuple):
    """An expression of SPDX's, or where there is none what the licences are called, in the distribution's own words."""

    expression: str
    names: list[str]


def of(distribution: str) -> Licence:
    """What an installed distribution says; nothing of one that says nothing, or is not there."""
    _, folder = distributions.distributions().get(distributions.normalise_name(distribution), ("", ""))
    try:
        with open(Path(folder, "METADATA"), encoding="utf-8", errors="replace") as file:
            head = file.read().partition("\n\n")[0]
    except OSError:
        return Licence("", [])
    texts, classified = [], []
    for line in head.split("\n"):
        field, _, value = line.partition(": ")
        if field == "License-Expression":
            return Licence(value.strip(), [])
        if field == "License":
            texts.append(value.strip())
        elif field == "Classifier" and value.startswith(_CLASSIFIER):
            classified.append(value.rpartition(" :: ")[2].strip())
    named = [text for text in texts if text and len(text) <= _LONGEST and text != "UNKNOWN"]
    return Licence("", [name for name in classified if name != "OSI Approved"] or named)
