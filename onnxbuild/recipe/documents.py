"""From files to YAML documents with places, and from findings in them to problems.

Knows no recipe: a lock file is read by the same functions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from onnxbuild.errors import Problem, UserError
from onnxbuild.recipe import yaml_reader
from onnxbuild.recipe.findings import Finding, dotted
from onnxbuild.recipe.yaml_reader import Document
from onnxbuild.system.files import opened
from onnxbuild.text.wording import nearest

MAX_BYTES = 1 << 20


def text_of(path: Path) -> str:
    """The text of a YAML file of ours. Raises UserError where it can't be read."""
    return decoded(path, content(path))


def document_of(path: Path, text: str) -> tuple[Document | None, list[Problem]]:
    """A text's document, and what is wrong with it as YAML; None where nothing of it can be read."""
    try:
        document = yaml_reader.read(text)
    except yaml_reader.Unreadable as error:
        return None, [of_issue(path, error.issue)]
    return document, [of_issue(path, issue) for issue in document.issues]


def shape_problems(path: Path, document: Document, type_: Any) -> list[Problem]:
    """Where a document that a type refused is not of its shape."""
    from onnxbuild.recipe import schema, schema_errors

    return placed(path, document, schema_errors.explain(document, schema.of(type_)))


def digest_of(document: Document) -> str:
    """The SHA-256, in hexadecimal, of what a document says, whatever its comments, its layout and the order of keys."""
    return hashlib.sha256(msgspec.json.encode(document.data, order="deterministic")).hexdigest()


def content(path: Path) -> bytes:
    """The bytes of a YAML file of ours. Raises UserError where it can't be read, or is larger than any of those is."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:  # it stands in reports, traces and locks, which are text
        fact, hint = "the path is not UTF-8", "rename the file or folder"
        raise UserError(Problem(str(path), 0, 0, "", fact, hint)) from None
    if os.path.isdir(path):  # noqa: PTH112  # unlike pathlib's, of a name that is too long, too
        raise UserError(
            Problem(str(path), 0, 0, "", "a folder, not a recipe", f"give a file, such as {path / '*.yaml'}")
        )
    try:
        with opened(path) as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        beside = [name for name in _listdir(path.parent) if name.endswith((".yaml", ".yml"))]
        hint = nearest(path.name, beside)
        raise UserError(Problem(str(path), 0, 0, "", "no such file", hint)) from None
    except OSError as error:
        raise UserError(Problem(str(path), 0, 0, "", f"cannot be read: {error.strerror}")) from None
    if len(content) > MAX_BYTES:
        hint = "a recipe names its data; it does not hold it"
        raise UserError(Problem(str(path), 0, 0, "", f"more than {MAX_BYTES >> 20} MiB, too large for a recipe", hint))
    return content


def _listdir(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def decoded(path: Path, content: bytes) -> str:
    """Its text, which is UTF-8. Raises UserError, with the place of the first byte that is not."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        fact = f"not UTF-8: the byte 0x{content[error.start]:02x} starts no character"
        raise UserError(Problem(str(path), line, column, "", fact, "save the file as UTF-8")) from None


def placed(path: Path, document: Document, findings: Iterable[Finding]) -> list[Problem]:
    """Findings and issues as problems, `path` being the file of what says no other. What the reader refused is not blamed
    twice.
    """
    refused = {(issue.file, issue.line, issue.column) for issue in document.issues}
    problems = [of_issue(path, issue) for issue in document.issues]
    for finding in findings:
        place = document.origin(finding.path, key=finding.key)
        where = dotted(finding.path[:-1] if finding.key else finding.path)
        if place not in refused:
            file = place.file or str(path)
            problems.append(Problem(file, place.line, place.column, where, finding.fact, finding.hint))
    return list(dict.fromkeys(problems))


def of_issue(path: Path, issue: yaml_reader.Issue) -> Problem:
    """What the reader says of a text as a problem of its file."""
    return Problem(issue.file or str(path), issue.line, issue.column, dotted(issue.path), issue.fact, issue.hint)
