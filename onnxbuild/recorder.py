"""Records, in a stage's process, what the stage depends on beyond its task: see `discover` for the names.

Modules are known by where they came from, files by Python's audit events, questions whether a file exists by wrappers
around os.stat and its like, and imports of what a template process had loaded before by one around __import__. Source of
the project is always compiled anew: bytecode beside it is trusted by Python for its time and size alone, and could be older.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from onnxbuild import discover, toolchain
from onnxbuild.digests import Facts, facts
from onnxbuild.imports import Imports, top, used_before

_OWN = str(Path(__file__).resolve().parent) + os.sep  # our own code enters a key as each stage's VERSION
_OWN_NAME = "onnxbuild"
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib/", "/lib64/", "/run/")


class Recorder:
    """Records what is loaded and opened in this process from now on; for a process that runs one stage."""

    def __init__(self, root: Path, ignore: Iterable[Path], imports: Imports | None = None) -> None:
        self.root = str(root.absolute())
        self._roots = tuple(dict.fromkeys((self.root, str(root.resolve()))))
        self._ignore = {form for path in ignore for form in (str(path.absolute()), str(path.resolve()))}
        self._ignore_below = tuple(f"{path}{os.sep}" for path in self._ignore)
        toolchain.owners()  # now, as the path will change
        toolchain.is_standard_library(self.root)  # now, as it imports something
        self._before = set(sys.modules)
        self._imports = imports or Imports()
        if imports is None:
            self._imports.install()
        self._preloading = self._imports.restart()
        self._first: dict[str, str] = {}  # how a path was first touched: "read", "write", "list" or "look"
        self._there: dict[str, Facts | None] = {}  # what stat said of it then; None: not there
        self._written: set[str] = set()
        sys.addaudithook(self._hook)
        _compile_anew(lambda path: not self._is_others(path))
        for question in ("stat", "lstat", "access"):
            _wrap(question, self._look)
        for library, listen in (("safetensors", self._listen_to_safetensors), ("torch", self._listen_to_torch)):
            self._imports.once[library] = listen
            if library in sys.modules:
                listen(sys.modules[library])

    def names(self) -> dict[str, Facts | None]:
        """The names of everything recorded, with what stat said of a file as it was first touched, where that is known."""
        first, asked = dict(self._first), self._imports.restart()  # from here on it is our own doing
        new = set(sys.modules) - self._before
        used = used_before(self._before, self._preloading, asked)
        found: dict[str, Facts | None] = {name: None for module in new | used if (name := self._module(module))}
        found |= dict.fromkeys(self._looked_up(new, used, {name for _, name in asked}))
        for path, how in first.items():
            if how != "write" and path not in self._written and (name := self._touched(path, how)):
                found[name] = self._there[path] if discover.is_file(name) else None
        return found

    def unsettled(self) -> list[str]:
        """Files of the project that were read, or looked for, and then written, made or removed."""
        read = (path for path, how in self._first.items() if how != "write")
        paths = (path for path in read if path in self._written or (self._there[path] is None) == _exists(path))
        return sorted(inner for path in paths if (inner := self._inside(path)) and not self._is_ignored(path))

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
        if not set(self._roots) & set(sys.path):  # the project can't have come first
            own, tools = set(), tools | own
        tools -= {_OWN_NAME, *sys.stdlib_module_names}
        kinds = {"import:": own, "tools:": tools, **{f"inside:{folder}:": names for folder, names in inside.items()}}
        return {kind + " ".join(sorted(names)) for kind, names in kinds.items() if names}

    def _folders_of(self, package: str) -> list[str]:
        """The folders of a regular package that is nobody's but the project's."""
        module = sys.modules.get(package)
        if module is None or _is_namespace(package) or self._is_installed(package):
            return []
        folders = [os.path.abspath(folder) for folder in _folders(module) if isinstance(folder, str)]  # noqa: PTH100  # hot path
        return [self._relative(folder) or folder for folder in folders if ":" not in folder]

    def _is_installed(self, package: str) -> bool:
        module = sys.modules[package]
        places = [*_folders(module), _origin(module) or ""]
        return any(isinstance(place, str) and self._is_others(place) for place in places)

    # Files

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else flags & _WRITING
            self._touch(path, "write" if writes else "read")
        elif event in ("os.listdir", "os.scandir"):
            caller = sys._getframe(1).f_code.co_filename  # noqa: SLF001  # import lists folders too
            if not caller.startswith("<frozen importlib") and not caller.endswith(_METADATA):
                self._touch(arguments[0] or ".", "list")
        elif event == "os.rename":
            self._touch(arguments[1], "write")
        elif event == "ctypes.dlopen":
            self._touch(arguments[0], "read")

    def _look(self, path: Any) -> None:
        self._touch(path, "look")

    def _listen_to_torch(self, torch: Any) -> None:
        """Hear of the files that torch.jit opens: it looks at them by their name, and reads natively."""
        if not hasattr(getattr(torch, "jit", None), "load"):  # torch imports itself before it is whole
            self._imports.once["torch"] = self._listen_to_torch
            return
        plain, touch = torch.jit.load, self._touch

        def load(f: Any, *arguments: Any, **options: Any) -> Any:
            touch(f, "read")
            return plain(f, *arguments, **options)

        torch.jit.load = load

    def _listen_to_safetensors(self, safetensors: Any) -> None:
        """Hear of the files that safetensors opens: it reads natively, and a model's code may well use it by itself."""
        plain, touch = safetensors.safe_open, self._touch

        class safe_open:  # noqa: N801  # in the place of a class of that name
            def __new__(cls, filename: Any, *arguments: Any, **options: Any) -> Any:
                touch(filename, "read")
                return plain(filename, *arguments, **options)

        safetensors.safe_open = safe_open

    def _touch(self, path: Any, how: str) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = os.fsdecode(path)
        full = os.path.abspath(text)  # noqa: PTH100  # resolve() would look at files here
        if how == "look" and self._inside(full) is None:
            return  # libraries look around a lot
        if how == "write":
            self._written.add(full)
        if full not in self._there:
            self._there[full] = _facts(full)
        before = self._first.setdefault(full, how)
        if before == "look" and how != "write":  # opening says more than looking
            self._first[full] = how

    def _touched(self, path: str, how: str) -> str | None:
        inner = self._inside(path)
        if inner is not None and discover.is_passed_over(inner):
            return None
        if how == "list" or (how == "look" and os.path.isdir(path)):  # noqa: PTH112  # hot path
            kind = "list" if how == "list" else "kind"
            passed_over = inner is None or self._is_ignored(path) or discover.is_published(path, inner)
            return None if passed_over else f"{kind}:{inner or '.'}"
        if path.endswith(".pyc"):
            return None  # a module's, or a cache
        if os.path.isfile(path):  # noqa: PTH113  # hot path
            if inner is None and path.startswith((*_SYSTEM, sys.prefix, sys.base_prefix)):
                site = toolchain.site_of(path, self.root)
                return self._file(path) if site and not _is_metadata(path, site) else None
            return self._file(path)
        return f"file:{inner}" if inner and not self._is_ignored(path) and not self._is_others(path) else None

    def _file(self, path: str) -> str | None:
        """The name of a file that is there."""
        while not os.path.isfile(path):  # noqa: PTH113  # a module in an archive
            path, before = os.path.dirname(path), path  # noqa: PTH120  # hot path
            if path == before:
                return None
        for form in dict.fromkeys((path, os.path.realpath(path))):
            if form.startswith(_OWN) or toolchain.is_standard_library(form) or self._is_ignored(form):
                return None
            if site := toolchain.site_of(form, self.root):
                inner = form[len(site) + 1 :]
                owner = toolchain.owner(site, inner)
                if owner == _OWN_NAME:
                    return None
                return f"dist:{owner} {toolchain.distributions()[owner][0]}" if owner else f"site:{inner}"
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
            form.startswith(_OWN) or toolchain.is_standard_library(form) or bool(toolchain.site_of(form, self.root))
            for form in forms
        )


_stat = os.stat  # as it is, before it is wrapped
_METADATA = os.path.join("importlib", "metadata", "__init__.py")  # noqa: PTH118  # looks for dist-info all over sys.path
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


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


def _wrap(question: str, look: Callable[[Any], None]) -> None:
    """Tell of every path that is looked at by a function of os; os.path.exists, glob and pathlib come down to these."""
    plain = getattr(os, question)

    def asked(path: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("dir_fd") is None:
            look(path)
        return plain(path, *arguments, **options)

    for able in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks, os.supports_effective_ids):
        if plain in able:
            able.add(asked)
    setattr(os, question, asked)
