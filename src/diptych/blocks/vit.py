"""From pixels to a sequence: square patches, and learned positions that fit any grid."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """Cut a picture into square patches and project each (Dosovitskiy et al. 2021, equation 1)."""

    def __init__(self, patch_size: int, width: int, *, channels: int = 3, bias: bool = True) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, patch_size, stride=patch_size, bias=bias)
        nn.init.normal_(self.projection.weight, std=(channels * patch_size**2) ** -0.5)
        if self.projection.bias is not None:
            nn.init.zeros_(self.projection.bias)

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        """A map of patches; a rest of the picture that fills no patch is left out."""
        patches: Tensor = self.projection(pixels)
        return patches


def fit_positions(
    positions: Float[Tensor, "S D"], height: int, width: int, *, leading: int = 0, corners: bool = False
) -> Float[Tensor, "S2 D"]:
    """Learned positions of a square grid, interpolated to height x width cells where the grid differs.

    The first `leading` rows belong to no cell (a class token) and stay as they are. Bicubic, as ViT and CLIP do; with
    `corners` bilinear between cells whose corners keep their place, as ViLT does.
    """
    side = round((positions.shape[0] - leading) ** 0.5)
    if (height, width) == (side, side):
        return positions
    grid = positions[leading:].T.reshape(1, -1, side, side)
    mode = "bilinear" if corners else "bicubic"
    grid = F.interpolate(grid, size=(height, width), mode=mode, align_corners=corners)
    cells = grid[0].flatten(1).T.to(positions.dtype)
    return torch.cat([positions[:leading], cells])
