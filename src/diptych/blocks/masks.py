"""The one place that makes attention masks. `True` means "may look". Masks are joined with `&`.

Every mask broadcasts to B x heads x queries x keys, so that any two can be joined and handed to `Attention`.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def causal(length: int, device: torch.device | str | None = None) -> Bool[Tensor, "1 1 S S"]:
    """Each position sees itself and what stands before it.

    1 0 0
    1 1 0
    1 1 1
    """
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]


def padding(keep: Bool[Tensor, "B S"]) -> Bool[Tensor, "B 1 1 S"]:
    """Every position sees the kept ones only; `keep` is True at real tokens."""
    return keep[:, None, None, :]


def prefix(lengths: Int[Tensor, "B"], length: int) -> Bool[Tensor, "B 1 S S"]:
    """The first `lengths[b]` positions see each other; from there on it is causal. With a prefix of 2 of 4:

    1 1 0 0
    1 1 0 0
    1 1 1 0
    1 1 1 1
    """
    in_prefix = torch.arange(length, device=lengths.device) < lengths[:, None]
    return causal(length, lengths.device) | padding(in_prefix)


def blocks(text: Int[Tensor, "B S"]) -> Bool[Tensor, "B 1 S S"]:
    """Causal within each text of a row; `text` is the number of the text that a position belongs to. With 0 0 1 1:

    1 0 0 0
    1 1 0 0
    0 0 1 0
    0 0 1 1
    """
    return causal(text.shape[1], text.device) & (text[:, None, :, None] == text[:, None, None, :])


def media(times: Int[Tensor, "B S"], count: int, vectors: int) -> Bool[Tensor, "B 1 S M"]:
    """Each token sees the vectors of one picture only, the last before it (Alayrac et al. 2022, section 2.3).

    `times[b, s]` is the number of the last picture at or before token s, from 1; a token before any sees nothing. A row
    has `count` pictures of `vectors` vectors each. With 2 pictures of 2 vectors and times 0 1 1 2:

    0 0 0 0
    1 1 0 0
    1 1 0 0
    0 0 1 1
    """
    numbers = torch.arange(1, count + 1, device=times.device).repeat_interleave(vectors)
    return (times[:, :, None] == numbers)[:, None]
