"""Records, in a stage's process, what the stage depends on beyond its task: see `inputs` for the names.

Modules are known by where they came from, files by what `file_access` tells, and imports of what a template process had
loaded before by `import_hooks`. Source of the project is always compiled anew: bytecode beside it is trusted by Python
for its time and size alone, and could be older.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import onnxbuild
from onnxbuild.discovery import file_access, inputs
from onnxbuild.discovery.import_hooks import Imports, top, used_before
from onnxbuild.system import distributions
from onnxbuild.system.files import Facts, facts

_OWN = str(Path(onnxbuild.__file__).resolve().parent) + os.sep  # our own code enters a key as each stage's VERSION
_OWN_NAME = "onnxbuild"
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib/", "/lib64/", "/run/")
_DATA = ("/dev/shm/", "/run/media/", "/usr/local/share/")  # noqa: S108  # though below one of those


class Recorder:
    """Records what is loaded and opened in this process from now on; for a process that runs one stage."""

    def __init__(
        self, root: Path, ignore: Iterable[Path], imports: Imports | None = None, notes: Path | None = None
    ) -> None:
        """`root` is the project's; `ignore` what lies in it and is no input; `notes` gets a line per file written there."""
        self.root = str(root.absolute())
        self._roots = tuple(dict.fromkeys((self.root, str(root.resolve()))))
        self._ignore = {form for path in ignore for form in (str(path.absolute()), str(path.resolve()))}
        self._ignore_below = tuple(f"{path}{os.sep}" for path in self._ignore)
        distributions.owners()  # now, as the path will change
        distributions.is_standard_library(self.root)  # now, as it imports something
        self._before = set(sys.modules)
        self._imports = imports or Imports()
        if imports is None:
            self._imports.install()
        self._preloading = self._imports.restart()
        self._first: dict[str, str] = {}  # how a path was first touched: "read", "write", "list" or "look"
        self._there: dict[str, Facts | None] = {}  # what stat said of it then; None: not there
        self._written: set[str] = set()
        self._updated: set[str] = set()  # opened to read and write
        self._links: set[str] = set()  # where they lead was asked
        self._variables: set[str] = set()
        self._path_before = set(sys.path)
        self._notes = None if notes is None else os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        _compile_anew(lambda path: not self._is_others(path))
        file_access.install(self._touch, self._variables.add, self._imports)

    def names(self) -> dict[str, Facts | None]:
        """The names of everything recorded, with what stat said of a file as it was first touched, where that is known."""
        first, asked = dict(self._first), self._imports.restart()  # from here on it is our own doing
        links, variables = set(self._links), set(self._variables)
        new = set(sys.modules) - self._before
        used = used_before(self._before, self._preloading, asked)
        found: dict[str, Facts | None] = {name: None for module in new | used if (name := self._module(module))}
        found |= dict.fromkeys(self._looked_up(new, used, {name for _, name in asked}))
        changed = self._changed()
        for path, how in first.items():
            if how != "write" and path not in changed and (name := self._touched(path, how)):
                found[name] = self._there[path] if inputs.is_file(name) else None
        inner_links = filter(None, map(self._inside, links))
        found |= {f"link:{inner}": None for inner in inner_links if not inputs.is_passed_over(inner)}
        found |= {f"env:{name}": None for name in variables}
        return found

    def unsettled(self) -> list[str]:
        """Files of the project that were read, or looked for, and then written, made or removed."""
        read = (path for path, how in self._first.items() if how != "write")
        changed = self._changed()
        paths = (path for path in read if path in changed or (self._there[path] is None) == _exists(path))
        return sorted(inner for path in paths if (inner := self._inside(path)) and not self._is_ignored(path))

    def _changed(self) -> set[str]:
        """What this process wrote."""
        return self._written | {path for path in self._updated if self._there[path] != _facts(path)}

    # Modules

    def _module(self, module: str) -> str | None:
        path = _origin(sys.modules.get(module))
        return self._file(path) if path else None

    def _looked_up(self, new: set[str], used: set[str], asked: set[str]) -> set[str]:
        """Where modules were looked for, whether they were found or not: another could come first some day."""
        own: set[str] = set()
        inside: dict[str, set[str]] = {}
        for name in {name for name in new if not _is_made_up(name)} | (asked - self._before):
            if top(name) == _OWN_NAME or not all(part.isidentifier() or "-" in part for part in name.split(".")):
                continue
            parent, _, last = name.rpartition(".")
            for folder in self._folders_of(parent) if parent else ():
                inside.setdefault(folder, set()).add(last)
            if not parent or (_is_namespace(parent) and not self._is_installed(parent)):
                own.add(name)
        tools = {top(name) for name in used}
        for folder in self._added:
            inside.setdefault(self._relative(folder) or folder, set()).update(top(name) for name in own | tools)
        if not set(self._roots) & set(sys.path):  # the project can't have come first
            own, tools = set(), tools | own
        tools -= {_OWN_NAME, *sys.stdlib_module_names}
        kinds = {"import:": own, "tools:": tools, **{f"inside:{folder}:": names for folder, names in inside.items()}}
        return {kind + " ".join(sorted(names)) for kind, names in kinds.items() if names}

    @property
    def _added(self) -> list[str]:
        """The folders that the model's own code put on the path: a module may come to be found there first."""
        added = (folder for folder in sys.path if folder and folder not in self._path_before and ":" not in folder)
        return [folder for folder in added if folder not in self._roots and os.path.isabs(folder)]  # noqa: PTH117  # hot path

    def _folders_of(self, package: str) -> list[str]:
        """The folders of a regular package that is nobody's but the project's."""
        module = sys.modules.get(package)
        if module is None or _is_namespace(package) or self._is_installed(package):
            return []
        folders = [os.path.abspath(folder) for folder in _folders(module) if isinstance(folder, str)]  # noqa: PTH100  # hot path
        return [shown for folder in folders if ":" not in (shown := self._relative(folder) or folder)]

    def _is_installed(self, package: str) -> bool:
        module = sys.modules[package]
        places = [*_folders(module), _origin(module) or ""]
        return any(isinstance(place, str) and self._is_others(place) for place in places)

    # Files

    def _touch(self, path: Any, how: str) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = os.fsdecode(path)
        try:
            full = os.path.abspath(text)  # noqa: PTH100  # resolve() would look at files here
        except OSError:  # the folder that it is relative to is gone
            return
        if "\0" in full or (how in ("look", "link") and self._inside(full) is None):
            return  # no file has such a name; and libraries look around a lot
        if full not in self._there:
            self._there[full] = _facts(full)
        if how == "link" and _is_link(full):
            self._links.add(full)
        elif how == "update":
            self._updated.add(full)
        elif how == "write" or (how == "create" and self._there[full] is None):
            self._note_written(full)
            how = "write"
        how = _KINDS.get(how, how)
        before = self._first.setdefault(full, how)
        if before == "look" and how != "write":  # opening says more than looking
            self._first[full] = how

    def _note_written(self, path: str) -> None:
        if self._notes is not None and path not in self._written and self._inside(path) and not self._is_ignored(path):
            os.write(self._notes, os.fsencode(path) + b"\n")
        self._written.add(path)

    def _touched(self, path: str, how: str) -> str | None:
        inner = self._inside(path)
        if inner is None:
            return self._touched_elsewhere(path, how)
        if inputs.is_passed_over(inner) or (how == "look" and not inner):
            return None
        if how == "list" or (how == "look" and os.path.isdir(path)):  # noqa: PTH112  # hot path
            own = f"{path}{os.sep}".startswith(_OWN)
            passed_over = own or self._is_ignored(path) or inputs.is_published(path, inner)
            return None if passed_over else f"{'list' if how == 'list' else 'kind'}:{inner or '.'}"
        if os.path.isfile(path):  # noqa: PTH113  # hot path
            return self._file(path)
        return f"file:{inner}" if inner and not self._is_ignored(path) and not self._is_others(path) else None

    def _touched_elsewhere(self, path: str, how: str) -> str | None:
        system = path.startswith((*_SYSTEM, f"{sys.prefix}{os.sep}", f"{sys.base_prefix}{os.sep}"))
        there = os.path.isfile(path)  # noqa: PTH113  # hot path
        if f"{os.sep}__pycache__{os.sep}" in path:
            return None
        if system and not path.startswith(_DATA):
            site = distributions.site_of(path, self.root) if there else ""
            return self._file(path) if site and not _is_metadata(path, site) else None
        if there:
            return self._file(path)
        # caches and settings of whoever builds, and what is temporary, come and go
        private = f"{os.sep}." in path or path.startswith(tempfile.gettempdir() + os.sep)
        if private or self._is_ignored(path) or self._is_others(path):
            return None
        return f"{'list' if how == 'list' else 'path'}:{path}"

    def _file(self, path: str) -> str | None:
        """The name of a file that is there."""
        while not os.path.isfile(path):  # noqa: PTH113  # a module in an archive
            path, before = os.path.dirname(path), path  # noqa: PTH120  # hot path
            if path == before:
                return None
        for form in dict.fromkeys((path, os.path.realpath(path))):
            if form.startswith(_OWN) or distributions.is_standard_library(form) or self._is_ignored(form):
                return None
            if site := distributions.site_of(form, self.root):
                inner = form[len(site) + 1 :]
                owner = distributions.owner(site, inner)
                if owner == _OWN_NAME:
                    return None
                return f"dist:{owner} {distributions.distributions()[owner][0]}" if owner else f"site:{inner}"
            if inside := self._inside(form):
                return f"file:{inside}"
        return f"path:{path}"

    def _relative(self, path: str) -> str | None:
        inner = self._inside(path)
        return None if inner is None or self._is_others(path) else inner or "."

    def _inside(self, path: str) -> str | None:
        """A path relative to the project root, with slashes; None where it lies elsewhere."""
        for root in self._roots:
            if path == root or path.startswith(root + os.sep):
                return path[len(root) + 1 :].replace(os.sep, "/")
        return None

    def _is_ignored(self, path: str) -> bool:
        return path in self._ignore or path.startswith(self._ignore_below)

    def _is_others(self, path: str) -> bool:
        """Whether a file or folder is our own, the standard library's or an installed distribution's."""
        forms = dict.fromkeys((path, os.path.realpath(path)))
        return any(
            form.startswith(_OWN)
            or distributions.is_standard_library(form)
            or bool(distributions.site_of(form, self.root))
            for form in forms
        )


_stat = os.stat  # as it is, before it is wrapped
_lstat = os.lstat
_KINDS = {"update": "read", "create": "look", "link": "look"}  # what else it is


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(_lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def _facts(path: str) -> Facts | None:
    try:
        return facts(_stat(path))
    except (OSError, ValueError):
        return None


def _exists(path: str) -> bool:
    return _facts(path) is not None


def _origin(module: Any) -> str | None:
    origin = _of(_of(module, "__spec__"), "origin") or _of(module, "__file__")
    return origin if isinstance(origin, str) and os.path.isabs(origin) else None  # noqa: PTH117  # hot path


def _folders(module: Any) -> list[Any]:
    """Where a package's modules are looked for; none of what is no package."""
    try:
        return list(_of(module, "__path__") or ())
    except TypeError:
        return []


def _of(module: Any, name: str) -> Any:
    try:
        return getattr(module, name, None)
    except Exception:  # noqa: BLE001  # whatever somebody put among the modules
        return None


def _is_namespace(name: str) -> bool:
    module = sys.modules.get(name)
    return bool(_folders(module)) and _origin(module) is None


def _is_made_up(name: str) -> bool:
    """Whether a loaded module came from no file or folder."""
    module = sys.modules.get(name)
    return _origin(module) is None and not _folders(module)


def _is_metadata(path: str, site: str) -> bool:
    """Whether a file says what is installed; libraries that look for plug-ins read all of those."""
    return path[len(site) + 1 :].split(os.sep, 1)[0].endswith((".dist-info", ".egg-info", ".pth"))


def _compile_anew(is_ours: Callable[[str], bool]) -> None:
    """Never read the bytecode of these source files."""
    stats = SourceFileLoader.path_stats

    def path_stats(loader: SourceFileLoader, path: str) -> Any:
        if is_ours(path):
            raise OSError(f"{path}: compiled anew")  # importlib then reads the source, and writes no bytecode
        return stats(loader, path)

    SourceFileLoader.path_stats = path_stats  # type: ignore[assignment, method-assign]  # for this process alone
