"""What a person or a machine reads of a build: report.json, report.md, report.html, and the terminal.

Takes what came of the stages and knows nothing of how it came about. Importing this loads msgspec only; jinja2 comes with
the first Markdown or HTML that is written.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from onnxbuild.report import history, manifest, provenance
from onnxbuild.report.types import Report, RunReport
from onnxbuild.system.files import opened, write_atomic
from onnxbuild.system.files import read as read_file

__all__ = [
    "BESIDE",
    "INDEX",
    "after_the_last",
    "canary",
    "canary_text",
    "changes",
    "changes_page",
    "changes_text",
    "changes_view",
    "diagrams",
    "figures",
    "history",
    "is_there",
    "junit",
    "manifest",
    "pages_tell",
    "progress",
    "provenance",
    "read",
    "to_json",
    "types",
    "withdraw",
    "write",
    "write_fleet",
]

PAGES = ("report.md", "report.html")
# What is written beside what was built, and is no subject of its provenance.
BESIDE = frozenset({"report.json", *PAGES, manifest.NAME, provenance.NAME})
INDEX = "index.html"  # over all recipes that publish into a folder
_OURS = b"<!-- onnxbuild: all recipes of this folder -->\n"  # at the end of it: one without is somebody else's page


def write(report: Report, folder: Path, *, html: bool = True) -> list[Path]:
    """Write report.json and, with `html`, report.md and report.html into a folder; return the paths of those written.

    Each file is replaced whole or not at all. The same report gives the same bytes. Without `html`, report.json stays as
    it is where nothing but `run` is new: with nothing to do nothing is written, and there is no disk to wait for.
    The bill of materials, the manifest and the provenance come last, and older ones go first where one of them says
    something else: they never vouch for another build.
    """
    texts = {"report.json": to_json(report)}
    told = manifest.of(report)
    listed = b"" if told is None else manifest.to_json(told)
    before = _content(folder / provenance.NAME)
    stands = _content(folder / manifest.NAME) == listed and (not listed or is_attested(report, folder))
    if not stands:
        withdraw(folder)
    if (
        stands
        and not html
        and _but_for_the_run(_content(folder / "report.json")) == _but_for_the_run(texts["report.json"])
    ):
        return []
    if html:
        from onnxbuild.report import render

        mark = _mark(report)
        texts |= {
            name: make(report).encode() + mark for name, make in zip(PAGES, (render.markdown, render.html), strict=True)
        }
    if listed and not stands:
        from onnxbuild.report import bom

        texts |= {provenance.BOM: bom.of(report), manifest.NAME: listed}
        texts[provenance.NAME] = _attestation(report, texts[provenance.BOM], before)
    for name, text in texts.items():
        write_atomic(folder / name, [text])
    return [folder / name for name in texts]


def write_fleet(folder: Path, *, wanted: bool) -> bool:
    """Bring the page over all recipes that publish into a folder up to date; whether it is there.

    Without `wanted` only where it is there already. Somebody else's page in its place stays. Raises OSError.
    """
    path = folder / INDEX
    there = _content(path)
    if not there.endswith(_OURS) if there else not wanted:
        return False
    from onnxbuild.report import render

    found: dict[str, Report] = {}
    unread = []
    for one in sorted(folder.glob("*/report.json")):
        try:
            found[one.parent.name] = read(one)
        except (OSError, msgspec.MsgspecError):
            unread.append(one.parent.name)
    text = render.fleet(found, unread).encode() + _OURS
    if text != there:
        write_atomic(path, [text])
    return True


def withdraw(folder: Path) -> None:
    """Take away what vouches for the files of a folder: they are about to be, or may be, something else."""
    for name in (provenance.NAME, manifest.NAME, provenance.BOM):
        (folder / name).unlink(missing_ok=True)


def is_attested(report: Report, folder: Path) -> bool:
    """Whether the provenance in a folder is that of such a build, and the bill of materials the one that it names."""
    there = provenance.parse(_content(folder / provenance.NAME))
    bill = hashlib.sha256(_content(folder / provenance.BOM)).hexdigest()
    return there is not None and provenance.says_the_same(there, provenance.of(report, bill))


def _attestation(report: Report, bill: bytes, before: bytes) -> bytes:
    """The provenance of a build; the one from `before` where it says the same, for its times are those of the build."""
    made = provenance.of(report, hashlib.sha256(bill).hexdigest())
    old = provenance.parse(before)
    keep = old is not None and provenance.says_the_same(old, made)
    return before if keep else provenance.to_json(made)


def pages_tell(report: Report, folder: Path) -> bool:
    """Whether both pages are there and tell of such a report, whatever of it was built or cached when they were written.

    Each page ends with a mark of what it tells: report.json may tell of another run, which was killed before it came to
    the pages, or found nothing to do.
    """
    mark = _mark(report)
    return all(_end(folder / name, len(mark)) == mark for name in PAGES)


def is_there(folder: Path) -> bool:
    """Whether there is a report.json, of whatever run."""
    return (folder / "report.json").is_file()


def to_json(report: Report) -> bytes:
    """The report as indented JSON: fields in the order of their types, mappings sorted by key."""
    return msgspec.json.format(msgspec.json.encode(report, order="deterministic"), indent=2) + b"\n"


def read(path: Path) -> Report:
    """The report that a report.json holds. Raises OSError, or msgspec.ValidationError where it isn't one."""
    return msgspec.json.decode(read_file(path), type=Report)


def after_the_last(report: Report, folder: Path) -> Report:
    """A report that says when anything was last built, by the report.json that it is to take the place of."""
    if history.built(report):
        return report
    try:
        before = msgspec.json.decode(_content(folder / "report.json"), type=history.Before)
    except msgspec.MsgspecError:  # none there, or of another version
        before = None
    return history.carried(report, before)


def _mark(report: Report) -> bytes:
    """A comment with the digest of all that stays the same when nothing is left to do."""
    replace = msgspec.structs.replace
    stages = [
        replace(stage, status="cached", why=[]) if stage.status in ("built", "cached") else stage
        for stage in report.stages
    ]
    lasting = replace(report, stages=stages, run=RunReport("", 0.0, "", "", 0))
    digest = hashlib.sha256(msgspec.json.encode(lasting, order="deterministic")).hexdigest()
    return f"<!-- report {digest} -->\n".encode()


def _end(path: Path, count: int) -> bytes:
    try:
        with opened(path, ours=True) as file:
            file.seek(-count, os.SEEK_END)
            return file.read()
    except OSError:  # not there, or shorter than that
        return b""


def _content(path: Path) -> bytes:
    try:
        return read_file(path, ours=True)
    except OSError:
        return b""


def _but_for_the_run(text: bytes) -> bytes:
    """A report's JSON up to its last field. No other line of it can begin like that: strings hold no line breaks."""
    return text.rpartition(b'\n  "run": {')[0]
