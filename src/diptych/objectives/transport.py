"""Word-patch alignment: how cheaply a text's words can be moved onto a picture's patches, by optimal transport."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def cosine_cost(x: Float[Tensor, "B N D"], y: Float[Tensor, "B M D"]) -> Float[Tensor, "B N M"]:
    """1 - cos of each pair, in [0, 2]."""
    return 1 - F.normalize(x.float(), dim=2) @ F.normalize(y.float(), dim=2).mT


@torch.no_grad()
def ipot(
    cost: Float[Tensor, "B N M"],
    rows: Bool[Tensor, "B N"],
    columns: Bool[Tensor, "B M"],
    *,
    beta: float = 0.5,
    iterations: int = 50,
) -> Float[Tensor, "B N M"]:
    """The transport plan by inexact proximal points (Xie et al. 2020, IPOT, algorithm 1, one inner step).

    Every real row sends 1 / (real rows) and every real column takes 1 / (real columns); what is padding has 0. The
    plan sums to 1 where there is a row and a column, else it is 0.

    Args:
        rows, columns: True at what is real.
        beta: the proximal step; smaller goes faster towards the exact plan, and is less stable.
    """
    real = (rows[:, :, None] & columns[:, None]).to(cost.dtype)
    kernel = (-cost / beta).exp() * real
    n, m = rows.sum(dim=1).clamp(min=1).to(cost.dtype), columns.sum(dim=1).clamp(min=1).to(cost.dtype)
    plan, column_scale = real, (columns / m[:, None]).to(cost.dtype)
    tiny = torch.finfo(cost.dtype).tiny
    for _ in range(iterations):
        step = kernel * plan
        row_scale = rows / (n[:, None] * (step @ column_scale[:, :, None])[:, :, 0]).clamp(min=tiny)
        column_scale = columns / (m[:, None] * (step.mT @ row_scale[:, :, None])[:, :, 0]).clamp(min=tiny)
        plan = row_scale[:, :, None] * step * column_scale[:, None]
    return plan


def word_patch_alignment(
    words: Float[Tensor, "B T D"],
    patches: Float[Tensor, "B P D"],
    word_mask: Bool[Tensor, "B T"],
    patch_mask: Bool[Tensor, "B P"],
    fits: Bool[Tensor, "B"],
) -> Float[Tensor, ""]:
    """(sum of distances of pairs that fit - of those that do not) / pairs (Kim et al. 2021, ViLT, section 3.2; code).

    A distance is the cost that the plan has, in [0, 2]; gradients flow through the cost and not through the plan. The
    loss may be negative. 0 without pairs.
    """
    with torch.autocast(words.device.type, enabled=False):
        cost = cosine_cost(words, patches)
        distance = (ipot(cost.detach(), word_mask, patch_mask) * cost).sum(dim=(1, 2))
    return torch.where(fits, distance, -distance).sum() / max(len(words), 1)
