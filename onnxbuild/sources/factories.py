"""What a recipe's `factory` names: found and called. Imports no framework; what a factory gives is its source's affair."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnxbuild.errors import StageError
from onnxbuild.sources import failures

OF_MODEL = "say what it takes under `kwargs` of the model section (init: --set 'kwargs={…}')"
END = object()  # after the last sample


def call(source: Mapping[str, Any], root: Path) -> Any:
    """What the factory of a source's section gives for the section's `kwargs`. Raises StageError."""
    factory, kwargs = import_callable(source["factory"], root), source.get("kwargs", {})
    _require_arguments(f"the factory {source['factory']}", factory, kwargs, OF_MODEL)
    try:
        return factory(**kwargs)
    except StageError:
        raise
    except Exception as error:
        raise failures.explain(error, f"the factory {source['factory']} failed", root) from error


def samples(source: Mapping[str, Any], root: Path) -> Iterator[Any]:
    """What the generator of a data set gives, one after the other; a list will do. Raises StageError where it fails."""
    name = source["factory"]
    function, kwargs = import_callable(name, root), source.get("kwargs", {})
    _require_arguments(name, function, kwargs, "say what it takes under generator.kwargs")
    try:
        own = _iterator(name, function(**kwargs))
        while (sample := next(own, END)) is not END:
            yield sample
    except StageError:
        raise
    except (Exception, SystemExit) as error:
        raise failures.explain(error, f"{name} failed", root) from error


def _iterator(name: str, made: Any) -> Iterator[Any]:
    if not hasattr(made, "__iter__"):
        hint = "yield arrays by input name, or return a list of them"
        raise StageError(f"{name} gives {article(type(made).__name__)}, not samples", hint)
    return iter(made)


def _require_arguments(what: str, factory: Any, kwargs: Mapping[str, Any], remedy: str) -> None:
    """Raises StageError where what the recipe says is not what the factory takes."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # of native code: it says so itself when it is called
        return
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        plain = signature.replace(
            parameters=[one.replace(annotation=one.empty) for one in signature.parameters.values()],
            return_annotation=signature.empty,
        )
        raise StageError(f"{what}{plain} can't be called so: {error}", remedy) from None


def import_callable(name: str, root: Path) -> Any:
    """The object that "module:attribute" names, the project root being first on the import path. Raises StageError."""
    module_name, _, path = name.partition(":")
    if str(root) != sys.path[0]:
        sys.path.insert(0, str(root))
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise _not_imported(error, name, module_name, root) from error
    for part in path.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, [n for n in dir(found) if not n.startswith("_")], 1)
            raise StageError(f"{name}: '{part}' is not there", f"did you mean '{near[0]}'?" if near else "")
        found = getattr(found, part)
    if not callable(found):
        raise StageError(f"{name} is {article(type(found).__name__)}, which can't be called")
    return found


def _not_imported(error: Exception, name: str, module_name: str, root: Path) -> StageError:
    if isinstance(error, ModuleNotFoundError) and error.name:
        if module_name == error.name or module_name.startswith(f"{error.name}."):
            return StageError(
                f"{name}: there is no module '{error.name}'",
                "it is looked for from the project root, then in the environment",
            )
        return failures.explain(error, f"{module_name} needs the module '{error.name}', which is not installed", root)
    return failures.explain(error, f"importing {module_name} failed", root)


def article(noun: str) -> str:
    """A noun with "a" or "an" before it."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
