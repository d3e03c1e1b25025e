"""What a module of the transformers library takes, by the names of its parameters and by its configuration.

Imports torch at module level, and transformers not at all: whoever has such a module has it imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from onnxbuild.contracts import Json
from onnxbuild.sources.pytorch.calling import parameters_of
from onnxbuild.sources.pytorch.trials import Example, dtype_name

BATCH, TOKENS, TARGETS = 2, 16, 11  # sizes that differ, so that axes that are mixed up show
SIDE, CHANNELS, BINS, AUDIO = 224, 3, 80, 16_000
PARTS = ("text_config", "vision_config", "audio_config", "encoder", "decoder", "backbone_config")
POSITIONS = ("max_position_embeddings", "n_positions", "max_target_positions", "n_ctx", "max_seq_len")
COMPANIONS = ("attention_mask", "decoder_input_ids", "pixel_values", "input_ids", "input_features", "input_values")
NEEDLESS = ("labels", "return_loss", "pixel_mask")


def is_one(model: torch.nn.Module) -> bool:
    """Whether it is a module of transformers, or derived from one."""
    library = sys.modules.get("transformers")
    return bool(library is not None and isinstance(model, library.PreTrainedModel))


def positions(model: torch.nn.Module, name: str) -> int:
    """How many places a sequence of an input may have, by the configuration; 0 where it does not say."""
    if not is_one(model):
        return 0
    prefer = ("max_target_positions",) if name.startswith("decoder_") else ()
    return int(setting(model.config, (*prefer, *POSITIONS), 0) or 0)


def without_cache(model: torch.nn.Module, inputs: Sequence[str]) -> Json:
    """How forward is called so that it returns no cache, which is no tensor; None where that can't be said."""
    parameters = parameters_of(model) or {}
    if not is_one(model) or not all(name in parameters for name in (*inputs, "use_cache")):
        return None
    return {"kwargs": {**{name: name for name in inputs}, "use_cache": False}}


def candidates(model: torch.nn.Module) -> Iterator[Example]:
    """Inputs of a module of transformers: its main one, and what goes along with it."""
    parameters = parameters_of(model) or {}
    names = [name for name in parameters if name == model.main_input_name]
    names += [name for name in COMPANIONS if name in parameters and name not in names and _goes_along(model, name)]
    required = [
        name for name, one in parameters.items() if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    names += [name for name in required if name not in names]
    described = {name: spec for name in parameters if name in names and (spec := _described(model, name)) is not None}
    dummies = {name: {"dtype": dtype_name(one), "shape": [*one.shape]} for name, one in _dummies(model).items()}
    missing = {name: spec for name, spec in dummies.items() if name in required and name not in described}
    looked = f"inputs: of {type(model).__name__}, by its configuration"
    for chosen in (
        {**described, **missing},
        {name: described[name] for name in described if name in required},
        dummies,
    ):
        if chosen:
            yield Example(chosen, None, (looked,))


def setting(config: Any, names: Sequence[str], default: Any) -> Any:
    """The first of these settings that a configuration has, or one of the configurations in it."""
    parts = [config, *(getattr(config, part) for part in PARTS if getattr(config, part, None) is not None)]
    for part in parts:
        for name in names:
            found = part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)
            if found is not None:
                return found
    return default


def _goes_along(model: torch.nn.Module, name: str) -> bool:
    """Whether a model that takes its main input takes this one as well."""
    main = model.main_input_name
    if name == "attention_mask":
        return bool(main == "input_ids")
    if name == "decoder_input_ids":
        return bool(getattr(model.config, "is_encoder_decoder", False))
    return hasattr(model.config, "text_config") and name in ("input_ids", "pixel_values", "input_features")


def _dummies(model: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    try:
        return {name: one for name, one in dict(model.dummy_inputs).items() if torch.is_tensor(one)}
    except Exception:  # noqa: BLE001  # some are made by code that fits other models
        return {}


def _described(model: torch.nn.Module, name: str) -> Json | None:
    """An input by its name, as a recipe describes it; None for a name that says nothing."""
    config = model.config
    if name.endswith(("input_ids", "attention_mask", "token_type_ids", "position_ids")):
        length = TARGETS if name.startswith("decoder_") else TOKENS
        most = positions(model, name) or length
        return {"dtype": "int64", "shape": [BATCH, min(length, max(2, most // 2))]}
    dtype = dtype_name(next(model.parameters()))
    if name == "pixel_values":
        side = setting(config, ("image_size",), SIDE)
        height, width = side if isinstance(side, (tuple, list)) else (side, side)
        return {"dtype": dtype, "shape": [BATCH, setting(config, ("num_channels",), CHANNELS), height, width]}
    if name == "input_features":
        bins = setting(config, ("num_mel_bins", "feature_size"), BINS)
        return {"dtype": dtype, "shape": [BATCH, bins, 2 * setting(config, ("max_source_positions",), 1500)]}
    if name == "input_values":
        if (length := setting(config, ("max_length",), 0)) and (bins := setting(config, ("num_mel_bins",), 0)):
            return {"dtype": dtype, "shape": [BATCH, length, bins]}
        return {"dtype": dtype, "shape": [BATCH, AUDIO]}
    return None
