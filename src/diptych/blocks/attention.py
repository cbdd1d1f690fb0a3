"""Multi-head attention: the only one in the house."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V over several heads (Vaswani et al. 2017, section 3.2.2).

    Queries come from `x`, keys and values from `memory`, or from `x` too where there is no memory (self-attention).
    Four separate projections, as most public checkpoints store them.

    Args:
        width: width of the queries and of all heads together; a multiple of `heads`.
        memory_width: width of the memory, where it differs.
        output_width: width of what comes out, where it differs.
        dropout: chance of dropping an attention weight in training, in [0, 1).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        memory_width: int | None = None,
        output_width: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(memory_width or width, width)
        self.v_proj = nn.Linear(memory_width or width, width)
        self.out_proj = nn.Linear(width, output_width or width)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        memory: Float[Tensor, "B M D2"] | None = None,
        *,
        mask: Bool[Tensor, "#B 1 #S #M"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "B S D3"]:
        """`mask` is True where a query may look. `causal` alone is the fast way to `masks.causal`; not with a mask."""
        source = x if memory is None else memory
        q, k, v = self._split(self.q_proj(x)), self._split(self.k_proj(source)), self._split(self.v_proj(source))
        dropout = self.dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)
        out: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B heads S head_width"]:
        batch, length, width = x.shape
        return x.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
