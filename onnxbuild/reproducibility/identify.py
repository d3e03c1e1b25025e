"""Which recipe, revision and tools made a file, and whether it is still what was built.

A model's stamp tells the recipe, and whether the file or its weights were changed since, wherever it lies. Any published
file is known by its digest to the provenance of a build, which tells the rest; where that is gone, the store's memory of
recipes' last runs tells a part. None of this is signed. Changes nothing, and loads no weights and no onnx.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from onnxbuild.contracts import Trait
from onnxbuild.errors import usage
from onnxbuild.graphs import external, stamps
from onnxbuild.graphs.stamps import Stamped
from onnxbuild.report import BESIDE, manifest, provenance
from onnxbuild.report.provenance import Statement
from onnxbuild.report.types import Revision
from onnxbuild.stages import STAGES, package
from onnxbuild.store import keys, seal, traces
from onnxbuild.system import files

_GIVE = "give a published file, such as build/<name>/model.onnx"
_EMPTY = hashlib.sha256().hexdigest()
_FORGED = "{}: its metadata of the recipe are not as they were written"
_ABOVE = 6  # folders above a file in which its provenance may lie: a model package's are four deep


class Built(Struct, frozen=True):
    """The build that a file is of, as far as is known here. `source` is the file that tells: a provenance, or the store's.

    `packages` are what was installed and used, with versions; times are those of the run, "" where nobody noted them.
    """

    source: str
    recipe: str  # the recipe's file, relative to its project
    packages: dict[str, str]
    onnxbuild: str = ""
    started: str = ""
    finished: str = ""
    revision: Revision | None = None


class Identity(Struct, frozen=True):
    """What a file is. `changes` say what of it is not as it was built; `recipe` is "" of a file that is not ours."""

    version: Literal[1]
    file: str
    sha256: str
    status: Literal["unchanged", "changed", "not ours"]
    recipe: str = ""
    recipe_sha256: str = ""
    changes: list[str] = []
    built: Built | None = None


class _Known(NamedTuple):
    """A statement, and the folder of the build that it is on."""

    folder: Path
    statement: Statement

    @property
    def digests(self) -> dict[str, str]:
        return {one.name: one.digest.get("sha256", "") for one in self.statement.subject}

    @property
    def models(self) -> set[str]:
        found = (one.annotations.get(provenance.MODEL) for one in self.statement.subject)
        return {one for one in found if isinstance(one, str)}

    @property
    def recipe(self) -> dict[str, str]:
        told: dict[str, str] = self.statement.predicate.build_definition.external_parameters["recipe"]
        return told


def identify(path: Path, outs: Iterable[Path], store: Path | None) -> Identity:
    """What a file is; `outs` are folders that recipes publish in, `store` is a store's.

    Raises UserError where it can't be read, and for a report and the like, of which no digest is kept.
    """
    try:
        sha256, stamped = files.sha256_file(path), _stamped(path)
    except OSError as error:
        raise usage(f"{path}: {error.strerror}", _GIVE) from None
    known = list(_known(path, outs))
    if stamped is not None and stamped.stamp:
        return _of_stamp(path, sha256, stamped, known, store)
    for one in known:  # where it lies says more than its digest: a copy of another file is not what was built there
        name = _name_in(path, one)
        if name in BESIDE:
            held = name in (manifest.NAME, provenance.NAME)
            hint = f"onnxbuild verify {one.recipe['path']} compares it with the build" if held else _GIVE
            raise usage(f"{path}: written beside what was built, and no digest of it is kept", hint)
        if name in one.digests:
            is_it = one.digests[name] == sha256
            changes = list(_beside(path, one)) if is_it else [f"{path.name}: not the file that was built"]
            return _told(path, sha256, one, changes)
    for one in known if sha256 != _EMPTY else ():  # whose an empty file is, no digest says
        if sha256 in one.digests.values():
            return _told(path, sha256, one, [])
    return Identity(1, str(path), sha256, "not ours")


def _stamped(path: Path) -> Stamped | None:
    try:
        return stamps.read(path)
    except stamps.NoModelError:
        return None


def _known(path: Path, outs: Iterable[Path]) -> Iterator[_Known]:
    """The provenance of builds that the file may be of, that of the folders around it first."""
    folders = [*list(path.absolute().parents)[:_ABOVE], *(one for out in outs for one in sorted(out.glob("*")))]
    for folder in dict.fromkeys(folders):
        try:
            statement = provenance.parse(files.read(folder / provenance.NAME))
        except OSError:
            continue
        if statement is not None:
            yield _Known(folder, statement)


def _of_stamp(path: Path, sha256: str, stamped: Stamped, known: list[_Known], store: Path | None) -> Identity:
    recipe, digest, model = (
        stamped.stamp.get(key, "") for key in (stamps.RECIPE, stamps.RECIPE_SHA256, stamps.MODEL_SHA256)
    )
    # other builds of the same recipe may have given another model: only the one that gave this one tells of it
    same = [one for one in known if model in one.models]
    fits = [one for one in same if (one.recipe["name"], one.recipe["sha256"]) == (recipe, digest)]
    # a recipe's digest covers its name, and what lies where a build put it has the stamp of that build
    claims = [one for one in same if one.recipe["sha256"] == digest or _name_in(path, one) in one.digests]
    forged = [_FORGED.format(path.name)] if claims and not fits else []
    changes = list(dict.fromkeys([*forged, *_changes(path, stamped)]))
    fits = fits or claims
    built = _built(fits[0]) if fits else _of_store(store, digest, model) if store is not None else None
    return Identity(1, str(path), sha256, "changed" if changes else "unchanged", recipe, digest, changes, built)


def _changes(path: Path, stamped: Stamped) -> Iterator[str]:
    """What of a model is not as its stamp says."""
    stamp = stamped.stamp
    if stamped.several or {stamps.RECIPE, stamps.RECIPE_SHA256, stamps.MODEL_SHA256} - stamp.keys():
        yield _FORGED.format(path.name)
    if stamp.get(stamps.MODEL_SHA256) != stamped.sha256:
        yield f"{path.name}: its graph, its metadata or the weights in it are not those that were built"
    for name in external.locations(path):
        if Path(name).name != name:  # nothing of ours lies elsewhere
            yield f"{name}: no build puts weights there"
            continue
        where = package.weights_of(path, name)
        try:
            found = files.sha256_file(where)
        except OSError as error:
            yield f"{name}: {error.strerror}, and weights of the model are in it"
            continue
        if found != stamp.get(stamps.WEIGHTS_SHA256):
            yield f"{name}: not the weights that were built"


def _told(path: Path, sha256: str, one: _Known, changes: list[str]) -> Identity:
    """A file without a stamp that a provenance knows."""
    status: Literal["changed", "unchanged"] = "changed" if changes else "unchanged"
    return Identity(1, str(path), sha256, status, one.recipe["name"], one.recipe["sha256"], changes, _built(one))


def _name_in(path: Path, one: _Known) -> str:
    """The name by which a build would list a file; "" of one that lies elsewhere."""
    full = path.absolute()
    return full.relative_to(one.folder).as_posix() if full.is_relative_to(one.folder) else ""


def _beside(path: Path, one: _Known) -> Iterator[str]:
    """What is wrong with the files that were built with this one, where it lies among them: weights, say, are in another."""
    top, _, inner = _name_in(path, one).partition("/")
    for name, digest in one.digests.items() if inner else ():
        if name.partition("/")[0] != top:
            continue
        try:
            found = files.sha256_file(one.folder / name)
        except OSError as error:
            yield f"{name}: {error.strerror}, and it was built with this file"
            continue
        if found != digest:
            yield f"{name}: not the file that was built with this one"


def _built(one: _Known) -> Built:
    definition, run = one.statement.predicate.build_definition, one.statement.predicate.run_details
    installed = (dependency for dependency in definition.resolved_dependencies if dependency.uri)
    return Built(
        str(one.folder / provenance.NAME),
        one.recipe["path"],
        {one.name: one.uri.rpartition("@")[2].replace("%2B", "+").replace("%21", "!") for one in installed},
        run.builder.version.get("onnxbuild", ""),
        run.metadata.started_on,
        run.metadata.finished_on,
        provenance.commit(one.statement),
    )


def _of_store(folder: Path, recipe_sha256: str, model_sha256: str) -> Built | None:
    """What a store knows of a recipe's last run, where that is the one that gave a model."""
    kinds = [kind for kind, module in STAGES.items() if {Trait.MAKES, Trait.PUBLISHES} <= module.TRAITS]
    for path, latest in traces.all_latest(folder):
        place = next((latest.traces[kind] for kind in kinds if kind in latest.traces), "") if latest else ""
        if latest is None or not place:
            continue
        try:
            trace = traces.read_trace(traces.trace_file(folder, place), place.partition("/")[0])
        except (seal.DamagedError, OSError):
            continue
        gave = {one["sha256"] for one in trace.outcome.facts.get("unstamped", {}).values()}
        if model_sha256 in gave and keys.key_of(trace.document["options"]["recipe"]) == recipe_sha256:
            basis = latest.basis
            tools, version = (basis.tools, basis.version) if basis else (trace.document["tools"], "")
            return Built(str(path), Path(latest.file).name, dict(sorted(tools.items())), version)
    return None


def to_json(identity: Identity) -> str:
    """As one line."""
    return msgspec.json.encode(identity).decode()
