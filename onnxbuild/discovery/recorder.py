"""Records, in a stage's process, what the stage depends on beyond its task: see `inputs` for the names.

Modules are known by where they came from, files by what `file_access` and `library_hooks` tell, and imports of what a
template process had loaded before by `import_hooks`. Source of the project is always compiled anew: bytecode beside it is
trusted by Python for its time and size alone, and could be older.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from onnxbuild.discovery import environment, file_access, inputs, library_hooks, loaded
from onnxbuild.discovery.accesses import Accesses, How
from onnxbuild.discovery.authors import Authors
from onnxbuild.discovery.forks import Forks
from onnxbuild.discovery.import_hooks import Imports, top, used_before
from onnxbuild.discovery.loaded import Loaded
from onnxbuild.discovery.names import OWN_NAME, Names
from onnxbuild.system import distributions
from onnxbuild.system.observed import Facts, facts


def _none(_: str) -> Iterable[str]:
    return ()


class Recorder:
    """Records what is loaded and opened in this process from now on, and in those that it forks; for one stage."""

    def __init__(
        self,
        root: Path,
        ignore: Iterable[Path],
        imports: Imports | None = None,
        notes: Path | None = None,
        scratch: Path | None = None,
        companions: Callable[[str], Iterable[str]] = _none,
    ) -> None:
        """`root` is the project's; `ignore` what lies in it and is no input; `notes` gets a line per file written there.

        `companions` gives the files that a model's file names, `scratch` is a folder for what is kept for this stage alone.
        """
        self._place = Names(root, ignore)
        self._authors = Authors(self._place.root)
        distributions.owners()  # now, as the path will change
        distributions.is_standard_library(self._place.root)  # now, as it imports something
        self._before = set(sys.modules)
        self._imports = imports or Imports()
        if imports is None:
            self._imports.install()
        self._preloading = self._imports.restart()
        self._accesses = Accesses()
        self._asked: set[str] = set()  # of the surroundings, by the name that a trace has for it
        self._home = False  # somebody asked where the home folder is
        self._unfollowed: set[str] = set()
        self._elsewhere: dict[str, Loaded] = {}  # modules that only a forked process has loaded
        self._path_before = set(sys.path)
        self._notes = None if notes is None else os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._noted: set[str] = set()
        self._installed = tuple(f"{folder}{os.sep}" for folder in distributions.sites())
        self._forks = Forks(None if scratch is None else str(scratch), self._begin_fork)
        self._own = threading.local()  # what is looked at meanwhile is our own doing
        loaded.compile_anew(self._is_ours)
        self._companions = companions
        file_access.install(self._touch)
        environment.listen(self._variable)
        to = library_hooks.Listener(self._touch, self._ask, self._note, self._start, self._named_by)
        library_hooks.install(to, self._imports)

    def names(self) -> dict[str, Facts | None]:
        """The names of everything recorded, with what stat said of a file as it was first touched, where that is known."""
        self._own.doing = True
        accesses = self._accesses
        asked, surroundings = self._imports.restart(), set(self._asked)
        asked |= self._hear(accesses, surroundings)
        new = {
            name for name in (*sys.modules, *self._elsewhere) if name not in self._before and not self._is_made(name)
        }
        used = used_before(self._before, self._preloading, asked)
        found: dict[str, Facts | None] = {name: None for module in new | used if (name := self._module(module))}
        found |= dict.fromkeys(self._looked_up(new, used, {name for _, name in asked}))
        changed = accesses.changed(_facts)
        made = tuple(f"{path}{os.sep}" for path in changed if os.path.isdir(path))  # noqa: PTH112  # hot path
        for path, access in list(accesses.items()):
            if access.first is How.WRITE or path in changed or path.startswith(made):
                continue
            for name in self._place.of(path, access, home=self._home):
                found[name] = access.there if inputs.file_of(name, Path(self._place.root)) is not None else None
            if access.linked and _is_link(path):
                found |= dict.fromkeys(self._place.links(path, access, home=self._home))
        return found | dict.fromkeys(surroundings)

    def unsettled(self) -> list[str]:
        """Files that were read, or looked for, and then written, made or removed."""
        self._own.doing = True
        changed = self._accesses.changed(_facts)
        found = set()
        for path, access in list(self._accesses.items()):
            if access.first is How.WRITE or not (path in changed or (access.there is None) == _exists(path)):
                continue
            inner = self._place.inside(path)
            if inner and not self._place.is_ignored(path):
                found.add(inner)
            elif inner is None and self._place.of(path, access, home=self._home):
                found.add(path)
        return sorted(found)

    def unfollowed(self) -> list[str]:
        """Python processes that the code started: what they read, nobody has seen. As sentences."""
        return [f"it started {command}, and nobody saw what that read" for command in sorted(self._unfollowed)]

    # What is told by those who listen

    def _is_ours(self, path: str) -> bool:
        self._own.doing = True
        try:
            return not self._place.is_others(path)
        finally:
            self._own.doing = False

    def _touch(self, path: Any, how: How) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or getattr(self._own, "doing", False):
            return
        text = os.fsdecode(path)
        try:
            full = os.path.abspath(text)  # noqa: PTH100  # resolve() would look at files here
        except OSError:  # the folder that it is relative to is gone
            return
        looks = how in (How.LOOK, How.LINK)
        if "\0" in full or (looks and full.startswith(self._installed) and self._place.inside(full) is None):
            return  # no file has such a name; and a distribution is known as a whole
        access = self._accesses.note(full, how, _facts)
        if access.written and full not in self._noted:
            self._note_written(full)
        if os.path.isabs(text):  # noqa: PTH117  # hot path
            access.absolute = True
        elif not access.relative or not access.absolute:
            at_root = os.getcwd() in self._place.roots  # noqa: PTH109  # a string
            access.relative, access.absolute = access.relative or at_root, access.absolute or not at_root
        if not access.by_code and self._place.needs_author(full):
            access.by_code = self._authors.by_code()
        if self._forks.inside:
            flags = (access.relative, access.absolute, access.by_code, access.walked)
            self._forks.tell("touch", full, how.name, access.there, *flags)

    def _note_written(self, path: str) -> None:
        self._noted.add(path)
        if self._notes is not None and self._place.inside(path) and not self._place.is_ignored(path):
            os.write(self._notes, os.fsencode(path) + b"\n")

    def _variable(self, name: str, by_name: bool) -> None:  # noqa: FBT001  # as it is told
        if name in ("HOME", "USERPROFILE"):
            self._home = True
        if (by_name and name in environment.OF_LIBRARIES) or self._authors.by_code():
            self._note(f"env:{name}")

    def _ask(self, name: str) -> None:
        if self._authors.by_code(files=False):
            self._note(name)

    def _note(self, name: str) -> None:
        self._asked.add(name)
        if self._forks.inside:
            self._forks.tell("asked", name)

    def _start(self, command: list[str]) -> None:
        if self._authors.reads_nothing_of_it():
            return
        text = " ".join(command)
        self._unfollowed.add(text if len(text) <= 120 else f"{text[:117]}...")
        if self._forks.inside:
            self._forks.tell("start", text)

    def _named_by(self, model: str) -> Iterable[str]:
        return () if self._place.is_ignored(os.path.abspath(model)) else self._companions(model)  # noqa: PTH100  # as above

    # What forked processes tell

    def _begin_fork(self) -> None:
        known = len(sys.modules)

        def imported() -> None:
            nonlocal known
            if len(sys.modules) != known:
                known = len(sys.modules)
                for name in set(sys.modules) - self._before:
                    if (module := loaded.look(name, {})) is not None:
                        self._forks.tell("module", name, module.origin, module.folders)

        self._imports.told = lambda *asked: self._forks.tell("import", *asked)
        self._imports.imported = imported

    def _hear(self, accesses: Accesses, surroundings: set[str]) -> set[tuple[str, str]]:
        """Take in what forked processes told; gives their imports."""
        asked = set()
        for kind, *what in self._forks.heard():
            if kind == "touch":
                path, how, there, relative, absolute, by_code, walked = what
                access = accesses.note(path, How[how], lambda _, there=there: there)  # type: ignore[misc]  # a default argument
                access.relative, access.absolute = access.relative or relative, access.absolute or absolute
                access.by_code, access.walked, access.forked = access.by_code or by_code, access.walked and walked, True
            elif kind == "import":
                importer, package, name, names, level = what
                asked.add((importer, package, name, tuple(names), level))
            elif kind == "module":
                self._elsewhere[what[0]] = Loaded(what[1], tuple(what[2]))
            elif kind == "asked":
                surroundings.add(what[0])
            else:
                self._unfollowed.add(what[0])
        return Imports.full_names(asked)

    # Modules

    def _loaded(self, name: str) -> Loaded | None:
        return loaded.look(name, self._elsewhere)

    def _module(self, name: str) -> str | None:
        module = self._loaded(name)
        return self._place.file(module.origin) if module is not None and module.origin else None

    def _is_made(self, name: str) -> bool:
        """Whether a module is of a file that the stage itself wrote, as compilers of Python code leave them."""
        module = self._loaded(name)
        access = self._accesses.get(module.origin) if module is not None else None
        return access is not None and access.first is How.WRITE

    def _looked_up(self, new: set[str], used: set[str], asked: set[str]) -> set[str]:
        """Where modules were looked for, whether they were found or not: another could come first some day."""
        own: set[str] = set()
        inside: dict[str, set[str]] = {}
        real = {name for name in new if (module := self._loaded(name)) is not None and not module.is_made_up}
        for name in real | (asked - self._before):
            if top(name) == OWN_NAME or not all(part.isidentifier() or "-" in part for part in name.split(".")):
                continue
            parent, _, last = name.rpartition(".")
            for folder in self._folders_of(parent) if parent else ():
                inside.setdefault(folder, set()).add(last)
            above = self._loaded(parent) if parent else None
            if not parent or (above is not None and above.is_namespace and not self._is_installed(above)):
                own.add(name)
        tools = {top(name) for name in used}
        for folder in self._added:
            inside.setdefault(self._place.relative(folder) or folder, set()).update(top(name) for name in own | tools)
        if not set(self._place.roots) & set(sys.path):  # the project can't have come first
            own, tools = set(), tools | own
        tools -= {OWN_NAME, *sys.stdlib_module_names}
        found = {top(name) for name in own | tools} - {*sys.stdlib_module_names}
        kinds = {"import:": own, "tools:": tools, "finders:": found}
        kinds |= {f"inside:{folder}:": names for folder, names in inside.items()}
        return {kind + " ".join(sorted(names)) for kind, names in kinds.items() if names}

    @property
    def _added(self) -> list[str]:
        """The folders that the model's own code put on the path: a module may come to be found there first."""
        added = (folder for folder in sys.path if folder and folder not in self._path_before and ":" not in folder)
        return [folder for folder in added if folder not in self._place.roots and os.path.isabs(folder)]  # noqa: PTH117  # hot path

    def _folders_of(self, package: str) -> list[str]:
        """The folders of a regular package that is nobody's but the project's."""
        module = self._loaded(package)
        if module is None or module.is_namespace or self._is_installed(module):
            return []
        folders = [os.path.abspath(folder) for folder in module.folders]  # noqa: PTH100  # hot path
        return [shown for folder in folders if ":" not in (shown := self._place.relative(folder) or folder)]

    def _is_installed(self, module: Loaded) -> bool:
        return any(self._place.is_others(place) for place in (*module.folders, module.origin))


_stat = os.stat  # as it is, before it is wrapped
_lstat = os.lstat


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
