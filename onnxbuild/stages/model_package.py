"""ONNX Runtime's model package: a folder with a manifest, a variant per provider and target, and weights by their content.

The form is that of schema version 1.0: model_package/README.md and onnxruntime/core/session/model_package/README.md in
onnxruntime's repository. An application opens it by the experimental C functions `OrtModelPackageApi_…`, which choose the
variant whose `ep` is the first provider of the session. A variant of another runtime's files has no `ep`, and so is never
chosen by onnxruntime; whoever runs it finds the file to load under its own name in `executor_info`. Knows no stage.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from onnxbuild.contracts import Json
from onnxbuild.graphs import modelfile
from onnxbuild.system.files import sha256_file

FOLDER = "model_package"  # in the output folder, beside what is published without it
MANIFEST = f"{FOLDER}/manifest.json"
COMPONENT = "model"
ONNX = "onnx"  # the variants of the graph itself lie in one folder
MODEL = "model.onnx"
GRAPH = f"{FOLDER}/{COMPONENT}/{ONNX}/{MODEL}"
SHARED = "shared_assets"
SCHEMA = "1.0"
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_OURS = re.compile(rf"{COMPONENT}/[^/]+/.+|{SHARED}/sha256-[0-9a-f]{{64}}/[^/]+|manifest\.json")


def lay_out(graph: Path, asked: Json, targets: Mapping[str, Path], scratch: Path) -> dict[str, Path]:
    """The package's files by the names that they are published under, the manifest first.

    `graph` is a graph of the store, `asked` {"providers": […], "targets": {target: {"runtime", "file"}}}, where `file` is
    the one that its runtime is given, and `targets` the files of targets as "target/file". The graph's weights are a shared
    asset, by their content; equal graphs give equal bytes. The model and its weights lie in `scratch` together.
    """
    folder = scratch / FOLDER
    folder.mkdir()
    *weights, model = modelfile.write(graph, folder / MODEL, external_data=True)
    files = {f"{FOLDER}/{COMPONENT}/{name}": path for name, path in targets.items()}
    files[GRAPH] = model
    settings: dict[str, str] = {}
    if weights:
        asset = _asset(weights[0])
        settings = {_WEIGHTS_FOLDER: f"sha256:{asset}"}
        files[f"{FOLDER}/{SHARED}/sha256-{asset}/{weights[0].name}"] = weights[0]
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(_manifest(asked, settings), indent=2) + "\n", encoding="utf-8")
    return {MANIFEST: manifest, **dict(sorted(files.items()))}


def published(dest: Path) -> set[str]:
    """The files of a package that lie in an output folder, by names relative to it: what a build may write."""
    folder = dest / FOLDER
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {f"{FOLDER}/{name}" for name in names if _OURS.fullmatch(name)}


def is_ours(name: str) -> bool:
    """Whether a build may publish a file of that name, relative to the output folder."""
    return name.startswith(f"{FOLDER}/") and _OURS.fullmatch(name.removeprefix(f"{FOLDER}/")) is not None


def _asset(path: Path) -> str:
    """The content hash of a folder that holds one file, as the format computes it."""
    return hashlib.sha256(f"{sha256_file(path)}  {path.name}\n".encode()).hexdigest()


def _manifest(asked: Json, settings: Mapping[str, str]) -> Json:
    graph = {"model_file": MODEL, **({"session_options": dict(settings)} if settings else {})}
    variants = {f"{ONNX}-{provider}": _variant(ONNX, provider, "ort", graph) for provider in asked["providers"]}
    for target, one in asked["targets"].items():
        load = {"model_file": one["file"]}
        if one["runtime"] == "onnxruntime":
            variants[target] = _variant(target, "CPUExecutionProvider", "ort", load)
        else:
            variants[target] = _variant(target, "", one["runtime"], load)
    components = {COMPONENT: {"variants": variants}}
    return {"schema_version": SCHEMA, "layout": "portable", "components": components}


def _variant(folder: str, provider: str, consumer: str, load: Json) -> Json:
    body: Json = {"variant_directory": f"{COMPONENT}/{folder}", "executor_info": {consumer: load}}
    if provider:  # and no `device`: a session that registers no device, as the plain one for the CPU, would match none
        body["ep"] = provider
    return body
