"""What an estimator gives for data, in the order and by the names in which skl2onnx gives it. Knows nothing of ONNX.

Labels are int64 or strings; numbers are floats of the inputs' own precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from onnxbuild.errors import StageError
from onnxbuild.sources.sklearn.boosters import Boosted
from onnxbuild.sources.sklearn.parts import Part, last
from onnxbuild.text.wording import did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from onnxbuild.contracts import Arrays
    from onnxbuild.sources.sklearn.feeding import Data

    Array: TypeAlias = np.ndarray[Any, Any]

ONE_SCORE = (
    "LinearSVC",
    "RidgeClassifier",
    "RidgeClassifierCV",
)  # for which skl2onnx gives a single one of two classes
WITHOUT_SCORES = ("SVC", "NuSVC")


def computed(model: Any, data: Data, chosen: Mapping[str, Any]) -> Arrays:
    """The results by the converter's names, in its order; `chosen` are the options of the last estimator.

    Raises StageError for an estimator that predicts and transforms nothing.
    """
    made = _results(model, last(model), data.rows, chosen)
    return {name: _plain(value, data.precision) for name, value in made.items()}


def named(own: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """The result that each output of a recipe is: by name where all are the converter's own, else in order.

    Raises StageError where there are more or fewer outputs than results.
    """
    if set(wanted) <= set(own):
        return {name: name for name in wanted}
    if len(wanted) == len(own):
        return dict(zip(wanted, own, strict=True))
    wrong = next(name for name in wanted if name not in own)
    fact = f"the model has {len(own)} output{'s' * (len(own) > 1)} ({', '.join(own)}), the recipe names {len(wanted)}"
    raise StageError(fact, did_you_mean(wrong, own))


def _results(model: Any, of: Any, rows: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The results of the model, whose last estimator is `of`."""
    from sklearn import base
    from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
    from sklearn.neighbors import NearestNeighbors

    boosted = isinstance(of, Boosted)
    if (boosted and of.classes) or (not boosted and base.is_classifier(of)):
        made = _classes(model, of, rows, chosen)
    elif boosted or base.is_regressor(of):
        made = _numbers(model, rows, chosen)
    elif isinstance(of, (GaussianMixture, BayesianGaussianMixture)):
        made = {"label": _column(model.predict(rows)), "probabilities": model.predict_proba(rows)}
    elif base.is_outlier_detector(of):
        made = {"label": _column(model.predict(rows)), "scores": _column(model.decision_function(rows))}
    elif base.is_clusterer(of) and hasattr(of, "transform") and hasattr(of, "predict"):
        made = {"label": model.predict(rows), "scores": model.transform(rows)}
    elif isinstance(of, NearestNeighbors):
        distance, index = model.kneighbors(rows)
        made = {"index": index, "distance": distance}
    elif hasattr(of, "transform"):
        made = {"variable": model.transform(rows)}
    else:
        raise StageError(f"{Part('', of)}, which neither predicts nor transforms", "choose an estimator that does")
    return {**made, "score_samples": _column(model.score_samples(rows))} if chosen.get("score_samples") else made


def _classes(model: Any, of: Any, rows: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The label of each row, and the scores of all classes: probabilities where it has them and no raw scores are asked."""
    import numpy as np

    label = np.asarray(model.predict(rows))
    raw = chosen.get("raw_scores", False) or not hasattr(model, "predict_proba")
    scores = model.decision_function(rows) if raw else model.predict_proba(rows)
    if isinstance(scores, list):
        fact = f"{Part('', of)} of several labels, whose scores are a sequence, and only tensors can be built"
        raise StageError(fact, "build a model for each label")
    scores = np.asarray(scores)
    if scores.ndim == 1:  # of two classes: the score of the second
        kind = type(of).__name__
        if kind in WITHOUT_SCORES and not chosen.get("raw_scores"):
            fact = f"{Part('', of)} fitted without probability, and of two classes skl2onnx gives no scores of its own then"
            raise StageError(fact, "options: {raw_scores: true}")
        scores = scores.reshape(-1, 1) if kind in ONE_SCORE else np.stack([-scores, scores], 1)
    classes = getattr(model, "classes_", None)
    if chosen.get("nocl") and classes is not None:
        label = np.searchsorted(classes, label)
    if chosen.get("zipmap") != "columns":
        return {"label": label, "probabilities": scores}
    prefix = "s" if np.asarray(classes).dtype.kind in "OUS" else "i"  # as skl2onnx names them
    columns = {f"{prefix}{one}": scores[:, number] for number, one in enumerate(classes if classes is not None else ())}
    return {"output_label": label, **columns}


def _numbers(model: Any, rows: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A regressor's numbers, [rows, targets], and what else its options ask for."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    process = isinstance(last(model), GaussianProcessRegressor)
    asked = {name: True for name in ("return_std", "return_cov") if chosen.get(name)}
    if not asked:
        return {"GPmean" if process else "variable": _column(model.predict(rows))}
    mean, more = model.predict(rows, **asked)
    return {"GPmean": _column(mean), "GPcovstd": more} if process else {"variable": _column(mean), "std": _column(more)}


def _column(values: Any) -> Any:
    """[rows] as [rows, 1], which is what the converters give of one number a row."""
    return values.reshape(-1, 1) if getattr(values, "ndim", 0) == 1 else values


def _plain(values: Any, precision: str) -> Array:
    """A dense array of what a tensor can hold: int64, strings, or floats of the precision."""
    import numpy as np

    array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    if array.dtype.kind in "US":
        return array.astype(object)
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    return array if array.dtype.kind == "O" else array.astype(precision)
