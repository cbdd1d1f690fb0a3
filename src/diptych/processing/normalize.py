"""Pixels to floats, on the device where the model is."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


class Normalize(nn.Module):
    """uint8 pixels in [0, 255] to (x / 255 - mean) / std; float pixels are taken as normalised and passed through.

    Mean and standard deviation (of each channel, in [0, 1]) belong to the processor, so they are not in the state dict.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        std_, mean_ = torch.tensor(std, dtype=torch.float64), torch.tensor(mean, dtype=torch.float64)
        # one multiply and one add: x / (255 std) - mean / std
        self.register_buffer("scale", (1 / (255 * std_)).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean_ / std_).float().view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalised pixels in the memory format of the input."""
        if pixels.is_floating_point():
            return pixels
        return torch.addcmul(self.shift, pixels.to(self.scale.dtype), self.scale)

    def undone(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Pixels in [0, 1], of uint8 or of normalised ones."""
        if not pixels.is_floating_point():
            return pixels.to(self.scale.dtype) / 255
        return (pixels - self.shift) / self.scale / 255
