"""Boxes (x0, y0, x1, y1): how much they overlap, which of many are kept, and what a map shows inside them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CANDIDATES = 1000  # Lin et al. 2017, RetinaNet, section 4.1


def area(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N"]:
    """0 for a box without extent."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def iou(a: Float[Tensor, "N 4"], b: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    """Intersection over union of each pair, in [0, 1]; 0 where both are empty."""
    low, high = torch.maximum(a[:, None, :2], b[None, :, :2]), torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    union = area(a)[:, None] + area(b)[None] - shared
    return shared / union.clamp(min=torch.finfo(a.dtype).tiny)


def generalised_iou(a: Float[Tensor, "N 4"], b: Float[Tensor, "N 4"]) -> Float[Tensor, "N"]:
    """IoU - (hull - union) / hull of matched rows, in [-1, 1] (Rezatofighi et al. 2019, algorithm 1)."""
    tiny = torch.finfo(a.dtype).tiny
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    union = area(a) + area(b) - shared
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(dim=1)
    return shared / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def suppressed(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, "N"], threshold: float = 0.5, most: int | None = None
) -> Int[Tensor, "K"]:
    """The boxes that stay, the highest score first: none overlaps a higher one by more than `threshold` (greedy NMS).

    Only the `CANDIDATES` highest scores are looked at, as detectors do: all pairs of them are compared.

    Args:
        most: that stay, at most.
    """
    order = scores.argsort(descending=True, stable=True)[:CANDIDATES]
    overlaps = (iou(boxes[order], boxes[order]) > threshold).cpu().numpy()
    kept: list[int] = []
    gone = [False] * len(order)
    for i in range(len(order)):
        if gone[i]:
            continue
        kept.append(i)
        if most is not None and len(kept) == most:
            break
        for j in overlaps[i, i + 1 :].nonzero()[0]:
            gone[i + 1 + int(j)] = True
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


def pooled_inside(
    map: Float[Tensor, "B D H W"], boxes: Float[Tensor, "B P 4"], samples: int = 3
) -> Float[Tensor, "B P D"]:
    """The mean of the map at samples x samples points of each box, between cells bilinear (He et al. 2017, RoIAlign).

    Args:
        boxes: as shares of the picture.
        samples: along a side, in the middles of so many equal parts.
    """
    inside = (torch.arange(samples, device=boxes.device, dtype=boxes.dtype) + 0.5) / samples
    low, extent = boxes[..., None, :2], (boxes[..., 2:] - boxes[..., :2])[..., None, :]
    points = low + extent * inside[:, None]  # B P samples 2
    x, y = points[..., 0], points[..., 1]
    grid = torch.stack(
        [x[:, :, None].expand(-1, -1, samples, -1), y[:, :, :, None].expand(-1, -1, -1, samples)], dim=-1
    )
    flat = grid.flatten(2, 3) * 2 - 1  # B P samples^2 2, in [-1, 1]
    values = F.grid_sample(map, flat.to(map.dtype), mode="bilinear", padding_mode="border", align_corners=False)
    return values.mean(dim=3).transpose(1, 2)
