"""skl2onnx's options as a recipe gives them, brought to the estimators that they are for. Converts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnxbuild.errors import StageError
from onnxbuild.sources.sklearn.parts import Part, last, parts
from onnxbuild.text.wording import did_you_mean


def of_last(section: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """The options that hold for the estimator whose results are the model's, `zipmap` among them. Raises StageError."""
    return _chosen(section, model).get(id(last(model)), {})


def of_all(section: Mapping[str, Any], model: Any) -> dict[int, dict[str, Any]]:
    """The options by the id of the estimator that each is for, as skl2onnx takes them. Raises StageError."""
    found = _chosen(section, model)
    own = found[id(last(model))]
    known = _known(last(model))
    if "zipmap" not in known and own.get("zipmap") is False:
        del own["zipmap"]  # it gives a matrix anyway
    for part in parts(model):
        for name in found.get(id(part.estimator), {}):
            known = _known(part.estimator)
            if name not in known:
                hint = did_you_mean(name, known) or "it has none"
                raise StageError(f"{part}, for which skl2onnx has no option '{name}'", hint)
    return {estimator: options for estimator, options in found.items() if options}


def _chosen(section: Mapping[str, Any], model: Any) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {id(last(model)): {"zipmap": section.get("zipmap", False)}}
    for name, value in section.get("options", {}).items():
        if isinstance(value, dict):
            for part in _meant(name, model):
                found.setdefault(id(part.estimator), {}).update(value)
        else:
            found[id(last(model))][name] = value
    return found


def _meant(name: str, model: Any) -> list[Part]:
    """The estimators of a class, or at a place, of that name. Raises StageError where there is none."""
    found = [part for part in parts(model) if name in _names(part)]
    if not found:
        names = dict.fromkeys(other for part in parts(model) for other in _names(part))
        raise StageError(f"options: there is no step or class '{name}' in the model", did_you_mean(name, names))
    return found


def _names(part: Part) -> Iterator[str]:
    yield type(part.estimator).__name__
    if part.place:
        yield part.place
        yield part.place.rpartition("__")[2]


def _known(estimator: Any) -> list[str]:
    """The options that skl2onnx has for an estimator; it has no public list of them."""
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import get_converter

    alias = sklearn_operator_name_map.get(type(estimator))
    return sorted(get_converter(alias).get_allowed_options() or {}) if alias is not None else []
