"""FCOS on the finest level of a pyramid: at each place what is there, how far its sides are, how central it is."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.blocks.boxes import pooled_inside, suppressed
from diptych.blocks.pyramid import Pyramid
from diptych.blocks.resnet import ResNet
from diptych.config import strict
from diptych.towers.configs import ResNetConfig
from diptych.towers.regions import Regions
from diptych.types import InputError

PRIOR = 0.01  # what a fresh detector gives each class at each place (Lin et al. 2017, RetinaNet, section 4.1)
APART = 0.7
"""Regions that overlap by more, as intersection over union, are one, whatever they hold (Ren et al. 2015, 3.3)."""

_FARTHEST = math.log(1000.0)  # cells; beyond it lies no picture


@strict
@dataclass(frozen=True)
class DetectorConfig:
    """The defaults are the paper's (Tian et al. 2019, section 4): ResNet-50 and heads of four convolutions.

    Attributes:
        width: channels of the pyramid and of the heads; a multiple of 8.
        depth: 3x3 convolutions before each of the two outputs.
        classes: what a thing can be.
    """

    vision: ResNetConfig = field(default_factory=ResNetConfig)
    width: int = 256
    depth: int = 4
    classes: int = 1

    def __post_init__(self) -> None:
        if self.width % 8 or self.width < 8:
            raise InputError(f"DetectorConfig: width: expected a multiple of 8, got {self.width}")
        if self.classes < 1:
            raise InputError(f"DetectorConfig: classes: expected 1 or more, got {self.classes}")


class Found(NamedTuple):
    """What a detector says at each of the P places of its map.

    Attributes:
        map: the pyramid's finest level.
        logits: of each class, for a sigmoid.
        boxes: (x0, y0, x1, y1) as shares of the picture.
        central: logit of how central the place is in its box.
    """

    map: Float[Tensor, "B D H2 W2"]
    logits: Float[Tensor, "B P K"]
    boxes: Float[Tensor, "B P 4"]
    central: Float[Tensor, "B P"]

    def scores(self) -> Float[Tensor, "B P K"]:
        """Of each class at each place: its probability times how central the place is (section 3.2)."""
        return self.logits.float().sigmoid() * self.central.float().sigmoid()[:, :, None]


class Detector(nn.Module):
    """FCOS (Tian et al. 2019).

    Deviation: one level of the pyramid, the finest, tells of things of every size, where the paper gives five levels a
    range of sizes each; the sides are exp(s x) in cells of that level.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        trunk = config.vision
        resnet = ResNet(trunk.depths, stem_width=trunk.stem_width, block=trunk.block)
        self.pyramid = Pyramid(resnet, config.width)
        self.of_class, self.of_box = _head(config.width, config.depth), _head(config.width, config.depth)
        self.logits = nn.Conv2d(config.width, config.classes, 3, padding=1)
        self.sides = nn.Conv2d(config.width, 4, 3, padding=1)
        self.central = nn.Conv2d(config.width, 1, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(()))
        for output in (self.logits, self.sides, self.central):
            nn.init.normal_(output.weight, std=0.01)
            nn.init.zeros_(output.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.logits.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> Found:
        map = self.pyramid(pixels)
        for_class, for_box = self.of_class(map), self.of_box(map)
        sides = (self.scale * self.sides(for_box).float()).clamp(max=_FARTHEST).exp()
        height, width = map.shape[2:]
        y = torch.arange(height, device=map.device)[:, None] + 0.5
        x = torch.arange(width, device=map.device)[None] + 0.5
        left, top, right, bottom = sides.unbind(dim=1)
        corners = [(x - left) / width, (y - top) / height, (x + right) / width, (y + bottom) / height]
        boxes = torch.stack(corners, dim=3).flatten(1, 2)
        return Found(map, _rows(self.logits(for_class)), boxes, _rows(self.central(for_box))[:, :, 0])

    def regions(self, found: Found, count: int) -> Regions:
        """The `count` surest boxes of each picture that stand `APART`.

        Their features are the means of the map inside. The classes' probabilities are the sigmoids, scaled so that they
        sum to the largest one, and what is missing to 1, for nothing of them, stands behind.
        """
        surest, boxes = found.scores().amax(dim=2), found.boxes.clamp(0, 1)
        chosen = boxes.new_zeros(len(boxes), count, dtype=torch.long)
        there = torch.zeros_like(chosen, dtype=torch.bool)
        for row, (own, scores) in enumerate(zip(boxes, surest)):
            kept = suppressed(own, scores, APART, count)
            chosen[row, : len(kept)], there[row, : len(kept)] = kept, True
        boxes = boxes.gather(1, chosen[:, :, None].expand(-1, -1, 4))
        p = found.logits.float().sigmoid()
        p = p.gather(1, chosen[:, :, None].expand(-1, -1, p.shape[2]))
        most = p.amax(dim=2, keepdim=True)
        classes = torch.cat([p / p.sum(dim=2, keepdim=True) * most, 1 - most], dim=2)
        return Regions(pooled_inside(found.map.float(), boxes), boxes, there, classes)


class DetectedRegions(nn.Module):
    """The surest regions of a trained detector, which stays as it is."""

    def __init__(self, config: DetectorConfig, count: int) -> None:
        super().__init__()
        self.detector = Detector(config).requires_grad_(False)
        self.count = count
        self.eval()

    def train(self, mode: bool = True) -> "DetectedRegions":
        """Its batch norms keep their averages."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixels: Float[Tensor, "N C H W"]) -> Regions:
        return self.detector.regions(self.detector(pixels), self.count)


def _head(width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        convolution = nn.Conv2d(width, width, 3, padding=1)
        nn.init.normal_(convolution.weight, std=0.01)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.GroupNorm(width // 8, width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _rows(map: Float[Tensor, "B K H W"]) -> Float[Tensor, "B P K"]:
    return map.flatten(2).transpose(1, 2)
