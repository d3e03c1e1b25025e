"""bom.cdx.json: what a built model is made of and by, as a CycloneDX bill of materials with a model card.

The form is that of https://cyclonedx.org/docs/1.6/json. Equal builds with equal packages have equal bytes: no time is in
it, and its serial number is made from the rest. The licences are those that installed packages declare of themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

import onnxbuild
from onnxbuild.report import provenance
from onnxbuild.report.types import Graph, Package, Report, Source, Tensor
from onnxbuild.system import licences

MODEL = "model"  # what other parts of the bill call it by
_SPDX = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib"}
)
# Of classifiers, those that name one licence.
_CLASSIFIED = {
    "Apache Software License": "Apache-2.0", "ISC License (ISCL)": "ISC", "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "Python Software Foundation License": "PSF-2.0",
}  # fmt: skip


def of(report: Report) -> bytes:
    """The bill of a build that is done, as indented JSON. Reads what is installed of the packages that the report names."""
    components = [*map(_source, report.sources), *map(_package, report.packages)]
    body: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "onnxbuild", "version": onnxbuild.__version__}]},
            "component": _model(report),
        },
        "components": components,
        "dependencies": [{"ref": MODEL, "dependsOn": [one["bom-ref"] for one in components]}],
    }
    serial = _serial(body)
    return msgspec.json.format(msgspec.json.encode({**body, "serialNumber": serial}), indent=2) + b"\n"


def _serial(body: dict[str, Any]) -> str:
    import uuid

    digest = hashlib.sha256(msgspec.json.encode(body)).hexdigest()
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{provenance.BUILDER}#bom/{digest}')}"


def _model(report: Report) -> dict[str, Any]:
    """The published model, with its files and its card."""
    graph = report.graphs[-1]
    (framework,) = report.source or ("",)
    facts = {
        "recipe": report.name,
        "recipe_sha256": report.recipe.resolved_sha256,
        "source": framework,
        "opset_imports": ", ".join(f"{domain or 'ai.onnx'} {v}" for domain, v in sorted(graph.opset_imports.items())),
        "parameters": str(graph.parameters),
        "graph_sha256": graph.graph_sha256,
        "weights_sha256": graph.weights_sha256,
    }
    files = [{"type": "file", "name": one.path, "hashes": _hashes(one.sha256)} for one in reversed(report.artifacts)]
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": report.name,
        **({"description": report.description} if report.description else {}),
        "hashes": files[0]["hashes"],
        "modelCard": _card(report, graph),
        "components": files,
        "properties": [{"name": f"onnxbuild:{key}", "value": value} for key, value in facts.items() if value],
    }
    return found


def _card(report: Report, graph: Graph) -> dict[str, Any]:
    """What is known of the model; what it is for and what it learned from, no build can say."""
    parameters = {side: [{"format": _format(one)} for one in getattr(graph, side)] for side in ("inputs", "outputs")}
    card: dict[str, Any] = {"modelParameters": parameters}
    if metrics := list(_metrics(report, graph)):
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    if report.cautions:
        card["considerations"] = {"technicalLimitations": report.cautions}
    return card


def _metrics(report: Report, graph: Graph) -> Iterable[dict[str, str]]:
    """The recipe's own metric, and how far each output is from the source model's at worst."""
    for row in report.scores:
        if row.of == graph.stage:
            of = f"{row.rows} samples; of the source model it is {report.scores[0].value!r}"
            yield {"type": row.function, "value": repr(row.value), "slice": of}
    proofs = {stage.name for stage in report.stages if graph.stage in stage.needs}
    rows = [row for row in report.parity if row.stage in proofs and row.max_abs is not None]
    for output in dict.fromkeys(row.output for row in rows):
        worst = max((row for row in rows if row.output == output), key=lambda row: row.max_abs or 0.0)
        kind = "largest absolute error against the source model"
        yield {"type": kind, "value": repr(worst.max_abs), "slice": f"output {output}, case {worst.case}"}


def _format(tensor: Tensor) -> str:
    sizes = ", ".join("?" if size is None else str(size) for size in tensor.shape)
    return f"{tensor.name}: {tensor.dtype}[{sizes}]"


def _source(source: Source) -> dict[str, Any]:
    """A file that the model was made from: weights and data, or code. A folder of data has no hash of its own."""
    name, kind = provenance.name_of(source), "data" if source.declared else "file"
    hashes = {} if provenance.is_folder(source) else {"hashes": _hashes(source.sha256)}
    return {"type": kind, "bom-ref": f"file:{name}#{source.sha256}", "name": name, **hashes}


def _package(package: Package) -> dict[str, Any]:
    where = provenance.url(package)
    kind = "platform" if package.kind == "generic" else "library"
    found = {"type": kind, "bom-ref": where, "name": package.name, "version": package.version, "purl": where}
    licensed = _licences(package)
    return {**found, "licenses": licensed} if licensed else found


def _licences(package: Package) -> list[dict[str, Any]]:
    """Those of a distribution, as it says itself: an expression of SPDX's, else ids where they are such, else names."""
    if package.kind != "pypi":
        return []
    expression, names = licences.of(package.name)
    if expression:
        return [{"expression": expression}]
    ids = dict.fromkeys(_CLASSIFIED.get(name, name) for name in names)
    return [{"license": {"id" if one in _SPDX else "name": one}} for one in ids]


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]
