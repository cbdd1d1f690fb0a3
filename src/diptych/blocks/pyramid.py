"""A feature pyramid: the finest map of a residual network, told what the coarser ones see."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.blocks.resnet import ResNet


class Pyramid(nn.Module):
    """Top-down pathway and lateral connections (Lin et al. 2017, section 3), of which the finest level is kept.

    Each stage's map goes through a 1x1 convolution, is added to the coarser level's, enlarged to its size, and the
    finest level goes through a 3x3 convolution at the end.
    """

    def __init__(self, trunk: ResNet, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.laterals = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in trunk.widths)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)
        for convolution in (*self.laterals, self.smooth):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
            nn.init.zeros_(convolution.bias)

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        """H2 = H / 4, rounded up twice."""
        maps = self.trunk.maps(pixels)
        top = self.laterals[-1](maps[-1])
        for lateral, map in zip(reversed(self.laterals[:-1]), reversed(maps[:-1])):
            top = lateral(map) + F.interpolate(top, size=map.shape[2:], mode="nearest")
        smoothed: Tensor = self.smooth(top)
        return smoothed
