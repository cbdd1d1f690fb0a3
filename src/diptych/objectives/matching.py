"""Image-text matching: does this text belong to this picture? And where wrong texts and pictures come from."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

CHANCE = math.log(2)
"""`matching` of a model that knows nothing, where half of the pairs fit."""


def matching(logits: Float[Tensor, "B 2"], fits: Bool[Tensor, "B"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of "does not fit" (column 0) and "fits" (column 1); 0 without pairs."""
    if not len(logits):
        return logits.sum()
    return F.cross_entropy(logits.float(), fits.long())


def same_rows(tokens: Int[Tensor, "B T"]) -> Bool[Tensor, "B B"]:
    """Which rows of a batch read the same, so that one is no wrong text for the picture of the other."""
    return (tokens[:, None] == tokens[None]).all(dim=2)


def replaced(
    same: Bool[Tensor, "B B"], rate: float = 0.5, generator: torch.Generator | None = None
) -> Int[Tensor, "B"]:
    """For each row the row whose picture it gets: itself, or with probability `rate` another one, evenly drawn.

    Args:
        same: True where a row would still fit (see `same_rows`); such rows are not drawn, and a row that fits all
            others keeps its own.
    """
    weights = (~same).float()
    own = torch.arange(len(same), device=same.device)
    return _drawn(weights, own, rate, generator)


def hard_negatives(
    similarity: Float[Tensor, "B M"],
    fits: Bool[Tensor, "B M"],
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "B"], Bool[Tensor, "B"]]:
    """For each row a column that does not fit but looks as if it did: drawn with softmax(similarity) over those.

    (Li et al. 2021, ALBEF, section 3.2)

    Args:
        similarity: logits, scaled as the contrastive loss scales them.
        fits: the columns that belong to a row.

    Returns: the columns, and for which rows there is any.
    """
    with torch.no_grad():
        weights = similarity.float().masked_fill(fits, -torch.inf).softmax(dim=1)
    there = ~fits.all(dim=1)
    weights = torch.where(there[:, None], weights, 1.0)
    return torch.multinomial(weights.cpu(), 1, generator=generator)[:, 0].to(weights.device), there


def _drawn(
    weights: Float[Tensor, "B M"], own: Int[Tensor, "B"], rate: float, generator: torch.Generator | None
) -> Int[Tensor, "B"]:
    change = (torch.rand(len(own), generator=generator) < rate).to(own.device) & (weights.sum(dim=1) > 0)
    safe = torch.where(change[:, None], weights, 1.0)
    others = torch.multinomial(safe.cpu(), 1, generator=generator)[:, 0].to(own.device)
    return torch.where(change, others, own)
