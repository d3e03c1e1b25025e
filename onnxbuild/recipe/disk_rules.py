"""What a recipe names on the disk: is it there, and is it what the recipe says. Runs no code of the model's.

And whether what is installed can do it, as far as its version tells.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from onnxbuild.errors import StageError
from onnxbuild.passes import EXTRAS
from onnxbuild.recipe import dataset_rules, importables
from onnxbuild.recipe.findings import Finding
from onnxbuild.recipe.findings import Path as Keys
from onnxbuild.recipe.rules import Sections, declared_files, file_at, leaves_root, source_files
from onnxbuild.recipe.types import given
from onnxbuild.sources import SOURCES
from onnxbuild.system import distributions, observed
from onnxbuild.system.files import kind_of
from onnxbuild.targets import TARGETS
from onnxbuild.text.wording import nearest

if TYPE_CHECKING:
    from onnxbuild.recipe.types import Export

# The highest opset that this onnxruntime reads, and so no older one passes; a newer one is asked when the graph is there.
READS = ((1, 31), 26)
NEWEST_OPSET = 28  # that onnx 1.23 defines
REGULAR = "put what comes out of it into a regular file, and name that"
_ANY_OPSET = "ALLOW_RELEASED_ONNX_OPSET_ONLY"  # onnxruntime's own variable: 0 lets it try opsets of the future


def check(sections: Sections, root: Path, digest: Callable[[Path], str]) -> Iterator[Finding]:
    """Files, packages and functions that the recipe names; `digest` gives a file's SHA-256 in hexadecimal.

    What a source says of a file hides what there is to say of any file at that place.
    """
    unfit = list(_unfit(*sections.source, root)) if sections.source is not None else []
    yield from unfit
    places = {finding.path for finding in unfit}
    yield from (finding for finding in _whatever(sections, root, digest) if finding.path not in places)


def _whatever(sections: Sections, root: Path, digest: Callable[[Path], str]) -> Iterator[Finding]:
    """What holds for files, packages and functions of any source."""
    for path, name in declared_files(sections):
        if not leaves_root(name):  # a problem of its own, which hides this one
            yield from _file(path, name, root)
    if sections.source is not None:
        kind, options = sections.source
        yield from _absent(("model", kind), SOURCES[kind].requires(options))
        if getattr(options, "factory", ""):
            yield from _importable(("model", kind, "factory"), options.factory, root)
        for number, name in enumerate(getattr(options, "custom_objects", ())):
            yield from _importable(("model", kind, "custom_objects", number), name, root)
        for path, declared in source_files(kind, options):
            yield from _source_file(path, declared, file_at(kind, options, declared), root, digest)
        if sections.export is not None:
            yield from _opset(kind, sections.export, SOURCES[kind].exporters(options))
    yield from _targets(sections)
    yield from _passes(sections)
    yield from dataset_rules.on_disk(sections, root)
    for name, symbolic in (sections.symbolics or {}).items():
        if symbolic.decompose is not UNSET:
            yield from _importable(("symbolics", name, "decompose"), symbolic.decompose, root)


def _unfit(kind: str, options: Any, root: Path) -> Iterator[Finding]:
    """What the source itself says of its declared files, where it can look at them."""
    source = SOURCES[kind]
    try:
        declared = {role: root / name for role, name in source.files(options).items() if not leaves_root(name)}
    except StageError:  # a package that is not installed is told of by itself
        return
    for option, fact, hint in source.unfit(options, declared):
        yield Finding(("model", kind, option) if option else ("model", kind), fact, hint)


def _targets(sections: Sections) -> Iterator[Finding]:
    for name, options in given(sections.targets) if sections.targets is not None else ():
        if not options.optional:
            yield from _absent(("targets", name), TARGETS[name].requires(options))


def _passes(sections: Sections) -> Iterator[Finding]:
    for number, step in enumerate(sections.optimize or []):
        for name, _ in given(step):
            yield from _absent(("optimize", number, name), EXTRAS.get(name, {}))


def _absent(path: Keys, required: Mapping[str, str]) -> Iterator[Finding]:
    """Packages that a plug-in can't do without: by import name, the extra that brings each."""
    for package, extra in required.items():
        if importables.folder_of(package) is None:
            yield Finding(
                path, f"it needs {package}, which is not installed", f"pip install 'onnxbuild[{extra}]'", key=True
            )


def _opset(kind: str, export: Export, exporters: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    newest, highest = READS
    most = exporters.get(export.exporter, (0, NEWEST_OPSET))[1]
    if not highest < export.opset <= most or observed.variable(_ANY_OPSET) == "0":
        return
    for name, version in distributions.versions(["onnxruntime"]).items():
        found = re.match(r"(\d+)\.(\d+)", version)
        if found and (int(found[1]), int(found[2])) <= newest:
            place, remedy = ("export", "opset"), f"lower it to {highest}"
            if not exporters:  # a file that is taken as it is: its opset is no choice of the recipe's
                place, remedy = ("model", kind), f"convert the file to opset {highest} (onnx.version_converter)"
            hint = f"{remedy}, or install a newer onnxruntime"
            yield Finding(place, f"{name} {version} can't read opset {export.opset}", hint)


def _importable(path: Keys, name: str, root: Path) -> Iterator[Finding]:
    wrong = importables.problem(name, root)
    if wrong:
        yield Finding(path, f"'{name}' cannot be imported: {wrong[0]}", wrong[1])


def _source_file(path: Keys, declared: Any, name: str, root: Path, digest: Callable[[Path], str]) -> Iterator[Finding]:
    """A file that a source declares by `path`, `package` and, if it wants it checked, `sha256`; `name` is where it lies."""
    base = root
    if declared.package:
        folder = importables.folder_of(declared.package)
        if folder is None:
            hint = f"install what ships it, for instance: pip install {declared.package.replace('_', '-')}"
            yield Finding((*path, "package"), f"no package '{declared.package}' is installed", hint)
            return
        base = folder
        yield from _file((*path, "path"), name, base)
    yield from _digest((*path, "sha256"), base / name, getattr(declared, "sha256", ""), digest)


def _file(path: Keys, name: str, base: Path) -> Iterator[Finding]:
    file = base / name
    mode = _mode(file)
    if mode and (what := kind_of(mode)):
        yield Finding(path, f"'{name}' is {what}, not a file", REGULAR if not stat.S_ISDIR(mode) else "")
    elif mode and not os.access(file, os.R_OK):
        yield Finding(path, f"'{name}' may not be read", "give yourself the right to read it")
    elif not mode:
        hint = f"there is no folder '{file.parent}'"
        if os.access(file.parent, os.R_OK):
            hint = nearest(file.name, sorted(os.listdir(file.parent)))
        yield Finding(path, f"no file '{name}'{'' if Path(name).is_absolute() else f' in {base}'}", hint)


def _mode(file: Path) -> int:
    """A file's mode, 0 where there is none. A name that is too long is a missing file, not an exception."""
    try:
        return observed.stat(file).st_mode
    except OSError:
        return 0


def _digest(path: Keys, file: Path, expected: str, digest: Callable[[Path], str]) -> Iterator[Finding]:
    if not expected or not stat.S_ISREG(_mode(file)) or not os.access(file, os.R_OK):
        return
    actual = digest(file)
    if actual != expected:
        fact = f"{file.name} has the SHA-256 {actual}, not {expected}"
        yield Finding(path, fact, "it is another file, or was damaged; if you trust it, put its SHA-256 here")
