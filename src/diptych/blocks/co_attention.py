"""Co-attention: two streams of their own widths, each of which looks at the other."""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.blocks.attention import Attention
from diptych.blocks.transformer import MLP


class Streams(NamedTuple):
    """The states of a text and of a picture's regions."""

    text: Float[Tensor, "R T D"]
    image: Float[Tensor, "R P D2"]


class CoAttention(nn.Module):
    """One co-attentional transformer layer (Lu et al. 2019, ViLBERT, figure 2b).

    text' = norm(text + W attention(q = text, k = v = image)) and image' the same the other way round, both from the
    states before the layer; then each stream has an MLP of its own, with residual and norm (post-norm, as BERT).

    Args:
        width, image_width: of the streams.
        between: width of all heads together.
        mlp_ratio: hidden width of each MLP, in widths of its stream.
    """

    def __init__(
        self,
        width: int,
        image_width: int,
        between: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        image_mlp_ratio: float = 1.0,
        norm_eps: float = 1e-12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.text = _Looks(width, image_width, between, heads, mlp_ratio, norm_eps, dropout)
        self.image = _Looks(image_width, width, between, heads, image_mlp_ratio, norm_eps, dropout)

    def forward(
        self,
        text: Float[Tensor, "R T D"],
        image: Float[Tensor, "R P D2"],
        *,
        text_mask: Bool[Tensor, "#R 1 1 T"] | None = None,
        image_mask: Bool[Tensor, "#R 1 1 P"] | None = None,
    ) -> Streams:
        """Masks say which of a stream's positions may be looked at (`masks.padding`)."""
        return Streams(self.text(text, image, image_mask), self.image(image, text, text_mask))


class _Looks(nn.Module):
    """A stream looks at the other, then at itself through an MLP."""

    def __init__(
        self, width: int, other: int, between: int, heads: int, mlp_ratio: float, norm_eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.attention = Attention(
            width, heads, head_width=between // heads, memory_width=other, output_width=width, dropout=dropout
        )
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLP(width, round(width * mlp_ratio))
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "R S D"], other: Float[Tensor, "R M D2"], mask: Bool[Tensor, "#R 1 1 M"] | None
    ) -> Float[Tensor, "R S D"]:
        x = self.norm1(x + self.dropout(self.attention(x, other, mask=mask)))
        out: Tensor = self.norm2(x + self.dropout(self.mlp(x)))
        return out
