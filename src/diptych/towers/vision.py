"""Vision towers from scratch: the Vision Transformer, and any convolutional trunk."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.blocks.efficientnet import EfficientNet
from diptych.blocks.modified_resnet import ModifiedResNet
from diptych.blocks.resnet import ResNet
from diptych.blocks.transformer import Transformer
from diptych.blocks.vit import PatchEmbedding, fit_positions
from diptych.towers.outputs import VisionOutput


class ViT(nn.Module):
    """Vision Transformer (Dosovitskiy et al. 2021), with CLIP's extra norm (Radford et al. 2021) where asked for.

    `pooled` is the class token, or the mean patch, after the last norm; `tokens` are the patches before it, as in
    transformers' `CLIPVisionModel`. Pictures of another size than the learned one have their positions interpolated.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        pooling: Literal["cls", "mean"] = "cls",
        embedding_norm: bool = False,
        patch_bias: bool = True,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width = width
        self.patches = PatchEmbedding(patch_size, width, bias=patch_bias)
        self.class_token = nn.Parameter(torch.randn(width) * width**-0.5) if pooling == "cls" else None
        leading = 1 if pooling == "cls" else 0
        self.positions = nn.Parameter(torch.randn(leading + (image_size // patch_size) ** 2, width) * width**-0.5)
        self.embedding_norm = nn.LayerNorm(width, eps=norm_eps) if embedding_norm else nn.Identity()
        self.transformer = Transformer(
            width, layers, heads, mlp_ratio=mlp_ratio, activation=activation, norm_eps=norm_eps, dropout=dropout
        )
        self.final_norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> VisionOutput:
        map = self.patches(pixels)
        x = map.flatten(2).transpose(1, 2)
        leading = 0 if self.class_token is None else 1
        if self.class_token is not None:
            x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        x = x + fit_positions(self.positions, map.shape[2], map.shape[3], leading=leading)
        x = self.transformer(self.embedding_norm(x))
        pooled = self.final_norm(x[:, 0] if leading else x)
        return VisionOutput(pooled if leading else pooled.mean(dim=1), x[:, leading:])


# On a CPU, the maps of more pixels than this leave the cache and the allocator's reach: half the speed.
_PIXELS_AT_ONCE = 8 * 224 * 224


class ConvTower(nn.Module):
    """A convolutional trunk as a tower: the cells of its last map are the tokens."""

    def __init__(self, trunk: ResNet | ModifiedResNet | EfficientNet) -> None:
        super().__init__()
        self.width = trunk.width
        self.trunk = trunk

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> VisionOutput:
        chunk = len(pixels)
        if pixels.device.type == "cpu" and not (self.training or torch.is_grad_enabled()):
            chunk = max(1, _PIXELS_AT_ONCE // (pixels.shape[2] * pixels.shape[3]))
        parts = [self.trunk(part) for part in torch.split(pixels, max(1, chunk))]
        pooled, map = (torch.cat(part) if len(parts) > 1 else part[0] for part in zip(*parts))
        return VisionOutput(pooled, map.flatten(2).transpose(1, 2))
