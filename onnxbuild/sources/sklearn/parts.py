"""An estimator and the estimators in it, each with its place: which is not fitted, which has no converter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from onnxbuild.errors import StageError
from onnxbuild.sources.factories import article

# What estimators call the ones that they are made of. Those that a fit makes come with a line below.
NAMED = ("steps", "transformers_", "transformer_list")
FITTED = ("best_estimator_", "final_estimator_")  # not estimator_: an ensemble keeps an unfitted one there
SEVERAL = ("estimators_",)
CONTAINERS = ("sklearn.pipeline", "sklearn.compose._column_transformer")  # that are converted part by part


class Part(NamedTuple):
    """An estimator and the names of the steps that lead to it, joined as scikit-learn's parameters are; "" for all."""

    place: str
    estimator: Any

    def __str__(self) -> str:
        kind = article(type(self.estimator).__name__)
        return f"the step '{self.place}' is {kind}" if self.place else f"the model is {kind}"


def parts(model: Any, place: str = "") -> Iterator[Part]:
    """The estimator, and all that it is made of, in order; of many alike inside one, the first."""
    yield Part(place, model)
    for attribute in NAMED:
        for entry in getattr(model, attribute, None) or ():
            if hasattr(entry[1], "fit"):  # and not "passthrough", say
                yield from parts(entry[1], f"{place}__{entry[0]}" if place else str(entry[0]))
    for attribute in FITTED:
        if hasattr(inner := getattr(model, attribute, None), "fit"):
            yield from parts(inner, f"{place}__{attribute}" if place else attribute)
    for attribute in SEVERAL:
        kinds = set()
        for inner in getattr(model, attribute, ()):
            if hasattr(inner, "fit") and type(inner) not in kinds:
                kinds.add(type(inner))
                yield from parts(inner, f"{place}__{attribute}" if place else attribute)


def last(model: Any) -> Any:
    """The estimator whose results are the model's: the last step of a pipeline, the best one of a search."""
    while True:
        if getattr(model, "steps", None):
            model = model.steps[-1][1]
        elif hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        else:
            return model


def first(model: Any) -> Any:
    """The estimator that sees the data first."""
    while True:
        if getattr(model, "steps", None):
            model = model.steps[0][1]
        elif hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        else:
            return model


def require_fitted(model: Any) -> None:
    """Raises StageError, with the place, where an estimator was never fitted."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    for part in reversed(list(parts(model))):  # what is inside is named, and not what it is in
        if not hasattr(part.estimator, "__sklearn_tags__"):
            continue  # of another library
        try:
            check_is_fitted(part.estimator)
        except NotFittedError:
            raise StageError(f"{part}, which is not fitted", "fit it before it is returned or saved") from None


def require_known(model: Any) -> None:
    """Raises StageError, with the class and the place, where skl2onnx has no converter for an estimator."""
    from skl2onnx._parse import sklearn_parsers_map
    from skl2onnx._supported_operators import sklearn_operator_name_map

    for part in parts(model):
        kind = type(part.estimator)
        known = kind in sklearn_operator_name_map or kind in sklearn_parsers_map or hasattr(kind, "onnx_converter")
        if not known and not kind.__module__.startswith(CONTAINERS):
            hint = (
                "choose an estimator that it has, or register one in the factory: skl2onnx.update_registered_converter"
            )
            raise StageError(f"{part}, which skl2onnx has no converter for", hint)
