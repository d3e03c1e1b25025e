"""What a run finds in an output folder that it did not mean to leave there: half a package, failing cases that are mended.

Knows no recipe and decides nothing about stages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from onnxbuild.report.types import Artifact, StageReport
from onnxbuild.runtimes import reproduction
from onnxbuild.stages import package
from onnxbuild.system import observed
from onnxbuild.system.files import sha256_file


def published(dest: Path, since: float) -> list[Artifact]:
    """What a package that failed had already put into its folder: it died, or its result could not be kept.

    `since` is when this run began, in seconds of the epoch. The model comes last, so without it nothing was published.
    """
    if not _is_of(dest / package.MODEL, since):
        return []
    files = [path for path in (dest / package.WEIGHTS, dest / package.MODEL) if _is_of(path, since)]
    return [Artifact(path.name, sha256_file(path), path.stat().st_size) for path in files]


def clear_failures(dest: Path, stages: Sequence[StageReport]) -> None:
    """Take away the failing cases kept of stages that don't fail any more; those of stages that didn't run may still."""
    failing = {facts["kept"][0].rpartition("/")[0] for facts in (one.facts for one in stages) if facts.get("kept")}
    failing |= {f"{reproduction.FOLDER}/{stage.name}" for stage in stages if stage.status == "skipped"}
    with contextlib.suppress(OSError):  # a folder that can't be written keeps what it has
        reproduction.clear_all_but(dest, failing)
    if observed.kind(dest / reproduction.FOLDER):
        observed.doubt("failing cases are kept, and each run looks which of them may go")


def _is_of(path: Path, since: float) -> bool:
    try:
        return path.is_file() and path.stat().st_mtime >= since
    except OSError:
        return False
