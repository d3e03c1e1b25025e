"""Where onnxruntime's execution providers keep what they compiled for a session: in a stage's own folder, not in a project.

An engine that TensorRT kept is bound to its version and its GPU; what a stage compiles is gone with the stage, so that
none is stale. Source: onnxruntime's documentation of the execution providers of TensorRT and TensorRT RTX. Light to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

# By provider: its options that are paths, and whether it would keep something beside the working folder without them.
_PATHS = {
    "TensorrtExecutionProvider": {
        "trt_engine_cache_path": True,
        "trt_timing_cache_path": True,
        "trt_ep_context_file_path": False,
        "trt_onnx_model_folder_path": False,
    },
    "NvTensorRTRTXExecutionProvider": {"nv_runtime_cache_path": False},
}


def options(provider: str, given: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """A provider's options as a recipe gives them, and below `scratch` what the recipe gives no folder for."""
    kept = {name: str(scratch / "compiled") for name, always in _PATHS.get(provider, {}).items() if always}
    return {**kept, **given}


def wrong(provider_options: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[tuple[str, str], str, str]]:
    """The options that name a folder by a relative path: which, fact and hint."""
    for provider, given in provider_options.items():
        for name, always in _PATHS.get(provider, {}).items():
            if name in given and not Path(given[name]).is_absolute():
                fact = f"'{given[name]}' is relative, and would lie in whatever folder a stage runs in"
                hint = "leave it out: a stage has a folder of its own for it" if always else "give an absolute path"
                yield (provider, name), fact, hint
