"""Random changes to training pairs that keep picture and caption true to each other."""

import re

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

_SIDES = {"left": "right", "right": "left"}
_SIDE_WORD = re.compile(r"\b(left|right)(?=(?:most|side|hand|ward|wards)?\b)", re.IGNORECASE)


def augment_pairs(
    pixels: UInt8[Tensor, "B C H W"],
    texts: list[str] | None,
    generator: torch.Generator,
    *,
    least_area: float = 0.6,
    flip: bool = False,
) -> tuple[UInt8[Tensor, "B C H W"], list[str] | None]:
    """A random part of each picture, resized back; with `flip`, half are mirrored and their captions' sides swapped.

    The part keeps `least_area` to all of the area, with an aspect ratio from 3/4 to 4/3, uniform in its logarithm (the
    random resized crop of Inception, with a gentler area, so that what the caption names stays in view). Mirroring is
    off unless asked for: pictures with writing, or things told apart by their sides, do not survive it.
    """
    count, _, height, width = pixels.shape
    area, ratio, x, y, coin = torch.rand(5, count, generator=generator)
    area = least_area + (1 - least_area) * area
    aspect = torch.exp((2 * ratio - 1) * torch.log(torch.tensor(4 / 3)))
    part_w = (area * aspect).sqrt().clamp(max=1)
    part_h = (area / aspect).sqrt().clamp(max=1)
    mirrored = (coin < 0.5) if flip else torch.zeros(count, dtype=torch.bool)
    # affine_grid wants the part in coordinates from -1 to 1: a scale and a centre for each axis
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = torch.where(mirrored, -part_w, part_w)
    theta[:, 1, 1] = part_h
    theta[:, 0, 2] = (2 * x - 1) * (1 - part_w)
    theta[:, 1, 2] = (2 * y - 1) * (1 - part_h)
    grid = F.affine_grid(theta, [count, 3, height, width], align_corners=False)
    cut = F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    swapped = None if texts is None else [swap_sides(t) if m else t for t, m in zip(texts, mirrored.tolist())]
    return cut.round().clamp(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last), swapped


def swap_sides(text: str) -> str:
    """The caption of the mirrored picture: "left" and "right" change places, in whatever case they are written."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        swapped = _SIDES[word.lower()]
        if word.isupper():
            return swapped.upper()
        return swapped.capitalize() if word[0].isupper() else swapped

    return _SIDE_WORD.sub(other, text)
