"""A recipe's inputs and the features that an estimator was fitted on: one matrix, or a column each. Converts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxbuild.errors import StageError
from onnxbuild.sources.sklearn import boosters
from onnxbuild.sources.sklearn.parts import first, parts
from onnxbuild.text.wording import nearest, some

if TYPE_CHECKING:
    from onnxbuild.contracts import Arrays

TYPES = {
    "float32": "FloatTensorType",
    "float64": "DoubleTensorType",
    "int64": "Int64TensorType",
    "int32": "Int32TensorType",
    "bool": "BooleanTensorType",
    "string": "StringTensorType",
}  # of skl2onnx.common.data_types
SHOWN = 16
DOCUMENTS = "CountVectorizer", "TfidfVectorizer", "HashingVectorizer"


class Data(NamedTuple):
    """What an estimator is called with, and the precision of the floats that it gives."""

    rows: Any
    precision: str


class Feed:
    """How a recipe's inputs become an estimator's features."""

    def __init__(self, model: Any, inputs: Mapping[str, Any]) -> None:
        """`inputs` are the recipe's, by name. Raises StageError where they don't fit what the estimator was fitted on."""
        self.inputs = inputs
        self.features = features(model)
        self.names = names(model)
        self.matrix = _is_matrix(inputs, self.features, self.names)
        self._framed = bool(self.names) and not isinstance(model, boosters.Boosted)
        self.precision = "float64" if all(spec["dtype"] == "float64" for spec in inputs.values()) else "float32"
        for name, spec in inputs.items():
            if spec["dtype"] not in TYPES:
                fact = f"input '{name}' is {spec['dtype']}, for which skl2onnx has no type"
                raise StageError(fact, f"it has {', '.join(TYPES)}")
        self.order = self._matched(model)

    def data(self, arrays: Arrays) -> Data:
        """The arrays as what the estimator was fitted on: a matrix, or a table with named columns."""
        import numpy as np

        if self.matrix:
            rows: Any = next(iter(arrays.values()))
            if self._framed:
                import pandas as pd

                rows = pd.DataFrame(rows, columns=list(self.names))
        elif self._framed:
            import pandas as pd

            rows = pd.DataFrame({name: arrays[name].reshape(-1) for name in self.order})
        else:
            rows = np.concatenate([arrays[name] for name in self.order], 1)
        return Data(rows, self.precision)

    def _matched(self, model: Any) -> list[str]:
        """The inputs in the order of the features. Raises StageError where names, numbers or types don't fit."""
        if self.matrix:
            (name,) = self.inputs
            width = self.inputs[name]["shape"][1]
            if width != self.features:
                fact = f"input '{name}' has {width} columns, and the model was fitted on {self.features} features"
                raise StageError(fact, f"shape: [{self.inputs[name]['shape'][0]}, {self.features}]")
            if self.names and (picked := picks_by_name(model)):
                fact = f"the model picks columns by name ('{picked}'), and the recipe has one matrix, '{name}'"
                hint = f"declare an input [batch, 1] for each: {some(self.names, SHOWN)}"
                raise StageError(fact, hint)
            _require_kinds(model, self.features, self.names, dict.fromkeys(range(self.features), name), self.inputs)
            return [name]
        order = [*self.names] if self.names else [*self.inputs]
        _require_names(self.names, list(self.inputs), self.features)
        _require_kinds(model, self.features, self.names, dict(enumerate(order)), self.inputs)
        return order


def features(model: Any) -> int:
    """The number of features that an estimator was fitted on. Raises StageError where it does not say."""
    found = getattr(model, "n_features_in_", None)
    if found is None:
        kind = type(first(model)).__name__
        why = "it takes documents" if kind in DOCUMENTS else "it does not say how many features it was fitted on"
        raise StageError(f"the model begins with {kind}: {why}", "put it behind a ColumnTransformer, fitted on a table")
    return int(found)


def names(model: Any) -> list[str]:
    """The names of the features that an estimator was fitted on; none where it saw a matrix."""
    found = getattr(model, "feature_names_in_", None)
    return [] if found is None else [str(name) for name in found]


def strings(model: Any, features: int, names: Sequence[str]) -> dict[int, Sequence[str]]:
    """The features that hold text, by number, each with the values that were seen there where they are known."""
    return {number: seen for number, seen in categories(model, features, names).items() if _is_text(seen)}


def categories(model: Any, features: int, names: Sequence[str]) -> dict[int, Any]:
    """The values that encoders saw, by the number of the feature; of those that see the data first."""
    found: dict[int, Any] = {}
    for columns, estimator in _seeing(first(model), features, names):
        found |= dict(zip(columns, _seen(estimator), strict=False))
    return found


def _seen(estimator: Any) -> Sequence[Any]:
    """The values that an encoder saw in each of its columns; behind an imputer of text, those of the encoder after it."""
    inner = first(estimator)
    filled: Any = getattr(inner, "statistics_", None)
    if getattr(getattr(filled, "dtype", None), "kind", "") == "O":
        steps = getattr(estimator, "steps", [])
        after = getattr(steps[1][1], "categories_", None) if len(steps) > 1 else None
        return after if after is not None else [[one] if isinstance(one, str) else [] for one in filled]
    return getattr(inner, "categories_", ())


def _seeing(model: Any, features: int, names: Sequence[str]) -> Iterator[tuple[list[int], Any]]:
    """The estimators that see features as they come, each with the numbers of those."""
    if not hasattr(model, "transformers_"):
        yield list(range(features)), model
        return
    for _, estimator, columns in model.transformers_:
        if hasattr(estimator, "fit"):
            yield _numbers(columns, features, names), estimator


def _numbers(columns: Any, features: int, names: Sequence[str]) -> list[int]:
    """What a ColumnTransformer picks, as the features' numbers: names, numbers, a slice or a mask."""
    import numpy as np

    if isinstance(columns, slice):
        start, stop = (names.index(end) if isinstance(end, str) else end for end in (columns.start, columns.stop))
        if isinstance(columns.stop, str) and stop is not None:
            stop += 1  # as pandas has it, the last one is in
        return list(range(features)[start : stop : columns.step])
    listed = [columns] if isinstance(columns, (str, int)) else list(columns)
    if listed and isinstance(listed[0], (bool, np.bool_)):
        return [number for number, picked in enumerate(listed) if picked]
    return [names.index(one) if isinstance(one, str) else range(features)[int(one)] for one in listed]


def _is_text(values: Any) -> bool:
    return len(values) > 0 and any(isinstance(value, str) for value in values)


def picks_by_name(model: Any) -> str:
    """The first column that is picked by its name somewhere in the model, "" where none is."""
    for part in parts(model):
        for _, _, columns in getattr(part.estimator, "transformers_", ()):
            listed = [columns] if isinstance(columns, str) else columns if isinstance(columns, list) else []
            if names := [one for one in listed if isinstance(one, str)]:
                return names[0]
    return ""


def _is_matrix(inputs: Mapping[str, Any], features: int, names: Sequence[str]) -> bool:
    """Whether a recipe has one input for all features. Raises StageError for one that holds no rows and columns."""
    for name, spec in inputs.items():
        if len(spec["shape"]) != 2:
            shape = f"[batch, {features}]" if len(inputs) == 1 else "[batch, 1]"
            raise StageError(
                f"input '{name}' has the shape {spec['shape']}, and an estimator takes rows", f"shape: {shape}"
            )
    if len(inputs) > 1:
        return False
    (name,) = inputs
    return not (features == 1 and name in names)


def _require_names(known: Sequence[str], given: Sequence[str], features: int) -> None:
    if not known and len(given) != features:
        fact = f"the recipe has {len(given)} inputs, and the model was fitted on {features} features without names"
        raise StageError(fact, f"declare one matrix [batch, {features}], or a column for each in order")
    missing, other = ([name for name in one if name not in two] for one, two in ((known, given), (given, known)))
    if known and (missing or other):
        facts = [f"it was fitted on {some(missing, SHOWN)}, which the recipe lacks"] if missing else []
        facts += [f"the recipe has {some(other, SHOWN)}, which it never saw"] if other else []
        near = next((hint for name in other if (hint := nearest(name, missing or known))), "")
        raise StageError(f"the features have other names: {'; '.join(facts)}", near or f"they are {some(known, SHOWN)}")


def _require_kinds(
    model: Any, features: int, names: Sequence[str], inputs: Mapping[int, str], given: Mapping[str, Any]
) -> None:
    """Raises StageError where a feature is text and its input is none, or the other way about."""
    text = strings(model, features, names)
    for number, name in inputs.items():
        spec = given[name]
        if number in text and spec["dtype"] != "string":
            seen = some([str(value) for value in text[number]])
            raise StageError(
                f"input '{name}' is {spec['dtype']}, and the model learned text there: {seen}", "dtype: string"
            )
        if number not in text and spec["dtype"] == "string" and _numeric(model, number, features, names):
            raise StageError(f"input '{name}' is a string, and the model takes numbers there", "dtype: float32")


def _numeric(model: Any, number: int, features: int, names: Sequence[str]) -> bool:
    """Whether whatever sees a feature first can only take numbers, as far as is known: it learned numbers of it."""
    for columns, estimator in _seeing(first(model), features, names):
        if number in columns:
            inner = first(estimator)
            learned = any(hasattr(inner, one) for one in ("mean_", "scale_", "coef_", "tree_", "n_bins_", "data_min_"))
            return learned or number in categories(model, features, names)
    return False
