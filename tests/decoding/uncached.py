"""A source without a cache and without a batch: what every faster one has to agree with."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Uncached:
    """Reads the whole text of each row again, by itself and without padding, whenever a token was written.

    Args:
        forward: forward(row, tokens) -> (states, logits), each S x ..., of the text `tokens` after what belongs to the
            prompt number `row` besides tokens, such as its picture.
        prompts: the tokens of each prompt.
    """

    def __init__(
        self, forward: Callable[[int, Tensor], tuple[Tensor, Tensor]], prompts: Sequence[Sequence[int]]
    ) -> None:
        self.forward = forward
        self.rows = [(row, list(tokens)) for row, tokens in enumerate(prompts)]
        self.started = False
        self._read()

    @torch.no_grad()
    def _read(self) -> None:
        found = [self.forward(row, torch.tensor(tokens)) for row, tokens in self.rows]
        self.states = [states for states, _ in found]
        self.hidden = torch.stack([states[-1] for states in self.states])
        self.scores = torch.stack([logits[-1] for _, logits in found]).float()

    @property
    def prompt(self) -> tuple[Tensor, Tensor] | None:
        if self.started:
            return None
        keep = torch.nn.utils.rnn.pad_sequence([torch.ones(len(some), dtype=torch.bool) for some in self.states], True)
        return torch.nn.utils.rnn.pad_sequence(self.states, True), keep

    def logits(self) -> Tensor:
        return self.scores

    def advance(self, tokens: Tensor) -> None:
        assert len(tokens) == len(self.rows)
        self.rows = [(row, [*text, int(token)]) for (row, text), token in zip(self.rows, tokens)]
        self.started = True
        self._read()

    def select(self, rows: Tensor) -> None:
        self.rows = [self.rows[int(row)] for row in rows]
        self.states = [self.states[int(row)] for row in rows]
        self.hidden, self.scores = self.hidden[rows], self.scores[rows]


def of_language_model(lm: Any, prompts: Sequence[Sequence[int]]) -> Uncached:
    """A language model alone."""

    def forward(row: int, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden = lm(lm.embed(tokens[None]))[0]
        return hidden, lm.logits(hidden)

    return Uncached(forward, prompts)
