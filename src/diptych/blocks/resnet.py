"""Residual networks (He et al. 2016), with the stride in the 3x3 convolution of a bottleneck as everybody runs them."""

from typing import Literal, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.blocks.convolution import ConvNorm


class MapOutput(NamedTuple):
    """What a convolutional trunk gives: one vector per picture, and its last map."""

    pooled: Float[Tensor, "B D"]
    map: Float[Tensor, "B D2 H2 W2"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a residual connection."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, width, 3, stride=stride, activation="relu")
        self.conv2 = ConvNorm(width, width, 3)
        self.shortcut = ConvNorm(inputs, width, 1, stride=stride) if stride > 1 or inputs != width else None

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D2 H2 W2"]:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.conv2(self.conv1(x)) + shortcut)


class BottleneckBlock(nn.Module):
    """A 3x3 convolution between two 1x1 ones, around a residual connection; comes out four times as wide."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = ConvNorm(inputs, width, 1, activation="relu")
        self.conv2 = ConvNorm(width, width, 3, stride=stride, activation="relu")
        self.conv3 = ConvNorm(width, outputs, 1)
        self.shortcut = ConvNorm(inputs, outputs, 1, stride=stride) if stride > 1 or inputs != outputs else None

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D2 H2 W2"]:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.conv3(self.conv2(self.conv1(x))) + shortcut)


class ResNet(nn.Module):
    """A 7x7 stem, then stages of residual blocks, each half as large and twice as wide as the one before.

    Args:
        depths: blocks in each stage; (3, 4, 6, 3) of bottlenecks is ResNet-50, (2, 2, 2, 2) of basic blocks ResNet-18.
        stem_width: channels after the stem, 64 in the paper.
    """

    def __init__(
        self,
        depths: tuple[int, ...] = (3, 4, 6, 3),
        *,
        stem_width: int = 64,
        block: Literal["basic", "bottleneck"] = "bottleneck",
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.stem = ConvNorm(channels, stem_width, 7, stride=2, activation="relu")
        kind = BasicBlock if block == "basic" else BottleneckBlock
        inputs, stages, widths = stem_width, [], []
        for stage, depth in enumerate(depths):
            width, blocks = stem_width * 2**stage, []
            for position in range(depth):
                blocks.append(kind(inputs, width, stride=2 if stage > 0 and position == 0 else 1))
                inputs = width * kind.expansion
            stages.append(nn.Sequential(*blocks))
            widths.append(inputs)
        self.stages = nn.Sequential(*stages)
        self.widths = widths  # of the maps of all stages
        self.width = inputs

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> MapOutput:
        """The map is H/32 x W/32 with four stages; the pooled vector is its average."""
        x = self.maps(pixels)[-1]
        return MapOutput(x.mean(dim=(2, 3)), x)

    def maps(self, pixels: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B D2 H2 W2"]]:
        """The maps behind each stage: H/4 x W/4, H/8 x W/8, ..."""
        x = F.max_pool2d(self.stem(pixels), 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
