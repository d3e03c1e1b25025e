"""What a fitted estimator says of its own inputs and outputs: features, their kinds, classes. Converts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxbuild.contracts import Inspection, Interface, Value
from onnxbuild.errors import StageError
from onnxbuild.parity import arrays, samples
from onnxbuild.sources.sklearn import boosters, failing, feeding, loading, parts, results, settings
from onnxbuild.text.wording import some

ROWS = "batch"
MATRIX = "X"  # skl2onnx.to_onnx's own name for it


def interface(section: Mapping[str, Any], file: Path | None, root: Path) -> Interface:
    """A column for each feature where some is text or picked by name, else one matrix of float32. Raises StageError."""
    return _asked(section, file, root)[0]


def inspection(section: Mapping[str, Any], file: Path | None, root: Path) -> Inspection:
    """The interface, and data as far as the estimator tells what it saw. Raises StageError."""
    found, inputs = _asked(section, file, root)
    data = {name: spec["data"] for name, spec in inputs.items() if "data" in spec}
    looked = ["the inputs and outputs are the fitted estimator's own"]
    looked += [f"the data of {some(list(data))} is what the estimator saw there"] if data else []
    return Inspection(found, data, looked=looked)


def _asked(section: Mapping[str, Any], file: Path | None, root: Path) -> tuple[Interface, dict[str, Any]]:
    """The interface, and the inputs as a recipe has them."""
    model = loading.model(section, file, root)
    if not isinstance(model, boosters.Boosted):
        boosters.register(part.estimator for part in parts.parts(model))
        parts.require_known(model)
    inputs = _inputs(model)
    made = _made(model, section, inputs, root)
    told = {name: {"dtype": spec["dtype"], "shape": [ROWS, *spec["shape"][1:]]} for name, spec in inputs.items()}
    outputs = [Value(name, arrays.dtype_name(array), [ROWS, *array.shape[1:]]) for name, array in made.items()]
    return Interface([Value(name, **spec) for name, spec in told.items()], outputs), inputs


def _inputs(model: Any) -> dict[str, Any]:
    """The inputs as a recipe has them, with values that the estimator knows."""
    features, names = feeding.features(model), feeding.names(model)
    seen = feeding.categories(model, features, names)
    text = feeding.strings(model, features, names)
    if not names or not (text or feeding.picks_by_name(model)):
        kind = "string" if len(text) == features else "float32"
        if text and kind != "string":
            fact = (
                "the model takes text in some features and numbers in others, and was fitted on a matrix without names"
            )
            raise StageError(fact, "fit it on a pandas.DataFrame")
        return {MATRIX: {"dtype": kind, "shape": [2, features], **_values(seen.get(0), kind)}}
    inputs = {}
    for number, name in enumerate(names):
        values = seen.get(number)
        whole = getattr(getattr(values, "dtype", None), "kind", "") in ("i", "u")
        kind = "string" if number in text else "int64" if whole else "float32"
        inputs[name] = {"dtype": kind, "shape": [2, 1], **_values(values, kind)}
    return inputs


def _values(seen: Any, kind: str) -> dict[str, Any]:
    known = [one for one in ([] if seen is None else list(seen)) if isinstance(one, str) == (kind == "string")]
    plain = [one if isinstance(one, str) else one.item() for one in known]
    return {"data": {"values": plain}} if plain else {}


def _made(model: Any, section: Mapping[str, Any], inputs: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """What it gives for two rows of such values."""
    shapes = {name: spec["shape"] for name, spec in inputs.items()}
    given = samples.make(dict(inputs), {"name": "example", "data": {}, "shapes": shapes}, 0, root)
    try:
        return results.computed(model, feeding.Feed(model, inputs).data(given), settings.of_last(section, model))
    except Exception as error:
        raise failing.explain(error, "the model can't be tried on two rows", root) from error
