"""The convolutions of DALL-E's discrete autoencoder: pictures to logits of codes, and codes back to pictures."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Block(nn.Module):
    """id(x) + gain * four convolutions with ReLU before each, the inner ones a quarter as wide.

    Args:
        gain: of the branch: 1 / (blocks in the network)^2.
        kernels: of the four: (3, 3, 3, 1) in the encoder, (1, 3, 3, 3) in the decoder.
    """

    def __init__(self, inputs: int, outputs: int, gain: float, kernels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.gain = gain
        widths = [inputs, *[outputs // 4] * 3, outputs]
        self.identity = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.branch = nn.ModuleList(
            nn.Conv2d(a, b, kernel, padding=kernel // 2) for a, b, kernel in zip(widths, widths[1:], kernels)
        )

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D2 H W"]:
        y = x
        for convolution in self.branch:
            y = convolution(F.relu(y))
        out: Tensor = self.identity(x) + self.gain * y
        return out


class CodeEncoder(nn.Module):
    """Logits of codes, one for each 8 x 8 pixels (Ramesh et al. 2021, appendix A.2, and the released code).

    Args:
        codes: in the codebook; the paper's has 8,192.
        width: after the first convolution, 256 in the paper; each of four groups of blocks but the first doubles it,
            each but the last halves the map.
        depth: blocks in a group.
    """

    def __init__(self, codes: int = 8192, *, width: int = 256, depth: int = 2, channels: int = 3) -> None:
        super().__init__()
        self.input = nn.Conv2d(channels, width, 7, padding=3)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.groups = nn.ModuleList(
            nn.Sequential(*(Block(a if i == 0 else b, b, 1 / (4 * depth) ** 2, (3, 3, 3, 1)) for i in range(depth)))
            for a, b in zip(widths, widths[1:])
        )
        self.output = nn.Conv2d(8 * width, codes, 1)

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H2 W2"]:
        x = self.input(pixels)
        for i, group in enumerate(self.groups):
            x = group(x)
            if i < len(self.groups) - 1:
                x = F.max_pool2d(x, 2)
        logits: Tensor = self.output(F.relu(x))
        return logits


class CodeDecoder(nn.Module):
    """Pictures from codes, or from weights of codes: the encoder the other way round.

    Args:
        start: width after the first convolution, 128 in the paper.
        outputs: channels of what comes out.
    """

    def __init__(
        self, codes: int = 8192, *, width: int = 256, depth: int = 2, start: int = 128, outputs: int = 6
    ) -> None:
        super().__init__()
        self.input = nn.Conv2d(codes, start, 1)
        widths = [start, 8 * width, 4 * width, 2 * width, width]
        self.groups = nn.ModuleList(
            nn.Sequential(*(Block(a if i == 0 else b, b, 1 / (4 * depth) ** 2, (1, 3, 3, 3)) for i in range(depth)))
            for a, b in zip(widths, widths[1:])
        )
        self.output = nn.Conv2d(width, outputs, 1)

    def forward(self, codes: Float[Tensor, "B K H W"]) -> Float[Tensor, "B C H2 W2"]:
        x = self.input(codes)
        for i, group in enumerate(self.groups):
            x = group(x)
            if i < len(self.groups) - 1:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
        out: Tensor = self.output(F.relu(x))
        return out
