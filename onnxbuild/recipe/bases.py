"""A recipe with the files that it names as its `base` merged under it: one document, in which each part knows its file.

    base: common/vision.yaml              # or a list; relative to the file that says it

Bases come first, in order, a base's own bases before it, and each file once, however many name it. One after the other is
laid over what there is: mappings merge, everything else replaces, and null takes away what was there under its key (where
nothing was, it is a value as any other). A base's `name` stays its own. What is in a base means what it would mean in the
recipe: paths start at the project root.

Knows nothing else of recipes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from onnxbuild.errors import Problem, UserError
from onnxbuild.recipe import documents, yaml_reader
from onnxbuild.recipe.findings import Finding, found
from onnxbuild.recipe.yaml_reader import Document, Node
from onnxbuild.system import observed, project

KEY = "base"
OWN = "name"  # the key that no recipe takes from a base: it says where results go
MAX_DEPTH = 8  # bases on top of one another
SCHEMA = {
    "type": ["string", "array"],
    "minLength": 1,
    "minItems": 1,
    "items": {"type": "string", "minLength": 1},
    "uniqueItems": True,
    "description": (
        "A file, or several in order, that this one is merged over: mappings merge, everything else replaces, null "
        "removes, later wins. Relative to this file; a base need not be a whole recipe, and its name is not taken over."
    ),
}

Content = Callable[[Path], bytes]  # of a file of ours; raises UserError


class Resolved(NamedTuple):
    """A recipe's file with its bases: `document` is None where some of it can't be read, which `problems` tell. They tell,
    too, what is wrong with it as YAML. `sha256` is of the bytes of its own file, `bases` of each of the others, by their
    absolute paths, the undermost first.
    """

    document: Document | None
    problems: list[Problem]
    sha256: str = ""
    bases: Mapping[Path, str] = {}


def resolved(path: Path, content: Content = documents.content) -> Resolved:
    """The recipe in a file, with its bases merged; `content` gives the bytes of each file. Raises no UserError."""
    chain = _Chain(path, content)
    chain.add(path, [])
    issues = tuple(issue for one in chain.read for issue in one.document.issues)
    problems = [*chain.problems, *(documents.of_issue(path, issue) for issue in issues)]
    if chain.problems:
        return Resolved(None, list(dict.fromkeys(problems)))
    own, *bases = reversed(chain.read)
    document = own.document
    if KEY in _mapping(document.root):
        root = without(document.root, KEY)
        if bases:
            root = merged([without(one.document.root, OWN, KEY) for one in reversed(bases)] + [root])
        document = Document(root, issues)
    return Resolved(document, problems, own.sha256, {_absolute(one.path): one.sha256 for one in reversed(bases)})


def content_sha256(path: Path) -> str:
    """The SHA-256, in hexadecimal, of what a recipe says with its bases, whatever its comments, its layout and the order of
    keys.

    Whether that is a recipe is not asked. Raises UserError where it can't be read.
    """
    document, problems, *_ = resolved(path)
    if document is None or problems:
        raise UserError(*problems)
    return documents.digest_of(document)


def named(document: Document) -> list[str]:
    """The bases that a file names, as they are written there."""
    value = _mapping(document.root).get(KEY)
    names = value if isinstance(value, list) else [value]
    return [name for name in names if isinstance(name, str) and name]


def place_of(name: str, path: Path) -> Path:
    """Where a base lies that the file at `path` names."""
    return Path(os.path.normpath(path.parent / name))


def merged(roots: Iterable[Node]) -> Node:
    """Mappings, each over those before it; the nodes that are given stay as they are."""
    first, *others = roots
    for over in others:
        first = _over(first, over)
    return first


def _over(under: Node, over: Node) -> Node:
    made = Node(over.line, over.column, {}, file=over.file)
    made.items, made.keys = {**under.items}, {**under.keys}
    for step, item in over.items.items():
        below = made.items.get(step)
        if below is not None and item.value is None:
            del made.items[step], made.keys[step]
            continue
        both = below is not None and isinstance(below.value, dict) and isinstance(item.value, dict)
        made.items[step] = _over(below, item) if both and below is not None else item
        made.keys[step] = over.keys[step]
    made.value = {step: item.value for step, item in made.items.items()}
    return made


def without(root: Node, *names: str) -> Node:
    """A mapping less some of its keys."""
    made = Node(root.line, root.column, {}, file=root.file)
    made.items = {step: item for step, item in root.items.items() if step not in names}
    made.keys = {step: root.keys[step] for step in made.items}
    made.value = {step: item.value for step, item in made.items.items()}
    return made


def taught(document: Document, findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings, with the remedy where of keys that exclude each other some came from a base."""
    for finding in findings:
        node: Node | None = document.root
        for step in finding.path:
            node = node.items.get(step) if node is not None else None
        theirs = [key for key in finding.rivals if node is not None and node.items[key].file != node.file]
        if theirs and len(theirs) < len(finding.rivals):
            nulls = ", ".join(f"{key}: null" for key in theirs)
            files = ", ".join(dict.fromkeys(node.items[key].file for key in theirs if node is not None))
            yield finding._replace(hint=f"write '{nulls}' beside it to leave out what {files} has")
        else:
            yield finding


class _Read(NamedTuple):
    path: Path
    document: Document
    sha256: str


class _Chain:
    """Reads a file and all that are under it, the undermost first."""

    def __init__(self, path: Path, content: Content) -> None:
        self._own, self._content = path, content
        self._root = Path(project.root_of(str(path)))
        self._known: dict[str, int] = {}  # by the real path: how many levels of bases are under it
        self._size = 0
        self.read: list[_Read] = []
        self.problems: list[Problem] = []

    def add(self, path: Path, above: list[Path]) -> int:
        """Read a file, its bases before it; gives how many levels of them there are. `above` are the files that lead there.

        Raises UserError where the file itself can't be read.
        """
        try:
            document, sha256 = self._document(path, is_base=bool(above))
        except UserError as error:
            if above and not error.problems[0].line:  # of the file as a whole: told where it is named
                raise
            self.problems += error.problems
            return 0
        levels = 0
        for keys, name in self._names(path, document):
            fact, hint, below = self._base(place_of(name, path), name, [*above, path])
            levels = max(levels, below + 1)
            if fact:
                self.problems += documents.placed(path, document, [Finding(keys, fact, hint)])
        self._known[os.path.realpath(path)] = levels
        self.read.append(_Read(path, document, sha256))
        return levels

    def _document(self, path: Path, *, is_base: bool) -> tuple[Document, str]:
        content = self._content(path)
        text = documents.decoded(path, content)
        try:
            document = yaml_reader.read(text, str(path) if is_base else "")
        except yaml_reader.Unreadable as error:
            raise UserError(documents.of_issue(path, error.issue)) from None
        if is_base and not isinstance(document.data, dict):
            raise UserError(Problem(str(path), 1, 1, "", f"expected a mapping, found {found(document.data)}"))
        self._size += document.root.size
        return document, hashlib.sha256(content).hexdigest()

    def _names(self, path: Path, document: Document) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """The bases that a file names, each with its key."""
        if KEY not in _mapping(document.root):
            return
        value, seen = document.data[KEY], set[str]()
        entries = enumerate(value) if isinstance(value, list) else [("", value)]
        findings = [] if value not in ([], "") else [Finding((KEY,), "must not be empty", "name a file, or remove it")]
        for index, name in [] if findings else entries:
            keys = (KEY, index) if isinstance(index, int) else (KEY,)
            if not isinstance(name, str) or not name or "\0" in name:
                wanted = "the name of a file" if isinstance(index, int) else "the name of a file, or a list of them"
                findings.append(Finding(keys, f"expected {wanted}, found {found(name)}"))
            elif name in seen:
                findings.append(Finding(keys, f"'{name}' is named twice", "remove one of the two"))
            else:
                seen.add(name)
                yield keys, name
        self.problems += documents.placed(path, document, findings)

    def _base(self, path: Path, name: str, above: list[Path]) -> tuple[str, str, int]:
        """Add a base; what is wrong with it where it is named, the remedy, and how many levels of bases are under it."""
        levels = self._known.get(os.path.realpath(path))
        fact, hint = self._refused(path, name, above, levels or 0)
        if fact or levels is not None:
            return fact, hint, levels or 0
        try:
            return "", "", self.add(path, above)
        except UserError as error:
            (problem,) = error.problems
            return f"'{name}': {problem.fact}", self._meant(path, name, above[-1]) or problem.hint, 0

    def _meant(self, path: Path, name: str, by: Path) -> str:
        """The remedy for a base that is not there, but may be where other paths of a recipe would lead; "" for others."""
        if observed.kind(path):
            return ""
        if observed.kind(self._root / name) == "file":
            there = os.path.relpath(self._root / name, _absolute(by).parent)
            return f"a base is named from the folder of the file that names it: {there}"
        return "" if observed.kind(path.parent) else f"it is looked for from the folder of {by.name}"

    def _refused(self, path: Path, name: str, above: list[Path], levels: int) -> tuple[str, str]:
        """Why a base is not even read, and the remedy; "" where it is."""
        reals = [os.path.realpath(one) for one in above]
        real = os.path.realpath(path)
        if not Path(name).is_absolute() and self._inside(above[-1]) and not self._inside(path):
            return f"'{name}' leaves the project root", "write an absolute path if you mean a file outside it"
        if real in reals:
            circle = " -> ".join(map(str, [*above[reals.index(real) :], path]))
            return f"a circle of bases: {circle}", "remove one of them"
        if len(above) + levels > MAX_DEPTH:
            chain = " -> ".join(map(str, [*above, path]))
            return f"more than {MAX_DEPTH} bases on top of one another: {chain}", "name them side by side, in one list"
        if self._size > yaml_reader.MAX_NODES:
            fact = f"more than {yaml_reader.MAX_NODES} values in a recipe and its bases"
            return fact, "a recipe names its data; it does not hold it"
        return "", ""

    def _inside(self, path: Path) -> bool:
        return _absolute(path).is_relative_to(self._root)


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _mapping(node: Node) -> dict[str, Any]:
    return node.value if isinstance(node.value, dict) else {}
