"""The text transformer from scratch, causal or bidirectional."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.blocks import masks
from diptych.blocks.transformer import Transformer
from diptych.towers.outputs import TextOutput
from diptych.types import InputError


class TextTransformer(nn.Module):
    """Text transformer with learned positions (Radford et al. 2021, section 2.4). Text is padded on the right.

    Under the causal mask nothing sees the padding behind it; the bidirectional one masks it out. Either way the padding
    changes no result, so that a batch may be trimmed to its longest text.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        context_length: int,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        causal: bool = True,
        pooling: Literal["eot_first", "eot_argmax", "cls", "mean"] = "eot_first",
        eos_id: int,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width = width
        self.causal = causal
        self.pooling = pooling
        self.eos_id = eos_id
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positions = nn.Parameter(torch.randn(context_length, width) * 0.01)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.transformer = Transformer(
            width, layers, heads, mlp_ratio=mlp_ratio, activation=activation, norm_eps=norm_eps, dropout=dropout
        )
        self.final_norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> TextOutput:
        """Raises `InputError` where the text is longer than the positions that were learned."""
        length = tokens.shape[1]
        if length > len(self.positions):
            raise InputError(f"text has {length} tokens, but the tower's context_length is {len(self.positions)}")
        x = self.token_embedding(tokens) + self.positions[:length]
        x = self.transformer(x, mask=None if self.causal else masks.padding(token_mask), causal=self.causal)
        x = self.final_norm(x)
        return TextOutput(self._pool(x, tokens, token_mask), x)

    def _pool(
        self, x: Float[Tensor, "B T D"], tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B D"]:
        if self.pooling == "mean":
            return masked_mean(x, token_mask)
        if self.pooling == "cls":
            return x[:, 0]
        if self.pooling == "eot_argmax":
            place = tokens.masked_fill(~token_mask, -1).argmax(dim=1)
        else:
            place = ((tokens == self.eos_id) & token_mask).int().argmax(dim=1)
        return x[torch.arange(len(x), device=x.device), place]


def masked_mean(x: Float[Tensor, "B S D"], keep: Bool[Tensor, "B S"]) -> Float[Tensor, "B D"]:
    """The average over kept positions; zero where none is kept."""
    weight = keep.to(x.dtype)[:, :, None]
    return (x * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
