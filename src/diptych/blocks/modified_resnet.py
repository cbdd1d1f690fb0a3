"""CLIP's ResNet (Radford et al. 2021, section 2.4): a deeper stem, blurred strides, and attention for pooling."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.blocks.attention import Attention
from diptych.blocks.convolution import ConvNorm
from diptych.blocks.resnet import MapOutput
from diptych.blocks.vit import fit_positions


class BlurredBottleneck(nn.Module):
    """A bottleneck whose stride is an average pool, in the branch and in the shortcut (Zhang 2019: less aliasing)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.stride = stride
        self.conv1 = ConvNorm(inputs, width, 1, activation="relu")
        self.conv2 = ConvNorm(width, width, 3, activation="relu")
        self.conv3 = ConvNorm(width, outputs, 1)
        self.shortcut = ConvNorm(inputs, outputs, 1) if stride > 1 or inputs != outputs else None

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D2 H2 W2"]:
        branch = self.conv3(self._stride(self.conv2(self.conv1(x))))
        return F.relu(branch + (x if self.shortcut is None else self.shortcut(self._stride(x))))

    def _stride(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H2 W2"]:
        return x if self.stride == 1 else F.avg_pool2d(x, self.stride)


class AttentionPool(nn.Module):
    """Pool a map by one attention step: the average cell asks, the average and all cells answer.

    Args:
        side: cells along one side of the map that the positions are learned for; other maps interpolate them.
    """

    def __init__(self, width: int, heads: int, output_width: int, *, side: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1 + side**2, width) * width**-0.5)
        self.attention = Attention(width, heads, output_width=output_width)
        for projection in self.attention.children():
            assert isinstance(projection, nn.Linear)
            nn.init.normal_(projection.weight, std=width**-0.5)
            nn.init.zeros_(projection.bias)

    def forward(self, map: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D2"]:
        height, width = map.shape[2:]
        cells = map.flatten(2).transpose(1, 2)
        cells = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1)
        cells = cells + fit_positions(self.positions, height, width, leading=1)
        pooled: Tensor = self.attention(cells[:, :1], cells)[:, 0]
        return pooled


class ModifiedResNet(nn.Module):
    """The trunk of CLIP's RN50 and its larger kin.

    Args:
        depths: blocks in each of four stages.
        stem_width: 64 for RN50, 80 for RN50x4, 96 for RN50x16; the last map is 32 times as wide.
        output_width: width of the pooled vector; the attention pool's last matrix projects to it.
        image_size: side of the picture that the pool's positions are learned for.
    """

    def __init__(
        self,
        depths: tuple[int, ...] = (3, 4, 6, 3),
        *,
        stem_width: int = 64,
        heads: int = 32,
        output_width: int = 1024,
        image_size: int = 224,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvNorm(channels, stem_width // 2, 3, stride=2, activation="relu"),
            ConvNorm(stem_width // 2, stem_width // 2, 3, activation="relu"),
            ConvNorm(stem_width // 2, stem_width, 3, activation="relu"),
            nn.AvgPool2d(2),
        )
        inputs, stages = stem_width, []
        for stage, depth in enumerate(depths):
            width, blocks = stem_width * 2**stage, []
            for position in range(depth):
                blocks.append(BlurredBottleneck(inputs, width, stride=2 if stage > 0 and position == 0 else 1))
                inputs = width * BlurredBottleneck.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        side = image_size // (4 * 2 ** (len(depths) - 1))
        self.pool = AttentionPool(inputs, heads, output_width, side=side)
        self.width = output_width
        for module in self.modules():  # each residual branch starts at zero, as in CLIP's code
            if isinstance(module, BlurredBottleneck):
                nn.init.zeros_(module.conv3.norm.weight)

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> MapOutput:
        x = self.stages(self.stem(pixels))
        return MapOutput(self.pool(x), x)
