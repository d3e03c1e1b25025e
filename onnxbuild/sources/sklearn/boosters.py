"""Models of LightGBM and XGBoost as estimators: their own files, their boosters, and the converters that skl2onnx needs.

Both libraries are optional, and imported only where a model of theirs is met.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from onnxbuild.errors import StageError

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, Any]

LIBRARIES = {".json": "XGBoost", ".ubj": "XGBoost", ".txt": "LightGBM"}
UNNAMED = r"Column_\d+"  # what LightGBM calls features that have no names
CLASSES = ("binary", "multiclass")  # how LightGBM's objectives begin that predict classes
NUMBERS = ("regression", "poisson", "gamma", "quantile", "huber", "tweedie")  # and that onnxmltools takes for numbers
OBJECTIVES = "it converts objectives that begin with binary:, multi:, reg: or count:"


class Boosted:
    """A booster as an estimator: the classes' numbers are its labels. `model` is what onnxmltools converts."""

    def __init__(self, model: Any, features: int, names: list[str], classes: int) -> None:
        self.model, self.n_features_in_ = model, features
        self.classes: list[int] = [*range(classes)]
        if names:
            self.feature_names_in_ = names

    def fit(self) -> None:
        """A booster is fitted: what looks for estimators looks for this."""

    def predict_proba(self, data: Array) -> Array:
        """[rows, classes]: the probability of each class."""
        import numpy as np

        made = np.asarray(self.model.predict(data))
        return np.stack([1 - made, made], 1) if made.ndim == 1 else made

    def predict(self, data: Array) -> Array:
        """[rows]: the number of the likeliest class, or a number."""
        import numpy as np

        return np.argmax(self.predict_proba(data), 1) if self.classes else np.asarray(self.model.predict(data))


class Converted(NamedTuple):
    """A class of a booster's library, and what skl2onnx has to be told of it."""

    name: str
    classifies: bool
    options: dict[str, Any]


_OF_CLASSES: dict[str, Any] = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
# As https://onnx.ai/sklearn-onnx has them: "Convert a pipeline with a LightGBM classifier", "... a XGBoost model".
KNOWN = {
    "lightgbm": (
        Converted("LGBMClassifier", True, _OF_CLASSES),
        Converted("LGBMRegressor", False, {"split": None}),
    ),
    "xgboost": (
        Converted("XGBClassifier", True, _OF_CLASSES),
        Converted("XGBRegressor", False, {}),
    ),
}


def library(model: Any) -> str:
    """The package that a model's class is of, where that is a booster's; "" for any other."""
    package = type(model).__module__.partition(".")[0]
    return package if package in KNOWN else ""


def is_booster(model: Any) -> bool:
    """Whether a model is one of these libraries' own, and no estimator."""
    return bool(library(model)) and type(model).__name__ == "Booster"


def of_file(file: Path, kind: str) -> Any:
    """The model in a file of one of the libraries, as an estimator. Raises StageError."""
    try:
        if kind == "LightGBM":
            import lightgbm

            booster = lightgbm.Booster(model_file=str(file))
        else:
            import xgboost

            booster = xgboost.Booster(model_file=str(file))
    except Exception as error:
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = "save it with save_model of the library"
        raise StageError(f"{file.name} is not a model that {kind} can read: {said.strip()}", hint) from error
    return of_booster(booster, f"{file.name}")


def of_booster(booster: Any, what: str) -> Any:
    """An estimator made of a booster. Raises StageError where onnxmltools knows no such objective."""
    return _lightgbm(booster, what) if library(booster) == "lightgbm" else _xgboost(booster, what)


def _lightgbm(booster: Any, what: str) -> Boosted:
    told = booster.dump_model(num_iteration=1)
    objective = str(told.get("objective", "none")).partition(" ")[0]
    if not objective.startswith((*CLASSES, *NUMBERS)):
        hint = f"it converts objectives that begin with {', '.join((*CLASSES, *NUMBERS))}"
        raise StageError(f"{what} has the objective {objective}, which onnxmltools has no converter for", hint)
    names = booster.feature_name()
    named = [] if all(re.fullmatch(UNNAMED, name) for name in names) else names
    classes = max(2, told["num_class"]) if objective.startswith(CLASSES) else 0
    return Boosted(booster, booster.num_feature(), named, classes)


def _xgboost(booster: Any, what: str) -> Any:
    import xgboost

    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    if objective.startswith(("binary:", "multi:")):
        made: Any = xgboost.XGBClassifier()
    elif objective.startswith(("reg:", "count:")):
        made = xgboost.XGBRegressor()
    else:
        fact = f"{what} has the objective {objective}, which onnxmltools has no converter for"
        raise StageError(fact, OBJECTIVES)
    made.load_model(bytearray(booster.save_raw("ubj")))
    return made


def register(models: Iterable[Any]) -> None:
    """Tell skl2onnx of onnxmltools' converters for what of these libraries is among the models. Raises StageError."""
    for package in sorted({library(model) for model in models} - {""}):
        try:
            import onnxmltools  # noqa: F401  # whether it is there
        except ImportError:
            fact = f"models of {package} are converted by onnxmltools, which is not installed"
            raise StageError(fact, "pip install 'onnxbuild[boosters]'") from None
        _register(package)


def _register(package: str) -> None:
    import importlib

    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator as shapes

    module = importlib.import_module(package)
    convert = convert_lightgbm if package == "lightgbm" else convert_xgboost
    for one in KNOWN[package]:
        sizes = (
            shapes.calculate_linear_classifier_output_shapes
            if one.classifies
            else shapes.calculate_linear_regressor_output_shapes
        )
        alias = f"{package.capitalize()}{one.name}"
        update_registered_converter(getattr(module, one.name), alias, sizes, convert, options=one.options)


def forget_names(model: Any) -> None:
    """Take the features' names from a model of XGBoost, in place: its converter reads numbers out of them."""
    if library(model) == "xgboost":
        model.get_booster().feature_names = None
