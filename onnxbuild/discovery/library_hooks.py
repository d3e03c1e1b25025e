"""What libraries do without a word to Python: files that they open natively, GPUs, entry points and children they start.

Each library is listened to as soon as it is loaded. Knows nothing of what it is told for.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import sys
from collections.abc import Callable, Iterable
from multiprocessing import util
from typing import Any, NamedTuple

from onnxbuild.discovery.accesses import How
from onnxbuild.discovery.import_hooks import Imports

# What torch and onnx open natively by a name that they are given.
_TORCH = (("jit", "load"), ("export", "load"), ("", "from_file"), ("UntypedStorage", "from_file"))
_ONNX = (("checker", "check_model"), ("shape_inference", "infer_shapes_path"))
_GPU = ("is_available", "device_count")
_PYTHON = re.compile(r"(python|pypy)[\d.]*(\.exe)?")


class Listener(NamedTuple):
    """Who is told what."""

    touch: Callable[[Any, How], None]
    asked: Callable[[str], None]  # of the machine, by the name that a trace has for it; where the code asks
    plugins: Callable[[str], None]  # of entry points, whoever asks
    unfollowed: Callable[[list[str]], None]  # a Python process was started, whose files nobody sees: its command
    companions: Callable[[str], Iterable[str]]  # the files that a model's file names as its data


def install(to: Listener, imports: Imports) -> None:
    """Listen to what is loaded, and to what will be."""
    _once(imports, "safetensors", lambda module: _safetensors(module, to))
    _once(imports, "torch", lambda module: _torch(module, to, imports))
    _once(imports, "onnx", lambda module: _onnx(module, to, imports))
    _once(imports, "onnxruntime", lambda module: _onnxruntime(module, to, imports))
    _metadata(to)
    _children(to)


def _once(imports: Imports, library: str, listen: Callable[[Any], None]) -> None:
    imports.once[library] = listen
    if library in sys.modules:
        listen(sys.modules[library])


def _safetensors(safetensors: Any, to: Listener) -> None:
    """Its weights are read natively, and a model's code may well use it by itself."""
    plain = safetensors.safe_open

    class safe_open:  # noqa: N801  # in the place of a class of that name
        def __new__(cls, filename: Any, *arguments: Any, **options: Any) -> Any:
            to.touch(filename, How.READ)
            return plain(filename, *arguments, **options)

    safetensors.safe_open = safe_open


def _torch(torch: Any, to: Listener, imports: Imports) -> None:
    if not hasattr(getattr(torch, "jit", None), "load"):  # torch imports itself before it is whole
        imports.once["torch"] = lambda module: _torch(module, to, imports)
        return
    for place, name in _TORCH:
        holder = getattr(torch, place, None) if place else torch
        plain = getattr(holder, name, None)
        if plain is not None:
            told = _told(plain, to)
            setattr(holder, name, staticmethod(told) if isinstance(holder, type) else told)
    for name in _GPU:
        setattr(torch.cuda, name, _asking(getattr(torch.cuda, name), to))


def _told(plain: Callable[..., Any], to: Listener) -> Any:
    """A function whose first argument is a file that it reads."""

    @functools.wraps(plain)
    def told(*arguments: Any, **options: Any) -> Any:
        for path in (
            *arguments[:1],
            *(options[name] for name in ("f", "filename", "model", "model_path") if name in options),
        ):
            _model(path, to)
        return plain(*arguments, **options)

    return told


def _model(path: Any, to: Listener) -> None:
    """A file is read, and what it names as its data."""
    if isinstance(path, str | os.PathLike):
        to.touch(path, How.READ)
        for companion in to.companions(os.fspath(path)):
            to.touch(companion, How.READ)


def _asking(plain: Callable[..., Any], to: Listener) -> Any:
    @functools.wraps(plain)
    def asking(*arguments: Any, **options: Any) -> Any:
        to.asked("machine:gpu")
        return plain(*arguments, **options)

    return asking


def _onnx(onnx: Any, to: Listener, imports: Imports) -> None:
    helper = getattr(onnx, "external_data_helper", None)
    if not hasattr(onnx, "load") or helper is None:  # not whole yet
        imports.once["onnx"] = lambda module: _onnx(module, to, imports)
        return
    plain = getattr(helper, "_open_external_data_fd", None)
    if plain is not None:

        def open_external_data(base_dir: str, location: str, *arguments: Any) -> Any:
            to.touch(os.path.join(base_dir, location), How.READ)  # noqa: PTH118  # as it is written
            return plain(base_dir, location, *arguments)

        helper._open_external_data_fd = open_external_data  # noqa: SLF001  # it opens the file natively
    for place, name in _ONNX:
        holder = getattr(onnx, place, None)
        if hasattr(holder, name):
            setattr(holder, name, _told(getattr(holder, name), to))


def _onnxruntime(onnxruntime: Any, to: Listener, imports: Imports) -> None:
    session = getattr(onnxruntime, "InferenceSession", None)
    if session is None:
        imports.once["onnxruntime"] = lambda module: _onnxruntime(module, to, imports)
        return
    plain = session.__init__

    @functools.wraps(plain)
    def init(self: Any, path_or_bytes: Any, *arguments: Any, **options: Any) -> None:
        _model(path_or_bytes, to)
        plain(self, path_or_bytes, *arguments, **options)

    session.__init__ = init


def _metadata(to: Listener) -> None:
    """importlib.metadata: which distributions there are, and their entry points."""
    discover, entry_points = importlib.metadata.Distribution.discover, importlib.metadata.entry_points

    of_group: list[bool] = []  # it is asked for entry points alone

    def discovered(**options: Any) -> Any:
        if not of_group:
            to.asked(f"version:{options.get('name') or ''}")
        return discover(**options)

    @functools.wraps(entry_points)
    def listed(**parameters: Any) -> Any:
        to.plugins(f"plugins:{parameters.get('group', '')}")
        of_group.append(True)
        try:
            return entry_points(**parameters)
        finally:
            of_group.pop()

    importlib.metadata.Distribution.discover = staticmethod(discovered)  # type: ignore[method-assign]  # for this process
    importlib.metadata.entry_points = listed


def _children(to: Listener) -> None:
    """Python processes that the code starts: what they read, nobody sees. Forked ones are `forks`'."""

    def started(command: Iterable[Any]) -> None:
        words = [os.fsdecode(word) if isinstance(word, bytes | os.PathLike) else str(word) for word in command]
        if words and _PYTHON.fullmatch(os.path.basename(words[0])) and not _is_harmless(words):  # noqa: PTH119  # a string
            to.unfollowed(words)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            program, words = arguments[:2]
            started(words.split() if isinstance(words, str) else [program or words[0], *words[1:]])
        elif event in ("os.posix_spawn", "os.exec", "os.spawn"):
            words = arguments[2] if event == "os.spawn" else arguments[1]
            started([arguments[1] if event == "os.spawn" else arguments[0], *list(words)[1:]])
        elif event == "os.system":
            started(os.fsdecode(arguments[0]).split())

    sys.addaudithook(hook)
    plain = util.spawnv_passfds  # forks natively, without an event

    def spawnv_passfds(path: Any, command: Any, handles: Any) -> Any:
        started([path, *list(command)[1:]])
        return plain(path, command, handles)

    util.spawnv_passfds = spawnv_passfds  # type: ignore[assignment]  # for this process alone


def _is_harmless(words: list[str]) -> bool:
    """Whether it is Python's own bookkeeper of resources, which reads nothing of the project."""
    return any("multiprocessing.resource_tracker" in word for word in words)
