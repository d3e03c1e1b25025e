"""A fitted estimator from an importable factory or a file. Converts nothing, and reads no pickle."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxbuild.errors import StageError
from onnxbuild.sources import factories
from onnxbuild.sources.factories import article
from onnxbuild.sources.sklearn import boosters, conversion, parts
from onnxbuild.text.wording import some

PICKLE, ZIP, SHOWN = b"\x80", b"PK\x03\x04", 8


def model(section: Mapping[str, Any], file: Path | None, root: Path) -> Any:
    """The fitted estimator that the recipe's `model.sklearn` section describes, or a booster as one. Raises StageError.

    Two calls give two equal models: the generators of Python and NumPy are seeded before a factory is called.
    """
    made = _from_file(file, section.get("trusted", [])) if file is not None else _from_factory(section, root)
    parts.require_fitted(made)
    return made


def _from_factory(section: Mapping[str, Any], root: Path) -> Any:
    import numpy as np

    seed = section.get("seed", 0)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # scikit-learn draws from the global generator
    made = factories.call(section, root)
    if boosters.is_booster(made):
        return boosters.of_booster(made, f"the factory {section['factory']} gave a model that")
    if not hasattr(made, "fit") or isinstance(made, type) or not hasattr(made, "get_params"):
        fact = f"the factory {section['factory']} gave {article(type(made).__name__)}, not an estimator"
        raise StageError(fact, "return the fitted estimator or pipeline itself")
    return made


def _from_file(file: Path, trusted: Sequence[str]) -> Any:
    """The model in a file, by its content: a name may say another thing."""
    with open(file, "rb") as opened:
        head = opened.read(len(ZIP))
    if head.startswith(PICKLE) or (head == ZIP and not _is_skops(file)):
        fact = f"{file.name} is no .skops file but a pickle or another archive, and reading one runs whatever code is in it"
        raise StageError(fact, conversion(file.name))
    if head == ZIP:
        return _skops(file, trusted)
    kind = boosters.LIBRARIES.get(file.suffix.lower())
    if kind is None:
        raise StageError(f"{file.name} is no .skops file", "write it with skops.io.dump")
    return boosters.of_file(file, kind)


def _is_skops(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return "schema.json" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def _skops(file: Path, trusted: Sequence[str]) -> Any:
    import skops.io

    try:
        unknown = skops.io.get_untrusted_types(file=file)
    except Exception as error:
        raise StageError(f"{file.name} can't be read: {error}", "write it with skops.io.dump") from error
    if left := [name for name in unknown if name not in trusted]:
        fact = f"{file.name} holds types that are not trusted: {some(left, SHOWN)}"
        raise StageError(fact, f"if you trust who made it, say so: trusted: [{', '.join(left)}]")
    try:
        made = skops.io.load(file, trusted=unknown)
    except Exception as error:
        fact = f"{file.name} can't be loaded: {type(error).__name__}: {' '.join(str(error).split())}"
        raise StageError(fact, "what it was made with may be missing here, or be another version") from error
    if not hasattr(made, "fit"):
        raise StageError(
            f"{file.name} holds {article(type(made).__name__)}, not an estimator", "save the estimator itself"
        )
    return made
