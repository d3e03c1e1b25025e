"""all-MiniLM-L6-v2: token ids in, one unit vector per sentence out. The encoder is transformers' BERT.

Parameter names are those of the published `model.safetensors`.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertModel


class SentenceEncoder(BertModel):
    """input_ids and attention_mask (N, S), int64, S at most 512, to embeddings (N, 384), float32, of length 1.

    Pooling is sentence-transformers' own: the mean over the tokens that the mask keeps, divided by no less than 1e-9.
    """

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = super().forward(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
        mean = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return functional.normalize(mean, p=2.0, dim=1)


def all_minilm_l6_v2() -> SentenceEncoder:
    """The architecture, as the package's config.json has it, without the trained weights."""
    config = BertConfig(
        vocab_size=30522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=512,
    )
    model = SentenceEncoder(config)
    # The file was written when positions were saved with the weights; transformers no longer expects them there.
    model.embeddings.register_buffer("position_ids", model.embeddings.position_ids)
    return model
