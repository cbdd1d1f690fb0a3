"""A language model with tokens that it did not have, so that its own rows stay as they are."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.towers.build import LanguageModule


class MoreTokens(nn.Module):
    """See `outputs.LanguageModel`. Tokens from `first` on have embeddings of their own, which stay trainable.

    The first `said` of them can be written too: their embeddings are then also rows of the output matrix. Rows that the
    language model has from `first` on belong to no token of its tokenizer and are left out.

    Args:
        lm: whose weights are not touched.
        first: the number of the first new token, at most the model's vocabulary size.
        count: how many there are.
        said: how many of them the model may write, the first ones.
    """

    def __init__(self, lm: LanguageModule, first: int, count: int, *, said: int) -> None:
        super().__init__()
        self.lm = lm
        self.first, self.said = first, said
        self.width, self.vocab_size = lm.width, first + said
        self.rows = nn.Parameter(torch.randn(count, lm.width) * 0.02)

    @property
    def layers(self) -> nn.ModuleList:
        """The model's own layers."""
        return self.lm.layers

    def embed(self, tokens: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """The tokens' embeddings, without positions."""
        new = tokens >= self.first
        embedded = self.lm.embed(tokens.masked_fill(new, 0))
        return torch.where(new[..., None], self.rows[(tokens - self.first).clamp(min=0)].to(embedded.dtype), embedded)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        mask: Bool[Tensor, "#B 1 #S M"] | None = None,
        positions: Int[Tensor, "#B S"] | None = None,
        cache: Any = None,
        before: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """The model's own."""
        hidden: Tensor = self.lm(x, mask=mask, positions=positions, cache=cache, before=before)
        return hidden

    def head_weight(self) -> Float[Tensor, "V D"]:
        """The matrix that makes logits of hidden states, with the rows of the new tokens that can be written."""
        weight = self.lm.head_weight()[: self.first]
        return torch.cat([weight, self.rows[: self.said].to(weight.dtype)])

    def logits(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Scores of the next token before the softmax."""
        own = self.lm.logits(hidden)[..., : self.first]
        return torch.cat([own, hidden @ self.rows[: self.said].to(hidden.dtype).t()], dim=-1)

    def new_cache(self, capacity: int = 64) -> Any:
        """The model's own."""
        return self.lm.new_cache(capacity)
