"""A torch model from an importable factory and a checkpoint. Imports torch at module level; knows nothing of ONNX."""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from onnxbuild.errors import StageError
from onnxbuild.sources import factories
from onnxbuild.sources.factories import article
from onnxbuild.sources.pytorch import archives, pt2
from onnxbuild.sources.pytorch.adapter import evaluating
from onnxbuild.text.wording import some

LFS = b"version https://git-lfs.github.com/"  # https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
ZIP = b"PK\x03\x04"
HEADER = 100_000_000  # bytes at most in a safetensors header, as the library has it
AGAIN = "copy or download it again"
SHOWN = 8  # names listed before "and 12 more"


class Built(NamedTuple):
    """A model in eval mode, notes on how it was loaded, and the program that it is the module of, where it is one."""

    model: torch.nn.Module
    notes: list[str]
    program: Any = None


def build(source: Mapping[str, Any], files: Mapping[str, str], root: Path) -> Built:
    """The model that the recipe's `model.pytorch` section describes.

    `source` is that section as JSON, `files` the declared files by role: a program's archive or a checkpoint of weights.
    Two calls give two equal models: the random generators of Python, NumPy and torch are seeded. Raises StageError.
    """
    seed(source.get("seed", 0))
    model = pt2.load(Path(files["program"])) if "program" in files else factories.call(source, root)
    program = model if isinstance(model, torch.export.ExportedProgram) else None
    if program is not None:
        model = program.module()
    if not isinstance(model, torch.nn.Module):
        raise StageError(
            f"the factory {source['factory']} gave {article(type(model).__name__)}, not a torch.nn.Module",
            "return the model itself, or a torch.export.ExportedProgram; its weights can come from `checkpoint`",
        )
    notes: list[str] = []
    checkpoint = Path(files["checkpoint"]) if "checkpoint" in files else None
    if checkpoint is not None:
        options = source["checkpoint"]
        weights = read_state_dict(checkpoint, options.get("key", ""))
        notes = apply_state_dict(
            model,
            _without_prefix(weights, options.get("prefix", "")),
            checkpoint.name,
            strict=options.get("strict", True),
        )
    return Built(evaluating(model), notes, program)


def seed(value: int) -> None:
    """Seed every generator that a model's initialisation may draw from."""
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002  # model code draws from the global generator
    torch.manual_seed(value)


def read_state_dict(path: Path, key: str = "") -> dict[str, torch.Tensor]:
    """The state dict in a safetensors file, a TorchScript archive, or what torch.load reads with weights_only=True.

    `key` names the entry that holds it, where the file holds more. Raises StageError.
    """
    _require_whole(path)
    content = _read_safetensors(path) if is_safetensors(path) else _read_torch(path)
    if key:
        if not isinstance(content, Mapping) or key not in content:
            raise StageError(f"{path.name} has no entry '{key}'", _entries(content))
        content = content[key]
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {name: tensor for name, tensor in entries if isinstance(tensor, torch.Tensor)}
    if not tensors:
        raise StageError(f"{path.name} holds no state dict{f' under {key!r}' if key else ''}", _entries(content))
    return tensors


def is_safetensors(path: Path) -> bool:
    """By content: eight bytes of length, then a JSON object."""
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _require_whole(path: Path) -> None:
    """Raises StageError for what stands in a file's place, or is the beginning of one."""
    with open(path, "rb") as file:
        head = file.read(len(LFS))
    size = path.stat().st_size
    if not size:
        raise StageError(f"{path.name} is empty", AGAIN)
    if head == LFS:
        raise StageError(f"{path.name} is a Git LFS pointer, not the weights that it stands for", "git lfs pull")
    if head.startswith(ZIP) and not zipfile.is_zipfile(path):
        raise StageError(f"{path.name} is cut short: a zip archive, as torch.save writes it, without its end", AGAIN)
    header = int.from_bytes(head[:8], "little")
    if head[8:10] == b'{"' and size < 8 + header < HEADER:
        raise StageError(
            f"{path.name} is cut short: its safetensors header is of {header:,} bytes, it has {size:,}", AGAIN
        )


def apply_state_dict(
    model: torch.nn.Module, weights: Mapping[str, torch.Tensor], file: str, *, strict: bool
) -> list[str]:
    """Copy weights into a model; gives notes on what was left out where that is allowed. Raises StageError."""
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    misfits = [
        f"{name}: {list(weights[name].shape)} in the file, {list(tensor.shape)} in the model"
        for name, tensor in own.items()
        if name in weights and isinstance(tensor, torch.Tensor) and weights[name].shape != tensor.shape
    ]
    wrong = [f"other shapes: {some(misfits, SHOWN)}"] if misfits else []
    left_out = [f"not in the file: {some(missing, SHOWN)}"] if missing else []
    left_out += [f"not in the model: {some(unexpected, SHOWN)}"] if unexpected else []
    if strict:
        wrong += left_out
    if wrong or len(missing) == len(own) > 0:
        fact = f"{file} does not fit the model; {'; '.join(wrong or left_out)}"
        raise StageError(fact, _fit_hint(missing, unexpected))
    model.load_state_dict(weights, strict=False)
    return [f"{file}: weights {text}" for text in left_out]


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    import safetensors
    import safetensors.torch

    try:
        return dict(safetensors.torch.load_file(path, device="cpu"))
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        announced, size = _announced(path), path.stat().st_size
        if announced > size:
            raise StageError(
                f"{path.name} is cut short: its header tells of {announced:,} bytes, it has {size:,}", AGAIN
            ) from error
        raise StageError(f"{path.name} is not a readable safetensors file: {error}") from error


def _announced(path: Path) -> int:
    """The size that a safetensors file should have by its own header; 0 where that can't be told."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            tensors = json.loads(file.read(min(length, HEADER)))
            ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
            return int(8 + length + max(ends))
        except (ValueError, TypeError, LookupError, RecursionError):
            return 0


def _read_torch(path: Path) -> Any:
    with open(path, "rb") as file:
        zipped = file.read(4) == ZIP
    if zipped and archives.is_torchscript(path):
        return archives.state_dict(path)
    try:
        # mmap: the file's bytes are then not in memory a second time beside the model's own.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> StageError:
    message = str(error)
    if "unexpected EOF" in message or isinstance(error, EOFError):
        return StageError(f"{path.name} is cut short: it ends in the middle of a pickle or of a tensor", AGAIN)
    needed = re.search(r"\bGLOBAL ([A-Za-z_][\w.]*)", message)
    if needed:
        return StageError(
            f"{path.name} is refused: reading it needs the pickle global {needed[1]}, "
            "and a pickle that may call code is not opened (torch.load with weights_only=True)",
            "save the model's state_dict() alone, best to a safetensors file",
        )
    reason = message.partition("WeightsUnpickler error: ")[2] or message
    first = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
    return StageError(
        f"{path.name} is neither safetensors nor a file that torch.load reads with weights_only=True: {first}",
        "save the model's state_dict() to a safetensors file",
    )


def _without_prefix(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    if not prefix:
        return weights
    if not any(name.startswith(prefix) for name in weights):
        fact = f"checkpoint.prefix: no name in the file starts with '{prefix}'"
        raise StageError(fact, f"it has {some(list(weights), SHOWN)}")
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _fit_hint(missing: list[str], unexpected: list[str]) -> str:
    """Where the names differ by a prefix only, say so."""
    for name in unexpected:
        match = next((own for own in missing if name.endswith(f".{own}")), None)
        if match:
            return f"set checkpoint.prefix to '{name.removesuffix(match)}'"
    return "check the factory's kwargs, `key` and `prefix`; `strict: false` takes what fits" if unexpected else ""


def _entries(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"it holds {article(type(content).__name__)}"
    inner = [str(k) for k, v in content.items() if isinstance(v, Mapping) and any(map(torch.is_tensor, v.values()))]
    if inner:
        return f"set checkpoint.key to {' or '.join(map(repr, inner))}"
    return f"it holds {some([*map(str, content)], SHOWN)}"
