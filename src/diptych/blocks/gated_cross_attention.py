"""Gated cross-attention: a layer that a finished language model does not notice until its gates open."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.blocks.attention import Attention, KeyValues
from diptych.blocks.resampler import feed_forward


class MediaAttention(nn.Module):
    """Attention from tokens, normalised, to pictures. What may see nothing gets zero."""

    def __init__(self, width: int, media_width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_width=head_width, memory_width=media_width, bias=False)

    def forward(self, x: Float[Tensor, "B S D"], media: KeyValues, mask: Bool[Tensor, "B 1 S M"]) -> Tensor:
        seeing = mask.any(dim=-1, keepdim=True)
        # a softmax over nothing is not a number: such rows look at everything, and what they get is multiplied by 0
        out: Tensor = self.attention(self.norm(x), media, mask=mask | ~seeing)
        return out * seeing[:, 0]


class GatedCrossAttention(nn.Module):
    """What stands before a layer of the language model (Alayrac et al. 2022, section 2.2 and figure 4).

    x <- x + tanh(a) attention(LN(x), media);  x <- x + tanh(b) FF(x).  a and b start at 0: then x stays, bit for bit.
    """

    def __init__(self, width: int, media_width: int, *, heads: int = 8, head_width: int = 64) -> None:
        super().__init__()
        self.attn = MediaAttention(width, media_width, heads, head_width)
        self.attn_gate = nn.Parameter(torch.zeros(1))
        self.ff = feed_forward(width)
        self.ff_gate = nn.Parameter(torch.zeros(1))

    def forward(
        self, x: Float[Tensor, "B S D"], media: KeyValues, mask: Bool[Tensor, "B 1 S M"]
    ) -> Float[Tensor, "B S D"]:
        """`media` as `key_values` gives it; `mask` is True where a token may look (see `masks.media`)."""
        x = x + self.attn(x, media, mask) * self.attn_gate.tanh()
        out: Tensor = x + self.ff(x) * self.ff_gate.tanh()
        return out

    def key_values(self, media: Float[Tensor, "B M D2"]) -> KeyValues:
        """The pictures' vectors projected, once for a whole text."""
        projected: KeyValues = self.attn.attention.key_values(media)
        return projected
