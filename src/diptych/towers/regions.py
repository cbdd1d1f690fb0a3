"""Regions of a picture: features, boxes and what a detector takes them for, by whatever finds them."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.towers.build import VisionModule
from diptych.types import InputError


class Regions(NamedTuple):
    """What a model that reads regions is given of each picture.

    Attributes:
        features: a vector for each region.
        boxes: (x0, y0, x1, y1) as shares of the picture's width and height, in [0, 1].
        there: which regions are real.
        classes: a detector's probabilities of its classes; None where nothing was detected.
    """

    features: Float[Tensor, "N P D"]
    boxes: Float[Tensor, "N P 4"]
    there: Bool[Tensor, "N P"]
    classes: Float[Tensor, "N P K"] | None = None


class GridRegions(nn.Module):
    """Each cell of a tower's grid is a region (Jiang et al. 2020, "In defense of grid features")."""

    def __init__(self, tower: VisionModule) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Float[Tensor, "N C H W"]) -> Regions:
        """Raises `InputError` for a tower without a square grid."""
        cells = self.tower(pixels).tokens
        side = 0 if cells is None else round(cells.shape[1] ** 0.5)
        if cells is None or side**2 != cells.shape[1]:
            raise InputError("regions: expected a tower with a square grid")
        return Regions(cells, cell_boxes(side, cells), cells.new_ones(cells.shape[:2], dtype=torch.bool))


def cell_boxes(side: int, like: Tensor) -> Float[Tensor, "N P 4"]:
    """The boxes of a grid of side x side cells, row by row, for as many pictures as `like` has rows."""
    edges = torch.arange(side, device=like.device, dtype=torch.float32) / side
    y, x = torch.meshgrid(edges, edges, indexing="ij")
    boxes = torch.stack([x, y, x + 1 / side, y + 1 / side], dim=2).flatten(0, 1)
    return boxes.expand(len(like), -1, -1)


def placed(boxes: Float[Tensor, "N P 4"]) -> Float[Tensor, "N P 5"]:
    """(x0, y0, x1, y1, area), as ViLBERT tells a region's place (Lu et al. 2019, section 3.1)."""
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return torch.cat([boxes, area[..., None]], dim=-1)


def packed(found: Regions) -> Float[Tensor, "N D"]:
    """Everything about each picture's regions in one row of float32, as it can be kept. Grids have no `classes`."""
    there = found.there[:, :, None].float()
    classes = [] if found.classes is None else [found.classes.float()]
    return torch.cat([there, found.boxes.float(), *classes, found.features.float()], dim=2).flatten(1)


def unpacked(rows: Float[Tensor, "N D"], count: int, classes: int) -> Regions:
    """What was `packed`: `count` regions a picture, told apart by so many classes."""
    parts = rows.reshape(len(rows), count, -1)
    there, boxes, names, features = (
        parts[..., 0],
        parts[..., 1:5],
        parts[..., 5 : 5 + classes],
        parts[..., 5 + classes :],
    )
    return Regions(features, boxes, there > 0.5, names if classes else None)
