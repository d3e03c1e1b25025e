"""A Core ML package on the disk, in bytes that two conversions of one model share: no date, no random identifier.

See coremltools' "Core ML model format". Knows no options and no converter.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE = "model.mlpackage"
INNER = "com.apple.CoreML"
MODEL = f"{PACKAGE}/Data/{INNER}/model.mlmodel"
WEIGHTS = f"{PACKAGE}/Data/{INNER}/weights/weight.bin"
MANIFEST = f"{PACKAGE}/Manifest.json"
FILES: tuple[str, ...] = (MODEL, WEIGHTS, MANIFEST)
# A weight.bin that holds nothing: how many tensors, the version of its format, and 56 bytes for later.
EMPTY = (0).to_bytes(4, "little") + (2).to_bytes(4, "little") + bytes(56)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, INNER)


def write(spec: Any, weights: Path, folder: Path) -> Mapping[str, Path]:
    """Write the model `spec` (it is made canonical) and its weights below `folder`; the files by their names.

    Where `weights` is no file, an empty one is written: a package has the same files always.
    """
    canonical(spec)
    found = {file: folder / file for file in FILES}
    found[WEIGHTS].parent.mkdir(parents=True)
    found[MODEL].write_bytes(spec.SerializeToString(deterministic=True))
    found[MANIFEST].write_text(_manifest(), "utf-8")
    if weights.is_file():
        shutil.copyfile(weights, found[WEIGHTS])
    else:
        found[WEIGHTS].write_bytes(EMPTY)
    return found


def canonical(spec: Any) -> None:
    """Take out of a model what two conversions of the same graph differ by: the date, and numbers in made-up names.

    An operation's name refers to nothing; those that were made up (`cast_26`) are numbered anew, in order.
    """
    spec.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            counted: dict[str, int] = {}
            for operation in block.operations:
                name = operation.attributes["name"].immediateValue.tensor.strings
                if re.fullmatch(rf"{operation.type}_\d+", name.values[0]):
                    counted[operation.type] = counted.get(operation.type, -1) + 1
                    name.values[0] = f"{operation.type}_{counted[operation.type]}"


def descriptions(spec: Any) -> list[Any]:
    """What a model says of the inputs and outputs of each of its functions; of the one, where it has one."""
    return list(spec.description.functions) or [spec.description]


def _manifest() -> str:
    """What a package lists of itself: each part by an identifier, of which the model's is the root."""
    parts = {"model.mlmodel": "CoreML Model Specification", "weights": "CoreML Model Weights"}
    keys = {name: str(uuid.uuid5(_NAMESPACE, name)) for name in parts}
    entries = {
        keys[name]: {"author": INNER, "description": text, "name": name, "path": f"{INNER}/{name}"}
        for name, text in parts.items()
    }
    whole = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": keys["model.mlmodel"]}
    return json.dumps(whole, indent=4, sort_keys=True) + "\n"
