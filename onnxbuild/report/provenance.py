"""provenance.json: where what was built comes from, as an in-toto statement with SLSA's provenance.

The form is that of https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1. Times, the commit and who built
stand only here, so this is the one file whose bytes equal builds don't share; it is written anew where anything else of it
is other. It is not signed: the folder may be, with all that is in it. Made of the report alone. Knows no files.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

import onnxbuild
from onnxbuild.report import history
from onnxbuild.report.types import Package, Report, Revision, Source

NAME, BOM = "provenance.json", "bom.cdx.json"
STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
VOUCHING = (NAME, BOM)
BUILDER = "pkg:generic/onnxbuild"  # whoever runs it, on their own machine: this says what ran, and not where
BUILD_TYPE = f"{BUILDER}#recipe/v1"
MODEL = "model_sha256"  # beside the digest of a published model's file, that of it without its stamp
_COMMIT = "gitCommit"


class Resource(Struct, frozen=True, omit_defaults=True):
    """in-toto's ResourceDescriptor: at least one of `uri` and `digest` is there."""

    name: str = ""
    uri: str = ""
    digest: dict[str, str] = {}
    annotations: dict[str, Any] = {}


class Definition(Struct, frozen=True, rename="camel"):
    build_type: str
    external_parameters: dict[str, Any]  # {"recipe": {"name", "path", "sha256"}}, the digest being the model's stamp
    internal_parameters: dict[str, Any]  # {"machine"}: what decides how numbers are rounded
    resolved_dependencies: list[Resource]


class Builder(Struct, frozen=True, omit_defaults=True):
    id: str
    version: dict[str, str] = {}


class Metadata(Struct, frozen=True, rename="camel", omit_defaults=True):
    started_on: str = ""
    finished_on: str = ""


class RunDetails(Struct, frozen=True):
    builder: Builder
    metadata: Metadata


class Predicate(Struct, frozen=True, rename="camel"):
    build_definition: Definition
    run_details: RunDetails


class Statement(Struct, frozen=True, rename="camel"):
    type: str = msgspec.field(name="_type")
    subject: list[Resource]
    predicate_type: str
    predicate: Predicate


class _Made(NamedTuple):
    """When, from which commit and by which onnxbuild something was last built, as far as that is known."""

    run: Metadata
    revision: Revision | None
    version: dict[str, str]


def of(report: Report, bom_sha256: str) -> Statement:
    """The statement on a build that is done; the bill of materials is one of its subjects."""
    made, recipe = _made(report), report.recipe
    told = {"name": report.name, "path": recipe.path, "sha256": recipe.resolved_sha256}
    models = {path: one["sha256"] for stage in report.stages for path, one in stage.facts.get("unstamped", {}).items()}
    subjects = [
        Resource(
            one.path, digest=_sha256(one.sha256), annotations={MODEL: models[one.path]} if one.path in models else {}
        )
        for one in reversed(report.artifacts)
    ]
    dependencies = [*map(_source, report.sources), *map(_package, report.packages)]
    if made.revision is not None:
        changed = {"changed": True} if made.revision.changed else {}
        dependencies.insert(0, Resource("project", digest={_COMMIT: made.revision.commit}, annotations=changed))
    return Statement(
        STATEMENT,
        [*subjects, Resource(BOM, digest=_sha256(bom_sha256))],
        PREDICATE,
        Predicate(
            Definition(BUILD_TYPE, {"recipe": told}, {"machine": report.run.machine}, dependencies),
            RunDetails(Builder(BUILDER, made.version), made.run),
        ),
    )


def to_json(statement: Statement) -> bytes:
    """Indented JSON."""
    return msgspec.json.format(msgspec.json.encode(statement), indent=2) + b"\n"


def parse(text: bytes) -> Statement | None:
    """The statement in a file's bytes; None of anything that is no statement of ours."""
    try:
        found = msgspec.json.decode(text, type=Statement)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    ours = (STATEMENT, PREDICATE, BUILD_TYPE)
    told = found.predicate.build_definition.external_parameters.get("recipe")
    is_told = isinstance(told, dict) and all(isinstance(told.get(key), str) for key in ("name", "path", "sha256"))
    return (
        found
        if is_told and ours == (found.type, found.predicate_type, found.predicate.build_definition.build_type)
        else None
    )


def says_the_same(one: Statement, other: Statement) -> bool:
    """Whether two statements are on the same files, made of the same, whenever, wherever and by whom."""
    return _lasting(one) == _lasting(other)


def commit(statement: Statement) -> Revision | None:
    """The commit that something was built from, where it was one."""
    for one in statement.predicate.build_definition.resolved_dependencies:
        if _COMMIT in one.digest:
            return Revision(one.digest[_COMMIT], bool(one.annotations.get("changed", False)))
    return None


def url(package: Package) -> str:
    """A package URL: https://github.com/package-url/purl-spec."""
    name = package.name.replace("@", "%40") if package.kind == "npm" else package.name
    return f"pkg:{package.kind}/{name}@{package.version.replace('+', '%2B').replace('!', '%21')}"


def name_of(source: Source) -> str:
    """What a file is called here: outside the project it goes by its name alone, for no path of a machine's is told."""
    outside = source.path.startswith(("/", "~")) or source.path[1:2] == ":"
    path = source.path.replace("\\", "/")
    return path[path.rstrip("/").rfind("/") + 1 :] if outside else source.path


def _lasting(statement: Statement) -> tuple[Any, ...]:
    definition = statement.predicate.build_definition
    others = [one for one in definition.resolved_dependencies if _COMMIT not in one.digest]
    return statement.subject, definition.external_parameters, others


def _made(report: Report) -> _Made:
    """Of this run where it built anything, else of the last one that did."""
    if history.built(report):
        run = report.run
        return _Made(_times(run.started, run.seconds), run.revision, {"onnxbuild": onnxbuild.__version__})
    last = report.run.last_build
    return _Made(Metadata(), None, {}) if last is None else _Made(_times(last.started, last.seconds), last.revision, {})


def _times(started: str, seconds: float) -> Metadata:
    try:
        begun = dt.datetime.fromisoformat(started).astimezone(dt.UTC)
    except ValueError:  # of a report that somebody edited
        return Metadata()
    ended = begun + dt.timedelta(seconds=seconds)
    return Metadata(*(f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (begun, ended)))


def _source(source: Source) -> Resource:
    return Resource(name_of(source), digest={"dirHash": source.sha256} if is_folder(source) else _sha256(source.sha256))


def is_folder(source: Source) -> bool:
    """Whether it is a folder of data: its digest is of a listing then, and of no file."""
    return source.path.endswith("/")


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest}


def _package(package: Package) -> Resource:
    return Resource(package.name, url(package))
