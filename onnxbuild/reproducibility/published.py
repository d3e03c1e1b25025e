"""Whether published files are what the last build left: what its report says, and what the store holds.

Changes nothing, and trusts no memory of digests. Whether another build would give the same is for `rebuild` to find out;
`last_build` gathers what it must give.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path

import msgspec

from onnxbuild import recipe as recipes
from onnxbuild import report as reports
from onnxbuild.errors import StageError
from onnxbuild.plan.dag import Plan
from onnxbuild.queries import decision
from onnxbuild.queries.lookup import Lookup
from onnxbuild.report.types import Report
from onnxbuild.reproducibility import rebuild
from onnxbuild.stages import package
from onnxbuild.store.digests import Digests
from onnxbuild.store.interface import Store
from onnxbuild.store.objects import digest_of
from onnxbuild.store.traces import Trace
from onnxbuild.system.files import sha256_file


def last_report(dest: Path) -> Report:
    """The report of the last build in a folder. Raises StageError where there is none, or nothing was published."""
    path = dest / "report.json"
    try:
        report = reports.read(path)
    except OSError as error:
        raise StageError(f"{path}: {error.strerror}", "build the recipe first: onnxbuild run") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StageError(f"{path} is not a report: {error}", "build the recipe again: onnxbuild run") from None
    if report.status != "done" or not report.artifacts:
        raise StageError(
            f"{path}: the last build {report.status} and published nothing", "build it again: onnxbuild run"
        )
    return report


def published(report: Report, dest: Path, store: Store) -> list[str]:
    """What is wrong with the files in `dest`: they must be what the report says, and the store must hold what they are."""
    wrong = []
    for made in report.artifacts:
        path = dest / made.path
        if not package.may_publish(made.path):
            wrong.append(f"{dest}: the report lists {made.path!r}, which no build publishes")
            continue
        try:
            found = sha256_file(path)
        except OSError as error:
            wrong.append(f"{path}: {error.strerror}")
            continue
        if found != made.sha256:
            wrong.append(f"{path}: changed since it was built: SHA-256 {found}, the report says {made.sha256}")
    left = sorted(package.possible(dest) - {made.path for made in report.artifacts})
    wrong += [
        f"{dest / name}: of a target that the last build did not have" for name in left if (dest / name).is_file()
    ]
    return wrong + _listed(report, dest) + _attested(report, dest) + _not_held(report, store)


def _listed(report: Report, dest: Path) -> list[str]:
    """What is wrong with the manifest of a build, which whoever deploys it goes by."""
    path, told = dest / reports.manifest.NAME, reports.manifest.of(report)
    try:
        same = told is not None and path.read_bytes() == reports.manifest.to_json(told)
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return [] if same else [f"{path}: changed since it was built: it is not what the report says"]


def _attested(report: Report, dest: Path) -> list[str]:
    """What is wrong with the provenance of a build and its bill of materials."""
    missing = [dest / name for name in reports.provenance.VOUCHING if not (dest / name).is_file()]
    if missing:
        return [f"{path}: {os.strerror(errno.ENOENT)}" for path in missing]
    if reports.is_attested(report, dest):
        return []
    both = " or ".join(reports.provenance.VOUCHING)
    return [f"{dest / both}: changed since it was built: it is not what the report says"]


def _not_held(report: Report, store: Store) -> list[str]:
    """What the store lacks of what the report says was published, whatever stages the recipe has by now."""
    keys = {stage.name: stage.key for stage in report.stages if re.fullmatch("[0-9a-f]{64}", stage.key)}
    made = msgspec.to_builtins(report.artifacts)
    last = next((stage for stage in report.stages if "artifacts" in stage.facts and stage.name in keys), None)
    trace = store.find(keys[last.name], lambda trace: trace.outcome.facts.get("artifacts") == made) if last else None
    if last is None or trace is None:
        return [f"{store.folder}: the store holds no result of {last.name if last else 'package'} with these files"]
    digest = trace.document["inputs"]["graph"]
    for key in (keys[name] for name in last.needs if name in keys):
        held = store.find(key, lambda trace: digest in map(digest_of, trace.outcome.outputs.values()))
        if held is not None:
            return damaged(store, held)
    return [f"{store.folder}: the store no longer holds the graph that they were made from"]


def damaged(store: Store, trace: Trace) -> list[str]:
    """The objects of a trace whose content is not that of their name."""
    return [f"{store.path(ref)}: damaged or missing" for ref in store.fetch(trace.sizes, _is_whole)]


def _is_whole(path: Path, digest: str) -> bool:
    with contextlib.suppress(OSError):
        return sha256_file(path) == digest
    return False


def last_build(loaded: recipes.Loaded, plan: Plan, store: Store, digests: Digests) -> dict[str, Trace]:
    """The trace of every stage that is built again. Raises StageError where one is not up to date or was damaged."""
    name = loaded.recipe.name
    lookup = Lookup(store, digests, loaded.root, store.latest(name, loaded.root), name)
    traces: dict[str, Trace] = {}
    for stage in rebuild.chain(plan):
        taken = decision.given(stage, {name: trace.outcome.outputs for name, trace in traces.items()}, loaded.root)
        found = lookup.find(stage, taken.refs, taken.files, taken.refused)
        again = f"build it first: onnxbuild run {loaded.path}"
        if found.trace is None:
            raise StageError(f"{stage.name} is not up to date: {'; '.join(found.why)}", again)
        if wrong := damaged(store, found.trace):
            raise StageError(wrong[0], again)
        traces[stage.name] = found.trace
    return traces
