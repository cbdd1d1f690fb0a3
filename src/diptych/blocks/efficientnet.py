"""EfficientNet (Tan & Le 2019) and its Lite variant for processors without swish or channel attention."""

import math
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.blocks.convolution import ConvNorm
from diptych.blocks.resnet import MapOutput


class Stage(NamedTuple):
    """One row of the paper's table 1: how much wider inside, output width, blocks, first stride, kernel side."""

    expand: int
    width: int
    depth: int
    stride: int
    kernel: int


STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)
STEM, HEAD = 32, 1280
conv_norm = partial(ConvNorm, same=True, norm_eps=1e-3)


def scale_width(width: int, multiplier: float) -> int:
    """The scaled width as a multiple of 8, never more than a tenth below what was asked."""
    wanted = width * multiplier
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from the average of all channels (Hu et al. 2018)."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, width, 1)
        self.activation = nn.SiLU()

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        gate: Tensor = self.expand(self.activation(self.reduce(x.mean(dim=(2, 3), keepdim=True))))
        return x * gate.sigmoid()


class InvertedBottleneck(nn.Module):
    """MBConv: widen, filter each channel alone, narrow; the residual connection joins the narrow ends.

    Args:
        drop: chance in training that a sample skips the branch (Huang et al. 2016), in [0, 1).
    """

    def __init__(self, inputs: int, outputs: int, stage: Stage, *, stride: int, lite: bool, drop: float) -> None:
        super().__init__()
        hidden, activation = inputs * stage.expand, "relu6" if lite else "swish"
        self.drop = drop
        self.residual = stride == 1 and inputs == outputs
        self.expand = conv_norm(inputs, hidden, 1, activation=activation) if stage.expand > 1 else None
        self.depthwise = conv_norm(hidden, hidden, stage.kernel, stride=stride, groups=hidden, activation=activation)
        self.excite = None if lite else SqueezeExcitation(hidden, max(1, inputs // 4))
        self.project = conv_norm(hidden, outputs, 1)

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D2 H2 W2"]:
        branch: Tensor = x if self.expand is None else self.expand(x)
        branch = self.depthwise(branch)
        if self.excite is not None:
            branch = self.excite(branch)
        branch = self.project(branch)
        if not self.residual:
            return branch
        if self.training and self.drop > 0:
            kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
            branch = branch * kept / (1 - self.drop)
        return x + branch


class EfficientNet(nn.Module):
    """B0 with both multipliers at 1; the published B1 to B7 and Lite1 to Lite4 scale it.

    Lite leaves stem, head, and the depth of the first and last stage as they are, uses ReLU6, and has no
    squeeze-and-excitation. Padding is TensorFlow's, so that public weights fit.

    Deviation: running statistics of batch norm move by 0.1 a step and not by the authors' 0.01, which after the few
    hundred steps of a small run would still hold the initial ones: the loss falls, and in eval mode all is at chance.
    """

    def __init__(
        self,
        *,
        lite: bool = False,
        width_multiplier: float = 1.0,
        depth_multiplier: float = 1.0,
        drop_connect: float = 0.2,
        channels: int = 3,
    ) -> None:
        super().__init__()
        activation = "relu6" if lite else "swish"
        stem = STEM if lite else scale_width(STEM, width_multiplier)
        self.stem = conv_norm(channels, stem, 3, stride=2, activation=activation)
        plan: list[tuple[Stage, int]] = []  # one entry a block: its stage and its place in it
        for number, stage in enumerate(STAGES):
            fixed = lite and number in (0, len(STAGES) - 1)
            depth = stage.depth if fixed else math.ceil(stage.depth * depth_multiplier)
            plan += [(stage, position) for position in range(depth)]
        inputs, blocks = stem, []
        for index, (stage, position) in enumerate(plan):
            outputs, stride = scale_width(stage.width, width_multiplier), stage.stride if position == 0 else 1
            drop = drop_connect * index / len(plan)
            blocks.append(InvertedBottleneck(inputs, outputs, stage, stride=stride, lite=lite, drop=drop))
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.width = HEAD if lite else scale_width(HEAD, width_multiplier)
        self.head = conv_norm(inputs, self.width, 1, activation=activation)

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> MapOutput:
        """The map is ceil(H/32) x ceil(W/32); the pooled vector is its average, what the published classifiers read."""
        x = self.head(self.blocks(self.stem(pixels)))
        return MapOutput(x.mean(dim=(2, 3)), x)
