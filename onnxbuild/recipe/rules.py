"""What must hold between the fields of a recipe, all of it at once. Pure: takes the recipe's types, gives findings.

Knows no YAML and no files; `disk_rules` looks at the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from msgspec import UNSET, Struct

from onnxbuild.errors import StageError
from onnxbuild.passes import PROBLEMS
from onnxbuild.recipe import (
    dataset_rules,
    export_rules,
    naming,
    operator_rules,
    step_rules,
    target_rules,
    tolerance_rules,
)
from onnxbuild.recipe.findings import Finding, Path, exactly_one
from onnxbuild.recipe.running import Benchmark, Runtime
from onnxbuild.recipe.types import Append, Data, Export, Parity, Prepend, Symbolic, choices, chosen, given, keys
from onnxbuild.runtimes import compiled
from onnxbuild.sources import SOURCES
from onnxbuild.text.wording import nearest

# onnxruntime.get_all_providers(); a name close to one of these, and not equal, is a slip. Others are plug-ins.
PROVIDERS = (
    "TensorrtExecutionProvider", "CUDAExecutionProvider", "MIGraphXExecutionProvider", "OpenVINOExecutionProvider",
    "DnnlExecutionProvider", "VitisAIExecutionProvider", "QNNExecutionProvider", "NnapiExecutionProvider",
    "JsExecutionProvider", "CoreMLExecutionProvider", "ArmNNExecutionProvider", "ACLExecutionProvider",
    "DmlExecutionProvider", "RknpuExecutionProvider", "WebNNExecutionProvider", "WebGpuExecutionProvider",
    "XnnpackExecutionProvider", "CANNExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider",
    "NvTensorRTRTXExecutionProvider", "ROCMExecutionProvider", "VSINPUExecutionProvider",
)  # fmt: skip
_SUFFIX = "ExecutionProvider"


class Sections(NamedTuple):
    """The sections of a recipe, None where one is not of the right shape; `given` is the data as it was written."""

    given: Mapping[str, Any]
    model: Any
    export: Export | None
    symbolics: Mapping[str, Symbolic] | None
    optimize: list[Any] | None
    parity: Parity | None
    runtime: Runtime | None
    benchmark: Benchmark | None
    targets: Any = None
    metric: Any = None
    prepend: Mapping[str, Prepend] | None = None
    append: Mapping[str, Append] | None = None

    @property
    def published(self) -> Export | None:
        """The interface of what is published, where nothing is wrong with the steps around the model."""
        before, passes = self.stepped, self.optimize
        if passes is None and naming.KEY not in str(self.given.get("optimize")):
            passes = []
        return naming.published(before, passes)[0]

    @property
    def stepped(self) -> Export | None:
        """The same before it is renamed."""
        return step_rules.published(self.export, self.prepend, self.append)[0] if self.export is not None else None

    @property
    def source(self) -> tuple[str, Any] | None:
        """The kind of model source and its options, where exactly one is given."""
        return chosen(self.model) if self.model is not None and len(keys(self.model)) == 1 else None


def check(sections: Sections) -> Iterator[Finding]:
    """Everything that is wrong between fields."""
    yield from _one_key_each(sections)
    if sections.export is not None:
        yield from export_rules.check(sections.export)
        yield from step_rules.published(sections.export, sections.prepend, sections.append)[1]
        if "opset" in sections.given.get("export", {}):  # the model's own is not known to all who ask
            yield from step_rules.functions(sections.export.opset, sections.prepend or {}, sections.append or {})
    yield from naming.published(sections.stepped, sections.optimize)[1]
    if (published := sections.published) is not None:
        asked = export_rules.sizes_asked(published, sections.parity, sections.benchmark)
        yield from naming.told(asked, sections.optimize or [])
    yield from _passes(sections.optimize or [])
    yield from _all_tolerances(sections)
    yield from _source(sections)
    for path, data, dtype in _all_data(sections):
        yield from _data(path, data, dtype)
    if sections.runtime is not None:
        yield from _runtime(sections.runtime)
    yield from operator_rules.check(sections.symbolics or {})
    yield from _targets(sections)
    yield from dataset_rules.check(sections)
    for path, name in (*declared_files(sections), *dataset_rules.folders(sections)):
        yield from _inside(path, name)


def declared_files(sections: Sections) -> Iterator[tuple[Path, str]]:
    """The files that a recipe names relative to the project root, each with its key."""
    if sections.source is not None:
        for path, declared in source_files(*sections.source):
            if not declared.package:
                yield (*path, "path"), file_at(*sections.source, declared)
    for path, data, _ in _all_data(sections):
        if data.npz is not UNSET:
            yield (*path, "npz", "path"), data.npz.path
    for path, kind, options in dataset_rules.valid(sections):
        if kind == "npz":
            yield (*path, "path"), options.path


def source_files(kind: str, options: Any) -> Iterator[tuple[Path, Any]]:
    """What a source says of its declared files: the mappings with `path`, `package` and `sha256`, each with its key.

    A mapping whose path is empty declares none.
    """
    for name in SOURCES[kind].HASHED:
        declared = getattr(options, name) if name else options
        if declared is not UNSET and declared.path:
            yield ("model", kind, name) if name else ("model", kind), declared


def file_at(kind: str, options: Any, declared: Any) -> str:
    """The file that stands for a declared path: itself, or the one that the source reads in the folder that it names."""
    try:
        names = [PurePath(name) for name in SOURCES[kind].files(options).values()]
    except StageError:  # the package is not installed
        return str(declared.path)
    asked = PurePath(declared.path)
    for whole in names:
        above = next((one for one in (whole, *whole.parents) if _ends_with(one, asked)), whole)
        if above != whole:
            return str(asked / whole.relative_to(above))
    return str(declared.path)


def _ends_with(path: PurePath, end: PurePath) -> bool:
    return path.parts[-len(end.parts) :] == end.parts


def _one_key_each(sections: Sections) -> Iterator[Finding]:
    """Mappings that hold exactly one key, which the types alone do not ask for."""
    places: list[tuple[Path, Struct]] = [(path, data) for path, data, _ in _all_data(sections)]
    if sections.model is not None:
        places.append((("model",), sections.model))
    places += [(("optimize", number), step) for number, step in enumerate(sections.optimize or [])]
    places += dataset_rules.of(sections)
    places += [(("symbolics", name), symbolic) for name, symbolic in (sections.symbolics or {}).items()]
    for path, one_of in places:
        found = keys(one_of)
        if len(found) != 1:
            yield exactly_one(path, found, choices(one_of))


def _all_data(sections: Sections) -> Iterator[tuple[Path, Data, str]]:
    """Every description of an input's values, with its path and the input's dtype ("" where there is no such input)."""
    inputs = sections.export.inputs if sections.export is not None else {}
    for name, spec in inputs.items():
        if spec.data is not UNSET:
            yield ("export", "inputs", name, "data"), spec.data, spec.dtype
    for key, one in (sections.prepend or {}).items():
        if one.data is not UNSET:
            yield ("prepend", key, "data"), one.data, one.dtype
    inputs = published.inputs if (published := sections.published) is not None else {}
    for case_name, case in sections.parity.cases.items() if sections.parity is not None else ():
        for name, data in case.data.items():
            dtype = inputs[name].dtype if name in inputs else ""
            yield ("parity", "cases", case_name, "data", name), data, dtype


def _data(path: Path, data: Data, dtype: str) -> Iterator[Finding]:
    if data.uniform is not UNSET and data.uniform.low > data.uniform.high:
        yield Finding((*path, "uniform"), f"low {data.uniform.low} is more than high {data.uniform.high}")
    if data.integers is not UNSET:
        low, high = data.integers.low, data.integers.high
        if low >= high:
            hint = "high is one past the largest value"
            yield Finding((*path, "integers"), f"no integer lies from {low} up to, not including, {high}", hint)
        else:
            yield from _fits((*path, "integers"), dtype, low, high - 1)
    kinds = [name for name in data.__struct_fields__ if getattr(data, name) is not UNSET]
    if dtype == "string" and (wrong := {"normal", "uniform", "integers"}.intersection(kinds)):
        kind = min(wrong)
        yield Finding(
            (*path, kind), f"'{kind}' makes numbers", "strings are given as constant, values or npz", key=True
        )
    if data.constant is not UNSET:
        yield from _fits((*path, "constant"), dtype, data.constant)
    for index, value in enumerate(data.values if data.values is not UNSET else ()):
        yield from _fits((*path, "values", index), dtype, value)


def _fits(path: Path, dtype: str, *values: float | str) -> Iterator[Finding]:
    """Values that an input of a dtype can hold: text for strings, numbers in the range of an integer dtype."""
    wrong = [value for value in values if dtype and isinstance(value, str) != (dtype == "string")]
    if wrong:
        hint = f'write it in quotes: "{wrong[0]}"' if dtype == "string" else ""
        yield Finding(path, f"{wrong[0]!r} is not a value of {dtype}", hint)
        return
    if "int" not in dtype and dtype != "bool":
        return
    bits = 1 if dtype == "bool" else int(dtype.lstrip("uint"))
    low, high = (0, 2**bits - 1) if dtype[0] in "ub" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for value in (value for value in values if not isinstance(value, str)):
        if not low <= value <= high or value != int(value):
            yield Finding(path, f"{value} is not a value of {dtype}", f"{dtype} holds the integers {low} to {high}")


def _passes(steps: Iterable[Any]) -> Iterator[Finding]:
    """Options of passes that don't fit together."""
    for number, step in enumerate(steps):
        for name in PROBLEMS:
            if (options := getattr(step, name)) is not UNSET:
                for key, fact, hint in PROBLEMS[name](options):
                    yield Finding(("optimize", number, name, *key), fact, hint)


def _all_tolerances(sections: Sections) -> Iterator[Finding]:
    """Every place at which a recipe says how far off a graph may be."""
    outputs = published.outputs if (published := sections.published) is not None else None
    if sections.parity is not None:
        yield from tolerance_rules.check(("parity",), sections.parity, outputs)
    for number, step in enumerate(sections.optimize or []):
        if step.parity is not UNSET:
            yield from tolerance_rules.check(("optimize", number, "parity"), step.parity, outputs)
    for name, options in given(sections.targets) if sections.targets is not None else ():
        if options.parity is not UNSET:
            yield from tolerance_rules.check(("targets", name, "parity"), options.parity, outputs)


def _source(sections: Sections) -> Iterator[Finding]:
    """What a kind of source makes of the other sections."""
    if sections.source is None:
        return
    kind, options = sections.source
    for path, declared in source_files(kind, options):
        if declared.package and (PurePath(declared.path).is_absolute() or leaves_root(declared.path)):
            fact = f"'{declared.path}' is not inside the package '{declared.package}'"
            yield Finding((*path, "path"), fact)
    source = SOURCES[kind]
    for name, fact, hint in source.wrong(options):
        yield Finding(("model", kind, name) if name else ("model", kind), fact, hint)
    exporters = source.exporters(options)
    if sections.export is not None and exporters:
        yield from export_rules.opset(sections.export, exporters)
        yield from export_rules.for_exporters(sections.export, strings=source.STRINGS)
    for path in source.MEANINGLESS:
        if _is_given(sections, path):
            fact = f"'{path[-1]}' has no meaning for a{'n' if kind[0] in 'aeiou' else ''} {kind} model"
            yield Finding(path, fact, "remove it" if exporters else "the file is taken as it is; remove it", key=True)


def _targets(sections: Sections) -> Iterator[Finding]:
    """What targets can't take of what is declared."""
    if (published := sections.published) is not None and sections.targets is not None:
        kind = sections.source[0] if sections.source is not None else ""
        yield from naming.told(target_rules.check(published, sections.targets, kind), sections.optimize or [])
        if sections.prepend or sections.append:
            yield from target_rules.of_programs(sections.targets, "prepend and append")
        elif naming.of(sections.optimize or []) is not None:
            yield from target_rules.of_programs(sections.targets, "rename")


def _is_given(sections: Sections, path: Path) -> bool:
    """Whether a recipe says something at a path, in a section that is of the right shape."""
    if path[0] == "export":
        return sections.export is not None and path[1] in sections.given.get("export", {})
    return bool(getattr(sections, str(path[0])))


def _runtime(runtime: Runtime) -> Iterator[Finding]:
    for index, name in enumerate(runtime.providers):
        path = ("runtime", "providers", index)
        if name in runtime.providers[:index]:
            yield Finding(path, f"provider '{name}' is named twice", "remove one of them")
        meant = _provider_meant(name)
        if meant != name:
            yield Finding(path, f"onnxruntime has no provider '{name}'", f"did you mean '{meant}'?")
    for name in runtime.provider_options:
        yield from _listed(("runtime", "provider_options", name), name, runtime.providers, key=True)
    for place, fact, hint in compiled.wrong(runtime.provider_options):
        yield Finding(("runtime", "provider_options", *place), fact, hint)
    for index, name in enumerate(runtime.require):
        yield from _listed(("runtime", "require", index), name, runtime.providers, key=False)


def _provider_meant(name: str) -> str:
    """The provider whose name this nearly is, else the name itself: plug-in libraries bring providers of their own."""
    if name in PROVIDERS:
        return name
    stems = {provider.removesuffix(_SUFFIX).casefold(): provider for provider in PROVIDERS}
    from difflib import get_close_matches

    near = get_close_matches(name.removesuffix(_SUFFIX).casefold(), stems, n=1, cutoff=0.8)
    if not near and not name.endswith(_SUFFIX):
        near = get_close_matches(name.casefold(), {f"{stem}{_SUFFIX.casefold()}": 0 for stem in stems}, 1, 0.85)
        near = [full.removesuffix(_SUFFIX.casefold()) for full in near]
    return stems[near[0]] if near else name


def _listed(path: Path, name: str, providers: Iterable[str], *, key: bool) -> Iterator[Finding]:
    if name not in providers:
        hint = "" if name in PROVIDERS else nearest(name, providers)
        fact = f"provider '{name}' is not in runtime.providers"
        yield Finding(path, fact, hint or "add it to runtime.providers", key=key)


def _inside(path: Path, name: str) -> Iterator[Finding]:
    if leaves_root(name):
        hint = "write an absolute path if you mean a file outside it"
        yield Finding(path, f"'{name}' leaves the project root", hint)


def leaves_root(name: str) -> bool:
    """Whether a relative path climbs out of where it starts. Absolute ones are meant so."""
    if PurePath(name).is_absolute():
        return False
    first = os.path.normpath(name).replace(os.sep, "/").split("/", 1)[0]
    return first == ".." or os.path.splitdrive(name)[0] != ""
