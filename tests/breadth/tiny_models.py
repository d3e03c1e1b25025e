"""Factories of the breadth table, as a project has them: a copy of this file is the `models.py` of what is built.

Knows nothing of onnxbuild. Every model is made from a tiny configuration, its weights drawn by whoever seeded torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def transformer(model: str, config: dict[str, Any], attention: str = "", part: str = "") -> nn.Module:
    """A class of transformers made from its configuration; `part` is the attribute of it that is wanted, dotted."""
    import transformers

    kind = getattr(transformers, model)
    configured = kind.config_class(**config)
    made = kind._from_config(configured, **({"attn_implementation": attention} if attention else {}))
    return made.get_submodule(part).eval()


class Decoder(nn.Module):
    """A language model with its cache as a flat list of tensors: keys and values of each layer in turn."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, past: list[torch.Tensor]) -> Any:
        """The logits, and the cache that these tokens were added to."""
        from transformers import DynamicCache

        cache = DynamicCache(list(zip(past[::2], past[1::2], strict=True)))
        made = self.model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True)
        return made.logits, *(tensor for layer in made.past_key_values.layers for tensor in (layer.keys, layer.values))


class CrossDecoder(nn.Module):
    """An encoder-decoder's decoder, with its own cache and that of what it reads of the encoder as flat lists."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        decoder_input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        past: list[torch.Tensor],
        cross: list[torch.Tensor],
    ) -> Any:
        """The logits, and the decoder's own cache that these tokens were added to."""
        from transformers import DynamicCache, EncoderDecoderCache
        from transformers.modeling_outputs import BaseModelOutput

        own, read = (DynamicCache(list(zip(flat[::2], flat[1::2], strict=True))) for flat in (past, cross))
        cache = EncoderDecoderCache(own, read)
        cache.is_updated = dict.fromkeys(range(len(cross) // 2), True)  # the encoder's keys are there already
        width = cross[0].shape[1] * cross[0].shape[3]
        states = cross[0].new_zeros(cross[0].shape[0], cross[0].shape[2], width)  # their length is all that is read
        made = self.model(
            encoder_outputs=BaseModelOutput(states), attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids, past_key_values=cache, use_cache=True,
        )  # fmt: skip
        layers = made.past_key_values.self_attention_cache.layers
        return made.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values))


def decoder_with_past(model: str, config: dict[str, Any], attention: str = "") -> nn.Module:
    """A causal language model that takes and gives its keys and values."""
    return Decoder(transformer(model, config, attention)).eval()


def cross_decoder_with_past(model: str, config: dict[str, Any], attention: str = "") -> nn.Module:
    """The decoder of an encoder-decoder that takes and gives its keys and values."""
    return CrossDecoder(transformer(model, config, attention)).eval()
