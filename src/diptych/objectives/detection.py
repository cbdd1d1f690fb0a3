"""FCOS (Tian et al. 2019): which places of a map are to tell of which thing, and what their guesses cost."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def places(height: int, width: int, device: torch.device | None = None) -> Float[Tensor, "P 2"]:
    """The middles (x, y) of a map's cells, row by row, as shares of the picture."""
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)


def assigned(
    boxes: Float[Tensor, "M 4"], box_of: Int[Tensor, "M"], count: int, at: Float[Tensor, "P 2"]
) -> Int[Tensor, "count P"]:
    """For each place of each of `count` pictures the box that it is to tell of, as a row of `boxes`; -1 where none is.

    Of the boxes around a place it is the smallest (section 3.1). A box around no place at all is not learnt.
    """
    inside = (at >= boxes[:, None, :2]) & (at < boxes[:, None, 2:])
    cost = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)[:, None].where(inside.all(dim=2), torch.inf)
    best = torch.full((count, len(at)), torch.inf, device=boxes.device)
    best.scatter_reduce_(0, box_of[:, None].expand_as(cost), cost, "amin")
    which = torch.full((count, len(at)), -1, device=boxes.device)
    rows, columns = (cost.isfinite() & (cost == best[box_of])).nonzero(as_tuple=True)
    which[box_of[rows], columns] = rows
    return which


def sides(boxes: Float[Tensor, "N 4"], at: Float[Tensor, "N 2"]) -> Float[Tensor, "N 4"]:
    """How far a place is from the left, upper, right and lower side of its box (equation 1)."""
    return torch.cat([at - boxes[:, :2], boxes[:, 2:] - at], dim=1)


def centredness(sides: Float[Tensor, "N 4"]) -> Float[Tensor, "N"]:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), 1 in the middle of a box and 0 at its rim (equation 3)."""
    low, high = torch.minimum(sides[:, :2], sides[:, 2:]), torch.maximum(sides[:, :2], sides[:, 2:])
    return (low / high.clamp(min=torch.finfo(sides.dtype).tiny)).clamp(min=0).prod(dim=1).sqrt()


def focal(
    logits: Float[Tensor, "*N K"], wanted: Bool[Tensor, "*N K"], *, alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, ""]:
    """The sum of -alpha_t (1 - p_t)^gamma ln p_t over all places and classes (Lin et al. 2017, RetinaNet, equation 5).

    Args:
        wanted: the class of the thing at each place, if any.
        alpha: weight of what is there; that of what is not is 1 - alpha.
    """
    logits, target = logits.float(), wanted.float()
    cost = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = torch.where(wanted, alpha, 1 - alpha)
    return (weight * (1 - torch.exp(-cost)) ** gamma * cost).sum()
