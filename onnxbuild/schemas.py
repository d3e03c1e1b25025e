"""The published JSON Schemas: what `schemas/*.json` hold, of recipes and of what the commands print as JSON.

Validation makes its schema anew from the types, so an installed package needs no such file.
"""

from __future__ import annotations

import json
from pathlib import Path

from onnxbuild.explain import Explanations
from onnxbuild.objects import write_atomic
from onnxbuild.planned import Plans
from onnxbuild.recipe import schema
from onnxbuild.report.types import Report

_TYPES = {"report": Report, "plan": Plans, "explain": Explanations}
NAMES = ("recipe", *_TYPES)


def text(which: str) -> str:
    """One of the schemas as the published file holds it."""
    document = schema.recipe() if which == "recipe" else schema.of(_TYPES[which])
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write every schema into `folder` and return the files."""
    paths = {which: folder / f"{which}.schema.json" for which in NAMES}
    for which, path in paths.items():
        write_atomic(path, [text(which).encode()])
    return list(paths.values())
