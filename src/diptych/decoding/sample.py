"""Drawing the next token: temperature, top-k, nucleus."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.types import InputError


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A rule for `write` that draws each token from the likeliest ones.

    What a text draws depends on the seed, its number and the step alone, not on what else is in the batch.

    Attributes:
        seed: another seed, other texts.
        temperature: above 0; the scores are divided by it. Below 1 likely tokens become likelier.
        top_k: the tokens to draw from, the likeliest; 0 for all.
        top_p: in (0, 1]; the fewest likeliest tokens whose probabilities together reach it (Holtzman et al. 2020,
            equation 2), counted after temperature and top_k.
    """

    seed: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"Sample: temperature: expected a number above 0, got {self.temperature}")
        if self.top_k < 0:
            raise InputError(f"Sample: top_k: expected 0 or more tokens, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"Sample: top_p: expected a number in (0, 1], got {self.top_p}")

    def __call__(self, log_probs: Float[Tensor, "R V"], texts: Sequence[int], step: int) -> Int[Tensor, "R"]:
        """The next token of each row."""
        shares, tokens = self.kept(log_probs)
        shares = shares.cpu()  # not every device has float64
        noise = torch.tensor([_uniform(self.seed, text, step) for text in texts])
        ladder = shares.double().cumsum(dim=-1)
        place = torch.searchsorted(ladder, noise[:, None].double() * ladder[:, -1:], right=True)
        last = (shares > 0).sum(dim=-1, keepdim=True) - 1
        return tokens.gather(1, place.minimum(last).to(tokens.device))[:, 0]

    def kept(self, log_probs: Float[Tensor, "R V"]) -> tuple[Float[Tensor, "R K"], Int[Tensor, "R K"]]:
        """(probabilities, tokens) to draw from, likeliest first, 0 at tokens that are left out.

        Of equally likely tokens the lower number comes first, so that exactly `top_k` tokens stay.
        """
        scores, tokens = (log_probs / self.temperature).sort(dim=-1, descending=True, stable=True)
        if self.top_k:
            scores, tokens = scores[:, : self.top_k], tokens[:, : self.top_k]
        shares = scores.softmax(dim=-1)
        if self.top_p < 1:
            exact = shares.cpu().double()
            before = exact.cumsum(dim=-1) - exact  # of all that are likelier
            shares = shares.masked_fill((before >= self.top_p).to(shares.device), 0.0)
            shares = shares / shares.sum(dim=-1, keepdim=True)
        return shares, tokens


def _uniform(seed: int, text: int, step: int) -> float:
    """A number in [0, 1) that is as good as random."""
    digest = hashlib.blake2b(f"{seed} {text} {step} sample".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
