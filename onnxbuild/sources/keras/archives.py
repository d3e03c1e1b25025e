"""What a file says of itself before Keras reads it: a `.keras` file is a zip archive that describes its model in JSON.

Neither imports Keras nor runs anything. Light to import; knows no recipe.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from onnxbuild.system import files, observed
from onnxbuild.text.wording import some

METADATA, CONFIG = "metadata.json", "config.json"  # as keras.src.saving.saving_lib names them
HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
LFS = b"version https://git-lfs.github.com/"
MOST = 1 << 26  # bytes of JSON; no description of a model comes near
SHOWN = 5  # classes named before "and 3 more"
# Whose classes Keras finds by itself: keras.src.saving.serialization_lib looks them up in these packages.
KNOWN = {"keras", "keras_hub", "keras_cv", "keras_nlp", "builtins"}

Wrong = tuple[str, str, str]  # option, fact, hint
_SAVED_MODEL = "a SavedModel is built by another source: model: {tensorflow: {path: …}}"
_KERAS_2 = (
    "make the model anew in Keras 3 and load its weights into it, in a factory; or export a SavedModel there, for "
    "model: {tensorflow: {path: …}}"
)
_LAMBDA = "make a layer class of it and name that in custom_objects, or return the model from a factory"


def unfit(path: Path, custom_objects: Sequence[str]) -> Iterator[Wrong]:
    """Why a file can't be built; nothing where it is not there, or can't be read, which is told by itself.

    `custom_objects` are the names that a recipe gives of classes which are not Keras's own.
    """
    if observed.kind(path) == "folder":
        yield from _folder(path)
        return
    try:
        with files.opened(path) as file:
            found = list(_file(path.name, file, custom_objects))
    except OSError:
        return
    yield from (("path", fact, hint) for fact, hint in found)


def _folder(path: Path) -> Iterator[Wrong]:
    if observed.kind(path / "saved_model.pb"):
        yield "path", f"'{path.name}' is a SavedModel, not a .keras file", _SAVED_MODEL
    elif observed.kind(path / CONFIG):
        yield "path", f"'{path.name}' is an unpacked .keras file", "save it with model.save('model.keras')"


def _file(name: str, file: BinaryIO, custom_objects: Sequence[str]) -> Iterator[tuple[str, str]]:
    head = file.read(len(LFS))
    if head.startswith(HDF5):
        hint = "load it with keras.models.load_model(path, compile=False) and save it as .keras; weights alone belong to a "
        yield f"'{name}' is an HDF5 file, as Keras 2 wrote them", f"{hint}factory that loads them"
    elif head == LFS:
        yield f"'{name}' is a Git LFS pointer, not the model that it stands for", "git lfs pull"
    elif not head.startswith(ZIP):
        yield f"'{name}' is not a .keras file: those are zip archives", "save the model with model.save('model.keras')"
    else:
        yield from _archive(name, file, custom_objects)


def _archive(name: str, file: BinaryIO, custom_objects: Sequence[str]) -> Iterator[tuple[str, str]]:
    try:
        with zipfile.ZipFile(file) as archive:
            described = _json(archive, CONFIG)
            version = str(_json(archive, METADATA).get("keras_version", ""))
    except KeyError:
        yield f"'{name}' is a zip archive, but not a .keras file: it has no {CONFIG}", "save it with model.save(…)"
        return
    except (zipfile.BadZipFile, ValueError, EOFError, RecursionError, NotImplementedError, RuntimeError) as error:
        yield f"'{name}' is damaged: {error}", "copy or download it again"
        return
    if version.partition(".")[0] in ("0", "1", "2"):
        yield f"'{name}' was saved by Keras {version}, and Keras 3 does not read those", _KERAS_2
        return
    if not name.endswith(".keras"):
        yield f"'{name}' is a .keras file under another name, and Keras goes by the name", f"rename it to {name}.keras"
    layers, classes = _brought(described)
    if layers:
        fact = f"'{name}' has Lambda layers ({some(layers, SHOWN)}): no Python code is run that a file brings along"
        yield fact, _LAMBDA
    elif classes and not custom_objects:
        first, module = next(iter(classes.items()))
        hint = f"name them with their modules: custom_objects: ['{module or 'module'}:{first.rpartition('>')[2]}']"
        yield f"'{name}' has classes that are not Keras's own: {some(list(classes), SHOWN)}", hint


def _json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """A member of the archive. Raises KeyError where it is not there, ValueError where it is no mapping in JSON."""
    if archive.getinfo(name).file_size > MOST:
        raise ValueError(f"{name} is of more than {MOST:,} bytes")
    found = json.loads(archive.read(name))
    if not isinstance(found, dict):
        raise ValueError(f"{name} is no mapping")  # noqa: TRY004  # of the file's content, as json's own are
    return found


def _brought(described: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The layers that are code in the file, and the registered names of classes that are not Keras's own, with modules.

    A module is "" where the file does not tell it.
    """
    layers: dict[str, None] = {}
    classes: dict[str, str] = {}
    left: list[tuple[Any, str]] = [(described, "")]
    while left:
        value, layer = left.pop()
        if isinstance(value, list):
            left += [(item, layer) for item in reversed(value)]
        elif isinstance(value, dict):
            config, kind = value.get("config"), value.get("class_name")
            layer = str(config["name"]) if isinstance(config, dict) and "name" in config else layer
            registered, module = value.get("registered_name"), str(value.get("module") or "")
            if kind == "__lambda__":
                layers[layer or "without a name"] = None
            elif kind and kind != "function" and registered and module.partition(".")[0] not in KNOWN:
                classes[str(registered)] = module
            # what it was trained with is not loaded
            left += [(item, layer) for key, item in reversed(value.items()) if key != "compile_config"]
    return list(layers), classes
