"""The Perceiver Resampler: any number of visual features become a few vectors."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.blocks.attention import Attention


def feed_forward(width: int, ratio: int = 4) -> nn.Sequential:
    """Layer norm, then two linear layers without bias and GELU between them."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, ratio * width, bias=False),
        nn.GELU(),
        nn.Linear(ratio * width, width, bias=False),
    )


class PerceiverAttention(nn.Module):
    """Latents look at the features and at themselves: q = LN(l) and k = v = [LN(x); LN(l)]."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_width=head_width, bias=False)

    def forward(self, x: Float[Tensor, "N P D"], latents: Float[Tensor, "N K D"]) -> Float[Tensor, "N K D"]:
        latents = self.norm_latents(latents)
        out: Tensor = self.attention(latents, torch.cat([self.norm_media(x), latents], dim=1))
        return out


class PerceiverResampler(nn.Module):
    """Learned latents that read a picture's features in a few layers (Alayrac et al. 2022, section 2.1 and figure 5).

    l <- l + attention(q = LN(l), k = v = [LN(x); LN(l)]);  l <- l + FF(l);  at last a layer norm.

    Args:
        width: of the features and of the latents.
        latents: vectors that come out, whatever came in.
        frames: frames of a video that have an embedding of their own, added to their features; None: none.
        media: pictures of a document that have an embedding of their own, by their number; None: none.
    """

    def __init__(
        self,
        width: int,
        *,
        latents: int = 64,
        layers: int = 6,
        heads: int = 8,
        head_width: int = 64,
        frames: int | None = None,
        media: int | None = None,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.frame_embs = None if frames is None else nn.Parameter(torch.randn(frames, width))
        self.media_time_embs = None if media is None else nn.Parameter(torch.randn(media, 1, width))
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(width, heads, head_width), feed_forward(width)]) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "N S P D"], number: Int[Tensor, "N"] | None = None) -> Float[Tensor, "N K D"]:
        """`x` are S frames (1 for a picture) of P cells; `number` counts a document's pictures, from 0."""
        if self.frame_embs is not None:
            x = x + self.frame_embs[: x.shape[1], None]
        x = x.flatten(1, 2)
        if self.media_time_embs is not None and number is not None:
            x = x + self.media_time_embs[number]
        latents = self.latents.expand(len(x), -1, -1)
        for layer in self.layers:
            attention, transform = layer.children()
            latents = latents + attention(x, latents)
            latents = latents + transform(latents)
        out: Tensor = self.norm(latents)
        return out
