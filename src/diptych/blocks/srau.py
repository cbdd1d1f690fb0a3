"""Cross-attention whose result is gated: the self-resurrecting activation unit, and attention on attention.

All of these take the place of `TransformerLayer.cross`. `h` is the state of the text, `A` what attention to the
picture gives it, and * goes unit by unit.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.blocks.attention import Attention, KeyValues
from diptych.blocks.linear import Linear


def gates(share: Float[Tensor, "*S"], threshold: float) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S"]]:
    """(share, 1 - share), each set to 0 where it is at or below `threshold` (Chen et al. 2022, equation 5).

    A shut gate passes no gradient to the unit; for a threshold below 0.5 the other gate of the pair is then open, and
    through its gradient a shut one can open again.
    """
    return F.threshold(share, threshold, 0.0), F.threshold(1 - share, threshold, 0.0)


class _Gated(nn.Module):
    """Attention to a memory, text and memory going through one norm, as in the released code of VisualGPT."""

    def __init__(
        self, width: int, heads: int, *, threshold: float = 0.2, norm_eps: float = 1e-5, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.attention = Attention(width, heads, dropout=dropout)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.seen: dict[str, Tensor] = {}
        """Of the last forward in training: the visual gate's mean, and the shares of units with an open gate."""

    def _look(self, normed: Tensor, memory: Tensor | KeyValues, mask: Tensor | None) -> Tensor:
        if not isinstance(memory, KeyValues):
            memory = self._project(memory)
        out: Tensor = self.attention(normed, memory, mask=mask)
        return out

    def _project(self, memory: Tensor) -> KeyValues:
        return self.attention.key_values(self.norm(memory))

    def _note(self, *pairs: tuple[Tensor, Tensor]) -> None:
        """Keep what there is to see of the (visual, language) gates of each level."""
        if self.training:
            visual, language = ([gate.detach() for gate in level] for level in zip(*pairs))
            self.seen = {
                "visual": torch.stack([gate.mean() for gate in visual]).mean(),
                "visual_open": torch.stack([gate.count_nonzero() / gate.numel() for gate in visual]).mean(),
                "language_open": torch.stack([gate.count_nonzero() / gate.numel() for gate in language]).mean(),
            }


class SRAU(_Gated):
    """VisualGPT's unit as in the paper: out = B_vis * A + B_lan * h (Chen et al. 2022, equations 4 and 5).

    B_vis and B_lan are `gates(sigmoid(h))`. There is no other residual connection.

    Deviation: text and memory are normalised before they attend, as in the released code; the paper names no norm.

    Args:
        threshold: tau, in [0, 0.5).
    """

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        memory: Float[Tensor, "B M D"] | KeyValues,
        *,
        mask: Bool[Tensor, "#B 1 #S M"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """`memory` is the picture's tokens, or what `key_values` made of them."""
        visual, language = gates(x.sigmoid(), self.threshold)
        self._note((visual, language))
        return visual * self._look(self.norm(x), memory, mask) + language * x

    def key_values(self, memory: Float[Tensor, "B M D"]) -> KeyValues:
        """The memory projected, so that a text can be written without doing it again for every token."""
        return self._project(memory)


class MeshedSRAU(_Gated):
    """VisualGPT's unit as in its released code: every level k of the encoder has learned gates of its own.

    alpha_k = sigmoid(W_k [h; A_k]); B_lan, B_vis = gates(alpha_k); o_k = B_lan * h + B_vis * A_k;
    out = sum_k o_k / sqrt(levels). Attention has the same weights for all levels. There is no other residual.

    Deviation: the norm before attention is a module of its own; the released code reuses the layer's first norm.

    Args:
        levels: of the encoder.
        threshold: tau, in [0, 0.5).
    """

    def __init__(self, width: int, heads: int, *, levels: int = 3, **options: Any) -> None:
        super().__init__(width, heads, **options)
        self.alphas = nn.ModuleList(Linear(2 * width, width) for _ in range(levels))

    def forward(
        self, x: Float[Tensor, "B S D"], memory: Any, *, mask: Bool[Tensor, "#B 1 #S M"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """`memory` is a tuple with the picture's tokens (B M D) at each level, or what `key_values` made of it."""
        total, noted, normed = torch.zeros_like(x), [], self.norm(x)
        for alpha, level in zip(self.alphas, memory, strict=True):
            attended = self._look(normed, level, mask)
            language, visual = gates(alpha(torch.cat([x, attended], dim=-1)).sigmoid(), self.threshold)
            total = total + language * x + visual * attended
            noted.append((visual, language))
        self._note(*noted)
        out: Tensor = total / len(noted) ** 0.5
        return out

    def key_values(self, memory: tuple[Tensor, ...]) -> tuple[KeyValues, ...]:
        """Each level projected."""
        return tuple(self._project(level) for level in memory)


class AttentionOnAttention(_Gated):
    """x + i * sigmoid(g), where i and g are linear in [A; q] and q = norm(x) (Huang et al. 2019, equations 3 to 5)."""

    def __init__(self, width: int, heads: int, **options: Any) -> None:
        super().__init__(width, heads, **options)
        self.information = Linear(2 * width, 2 * width)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        memory: Float[Tensor, "B M D"] | KeyValues,
        *,
        mask: Bool[Tensor, "#B 1 #S M"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """`memory` is the picture's tokens, or what `key_values` made of them."""
        normed = self.norm(x)
        both = torch.cat([self._look(normed, memory, mask), normed], dim=-1)
        out: Tensor = x + F.glu(self.information(both), dim=-1)
        return out

    def key_values(self, memory: Float[Tensor, "B M D"]) -> KeyValues:
        """The memory projected."""
        return self._project(memory)
