"""MAGIC search: contrastive search that a model which compares pictures with texts pulls towards the picture."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.decoding.contrastive import contrastive
from diptych.decoding.source import SourceWithStates, Written
from diptych.types import InputError

Scorer = Callable[[list[str]], Float[Tensor, "K"]]
"""How well each text fits one picture, e.g. CLIP's cosine times its logit scale: a softmax over texts is taken."""


def magic(
    source: SourceWithStates,
    scorers: Sequence[Scorer],
    decode: Callable[[list[int]], str],
    *,
    end: int,
    most: int,
    k: int = 45,
    alpha: float = 0.1,
    beta: float = 2.0,
) -> list[Written]:
    """Write each row by MAGIC search (Su et al. 2022, "Language models can see", equation 5).

    To contrastive search's score of a candidate v comes beta * softmax of the scorer's numbers for the k texts
    "what was written + v". The language model needs no picture. `beta` 0 is contrastive search, and asks no scorer.

    Args:
        source: with its prompts read.
        scorers: one for each row.
        decode: tokens to text; what was written is passed, without the prompt.
        end, most, k, alpha: see `contrastive`.
        beta: weight of the picture, at least 0.
    """
    if not beta >= 0:
        raise InputError(f"magic: beta: expected a number of at least 0, got {beta}")
    if len(scorers) != len(source.hidden):
        raise InputError(f"magic: scorers: expected one for each of {len(source.hidden)} rows, got {len(scorers)}")

    def bonus(
        texts: Sequence[int], written: Sequence[list[int]], candidates: Int[Tensor, "R K"]
    ) -> Float[Tensor, "R K"]:
        fits = []
        for text, tokens, some in zip(texts, written, candidates.tolist()):
            ways = [decode(tokens if token == end else [*tokens, token]) for token in some]
            fits.append(torch.as_tensor(scorers[text](ways), dtype=torch.float32, device=candidates.device))
        return beta * torch.stack(fits).softmax(dim=-1)

    return contrastive(source, end=end, most=most, k=k, alpha=alpha, bonus=bonus if beta else None)
