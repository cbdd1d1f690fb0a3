"""A language model with tokens that it did not have, so that its own rows stay as they are."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.towers.build import LanguageModule
from diptych.types import InputError


class MoreTokens:
    """A view of a language model; see `outputs.LanguageModel`. Tokens from `first` on have the embeddings `rows`.

    The first `said` of them can be written too: their embeddings are then also rows of the output matrix. Rows that the
    language model has from `first` on belong to no token of its tokenizer and are left out.

    Args:
        lm: whose weights are not touched.
        rows: embeddings of the new tokens, a parameter of whoever makes this view.
        first: the number of the first new token. Raises `InputError` where the model has fewer tokens.
        said: how many of them the model may write, the first ones.
    """

    def __init__(self, lm: LanguageModule, rows: Float[Tensor, "K D"], first: int, *, said: int) -> None:
        if first > lm.vocab_size:
            raise InputError(f"lm: expected at least the {first} tokens of its tokenizer, got {lm.vocab_size}")
        self.lm, self.rows, self.first, self.said = lm, rows, first, said
        self.width, self.vocab_size = lm.width, first + said

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

    __call__ = forward

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
