"""Positions as rotations of queries and keys."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Rotation(NamedTuple):
    """Cosine and sine of each position's angles, one for each pair of a head's entries.

    Both halves are alike, but the first half of the sine is negative: see `rotate`.
    """

    cos: Float[Tensor, "B 1 S head_width"]
    sin: Float[Tensor, "B 1 S head_width"]


def rotation(positions: Int[Tensor, "B S"], head_width: int, theta: float = 10_000.0) -> Rotation:
    """Angles m theta^(-2i/d) of position m (Su et al. 2021, RoFormer, equation 15); d is `head_width`, even."""
    exponents = torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width
    angles = positions[:, None, :, None].float() / theta**exponents
    cos, sin = angles.cos(), angles.sin()
    return Rotation(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))


def rotate(x: Float[Tensor, "B heads S head_width"], by: Rotation) -> Float[Tensor, "B heads S head_width"]:
    """Each pair (x_i, x_{i + d/2}) turned by its angle: the order of entries that Llama's checkpoints have."""
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat([second, first], dim=-1)
    return torch.addcmul(x * by.cos, swapped, by.sin).to(x.dtype)
