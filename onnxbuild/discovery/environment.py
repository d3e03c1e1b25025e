"""The environment that a stage gets, made from nothing, and which of its variables its code asks for.

A variable that is not passed on is never there for the code, so that asking for it says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# Passed on where set; all else of the caller's environment stays out, so that it can't decide what is built.
PASSED_ON = (
    "PATH", "HOME", "USERPROFILE", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP", "PYTHONPATH", "HF_HOME", "TORCH_HOME",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_PATH",
    "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
)  # fmt: skip
FIXED = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "LC_ALL": "C.UTF-8",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "OMP_WAIT_POLICY": "PASSIVE",  # a thread that waits takes no core from the stage beside it
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # torch's deterministic algorithms need it on a GPU
    "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow's native code tells of what it found in the machine
    "TF_ENABLE_ONEDNN_OPTS": "0",  # other kernels, chosen by the processor: other last digits
    # TensorFlow imports Keras, which reads the settings of whoever runs it from there, or writes them: there is nothing.
    "KERAS_HOME": f"{os.devnull}{os.sep}keras",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# They say where libraries keep files: whoever asks, it is on the code's behalf.
OF_LIBRARIES = frozenset({"HF_HOME", "TORCH_HOME"})
# What compilers keep for the next process is no input and no output of a stage: each has folders of its own.
COMPILED = {
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "TORCH_EXTENSIONS_DIR": "extensions",
    "NUMBA_CACHE_DIR": "numba",
}


def passed_on() -> dict[str, str]:
    """The variables of a stage's process, from this process's own."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | FIXED


def compile_in(folder: str) -> None:
    """Let compilers keep what they make below a folder of this stage's own."""
    os.environ.update({name: f"{folder}{os.sep}{inner}" for name, inner in COMPILED.items()})


def listen(asked: Callable[[str, bool], None]) -> None:
    """From now on call `asked` with each passed-on variable that is asked for, and whether by its name or among all."""
    kind: Any = type(os.environ)
    getitem, iterate = kind.__getitem__, kind.__iter__

    def listened_getitem(environment: Mapping[Any, Any], name: Any) -> Any:
        text = os.fsdecode(name) if isinstance(name, str | bytes) else ""
        if text in PASSED_ON:
            asked(text, True)
        return getitem(environment, name)

    def listened_iter(environment: Mapping[Any, Any]) -> Iterator[Any]:
        for name in PASSED_ON:
            asked(name, False)
        return iterate(environment)  # type: ignore[no-any-return]  # the plain method's own

    kind.__getitem__, kind.__iter__ = listened_getitem, listened_iter  # for this process alone
