"""Why data is not of a recipe's shape, in plain words: every error of the JSON Schema as a finding.

Only imported once the types have refused a recipe. Knows no files and nothing that holds between two fields.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema

from onnxbuild.recipe import schema as schemas
from onnxbuild.recipe.findings import Finding, Path, exactly_one, found
from onnxbuild.recipe.plugins import BESIDE
from onnxbuild.recipe.yaml_reader import Document
from onnxbuild.text.wording import did_you_mean, is_many, nearest

_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
}
_NOUNS = {"Model": "kind of model source", "Pass": "optimizer pass", "Step": "step", "Data": "kind of data"}
_YES_NO = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def validator(schema: dict[str, Any] | None = None) -> Any:
    """A JSON Schema validator, of recipes where no schema is given, with YAML's idea of an integer: 1.0 is none."""
    base = jsonschema.Draft202012Validator
    strict = base.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    extend: Any = jsonschema.validators.extend
    return extend(base, type_checker=strict)(schemas.recipe() if schema is None else schema)


def explain(document: Document, schema: dict[str, Any] | None = None) -> list[Finding]:
    """Every way in which the data is not of a recipe's shape, or of that which a schema describes."""
    return [finding for error in validator(schema).iter_errors(document.data) for finding in _findings(document, error)]


def _findings(document: Document, error: Any) -> Iterator[Finding]:
    path: Path = tuple(error.absolute_path)
    if "propertyNames" in error.relative_schema_path:
        yield _key(path, error)
        return
    if error.validator == "type":
        yield from _type(document, path, error)
    else:
        yield from _HANDLERS.get(error.validator, _other)(path, error)


def _key(path: Path, error: Any) -> Finding:
    """A mapping's key that is not of the form its keys must have."""
    expected = error.schema.get("x-expected") or "another form"
    fact = f"the key {error.instance!r} is not allowed"
    if error.validator == "pattern":
        return Finding((*path, error.instance), fact, f"expected {expected}", key=True)
    how = "empty" if error.validator == "minLength" else f"longer than {error.validator_value} characters"
    return Finding((*path, error.instance), f"{fact}: it is {how}", key=True)


def _type(document: Document, path: Path, error: Any) -> Iterator[Finding]:
    wanted, value = error.validator_value, error.instance
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if "enum" in error.schema:
        return  # the list of values says it better
    expected = " or ".join(_KINDS.get(name, name) for name in names)
    yield Finding(path, f"expected {expected}, found {found(value)}", _type_hint(document, path, names[0], error))


def _type_hint(document: Document, path: Path, wanted: str, error: Any) -> str:
    """How to write what was probably meant."""
    value, raw = error.instance, document.raw(path)
    if value is None:
        refuses = not {"required", "minProperties", "minItems"}.isdisjoint(error.schema)  # an empty one
        return "" if refuses else {"object": "write {} for none", "array": "write [] for none"}.get(wanted, "")
    if wanted == "string":
        return f'write it in quotes: "{raw}"' if raw else ""
    if wanted == "array":
        return f"write [{raw}]" if raw else ""
    if not isinstance(value, str):
        return ""
    if wanted == "object":
        parts = error.schema.get("properties", {})
        return f"write '{value}: {_empty_of(parts[value])}'" if value in parts else ""
    meant = _YES_NO.get(value.casefold(), value.casefold()) if wanted == "boolean" else value.strip()
    fits = meant in ("true", "false") if wanted == "boolean" else meant.lstrip("+-").isdecimal()
    return f"write {meant}, without quotes" if fits else ""


def _empty_of(schema: dict[str, Any]) -> str:
    return "[…]" if schema.get("type") == "array" else "{}" if "$ref" in schema else "…"


def _unknown_keys(path: Path, error: Any) -> Iterator[Finding]:
    known = error.schema.get("properties", {})
    noun = _NOUNS.get(error.schema.get("title", ""), "key")
    for key in error.instance:
        if key not in known:
            hint = nearest(key, known) or _elsewhere(key) or did_you_mean(key, known)
            yield Finding((*path, key), f"unknown {noun} {key!r}", hint, key=True)


def _elsewhere(key: str) -> str:
    """The section that has such a key, where it was given at the top or in another section."""
    return next((f"it belongs under '{section}'" for section, keys in _keys_of_sections() if key in keys), "")


@functools.cache
def _keys_of_sections() -> list[tuple[str, set[str]]]:
    definitions = schemas.recipe()["$defs"]
    parts = [
        (name, part.get("$ref", "").rpartition("/")[2]) for name, part in definitions["Recipe"]["properties"].items()
    ]
    return [(section, set(definitions.get(name, {}).get("properties", {}))) for section, name in parts]


def _missing(path: Path, error: Any) -> Iterator[Finding]:
    # One error per missing key; its name is only in the message, so each is found by its place in the list.
    key = next(name for name in error.validator_value if error.message.startswith(repr(name)))
    about = error.schema["properties"][key].get("description", "")
    yield Finding(path, f"the key '{key}' is missing", f"add '{key}': {about}" if about else f"add '{key}'")


def _enum(path: Path, error: Any) -> Iterator[Finding]:
    value, known = error.instance, error.validator_value
    words = [str(name) for name in known]
    hint = nearest(value, words) if isinstance(value, str) and value not in words else ""
    if is_many(words):
        fact = f"unknown name {value!r}" if isinstance(value, str) else f"expected a name, found {found(value)}"
        yield Finding(path, fact, hint)
        return
    if isinstance(value, str) and value in words:
        hint = "write it without quotes"
    one_of = f"one of {', '.join(words)};" if len(words) > 1 else f"{words[0]},"
    yield Finding(path, f"expected {one_of} found {found(value)}", hint)


def _pattern(path: Path, error: Any) -> Iterator[Finding]:
    hint = f"expected {error.schema.get('x-expected') or error.schema.get('description', error.validator_value)}"
    yield Finding(path, f"{error.instance!r} is not of the form that is expected here", hint)


def _number_of_keys(path: Path, error: Any) -> Iterator[Finding]:
    known: dict[str, Any] = error.schema.get("properties", {})
    beside: tuple[str, ...] = ()
    if not {"then", "else"}.isdisjoint(error.relative_schema_path) or "else" in error.schema:
        known, beside = _of_passes()
    elif "maxProperties" not in error.schema:
        yield Finding(path, "must not be empty", error.schema.get("description", ""))
        return
    if all(key in known for key in error.instance):  # else the unknown key says it
        given = [key for key in error.instance if key not in beside]
        yield exactly_one(path, given, [key for key in known if key not in beside])


def _of_passes() -> tuple[dict[str, Any], tuple[str, ...]]:
    """The keys of the one mapping that may have another beside its one, and that other."""
    ((name, beside),) = BESIDE.items()
    return schemas.recipe()["$defs"][name]["properties"], beside


def _bound(words: str) -> Callable[[Path, Any], Iterator[Finding]]:
    def handler(path: Path, error: Any) -> Iterator[Finding]:
        yield Finding(path, f"must be {words} {error.validator_value}, found {error.instance}")

    return handler


def _empty(path: Path, error: Any) -> Iterator[Finding]:
    yield Finding(path, "must not be empty", error.schema.get("description", ""))


def _too_long(path: Path, error: Any) -> Iterator[Finding]:
    yield Finding(path, f"must not be longer than {error.validator_value} characters")


def _other(path: Path, error: Any) -> Iterator[Finding]:
    yield Finding(path, error.message)


_HANDLERS: dict[str, Callable[[Path, Any], Iterator[Finding]]] = {
    "additionalProperties": _unknown_keys,
    "required": _missing,
    "enum": _enum,
    "pattern": _pattern,
    "minProperties": _number_of_keys,
    "maxProperties": _number_of_keys,
    "minimum": _bound("at least"),
    "maximum": _bound("at most"),
    "exclusiveMinimum": _bound("more than"),
    "exclusiveMaximum": _bound("less than"),
    "minItems": _empty,
    "minLength": _empty,
    "maxLength": _too_long,
}
