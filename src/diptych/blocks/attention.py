"""Multi-head attention: the only one in the house."""

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.blocks.cache import LayerCache
from diptych.blocks.linear import Linear
from diptych.blocks.rotary import Rotation, rotate


class KeyValues(NamedTuple):
    """A memory that is projected already, so that it can be attended to many times."""

    keys: Float[Tensor, "B heads S head_width"]
    values: Float[Tensor, "B heads S head_width"]

    def select(self, rows: Tensor) -> "KeyValues":
        """Those of `rows` (int64), in that order, repeats allowed."""
        return KeyValues(self.keys[rows], self.values[rows])


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V over several heads (Vaswani et al. 2017, section 3.2.2).

    Queries come from `x`, keys and values from `memory`, or from `x` too where there is no memory (self-attention).
    Four separate projections, as most public checkpoints store them.

    Args:
        width: width of the queries and, without `head_width`, of all heads together: then a multiple of `heads`.
        kv_heads: heads of keys and values, each shared by as many heads of queries (Ainslie et al. 2023); a divisor of
            `heads`, which is the default.
        head_width: width of one head, where it is not `width // heads`.
        memory_width: width of the memory, where it differs.
        output_width: width of what comes out, where it differs.
        bias: whether the projections have one.
        dropout: chance of dropping an attention weight in training, in [0, 1).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        head_width: int | None = None,
        memory_width: int | None = None,
        output_width: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.kv_heads = kv_heads or heads
        self.dropout = dropout
        head_width = head_width or width // heads
        kv_width = head_width * self.kv_heads
        self.q_proj = Linear(width, head_width * heads, bias=bias)
        self.k_proj = Linear(memory_width or width, kv_width, bias=bias)
        self.v_proj = Linear(memory_width or width, kv_width, bias=bias)
        self.out_proj = Linear(head_width * heads, output_width or width, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        memory: Float[Tensor, "B M D2"] | KeyValues | None = None,
        *,
        mask: Bool[Tensor, "#B 1 #S #M"] | None = None,
        causal: bool = False,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "B S D3"]:
        """Args:
        memory: what to attend to, also as `key_values` gave it; `x` itself if None.
        mask: True where a query may look. `causal` alone is the fast way to `masks.causal`; not with a mask.
        rotation: of the positions of `x`, in self-attention.
        cache: takes the keys and values of `x` and gives those of all that came before it too, in self-attention.
        """
        q = self._split(self.q_proj(x), self.heads)
        if isinstance(memory, KeyValues):
            k, v = memory
        else:
            k, v = self.key_values(x if memory is None else memory)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if cache is not None:
            k, v = cache.append(k, v)
        dropout = self.dropout if self.training else 0.0
        # on a processor torch's gradient of attention takes three times as long in bf16 as in fp32 (torch 2.13)
        slow = q.requires_grad and q.device.type == "cpu"
        if slow:
            q, k, v = q.float(), k.float(), v.float()
        with torch.autocast("cpu", enabled=False) if slow else nullcontext():
            if self.kv_heads == self.heads:
                heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)
            else:
                heads = self._grouped(q, k, v, mask, causal, dropout)
        out: Tensor = self.out_proj(heads.to(x.dtype).transpose(1, 2).flatten(2))
        return out

    def key_values(self, memory: Float[Tensor, "B M D2"]) -> KeyValues:
        """The memory projected, to be given to `forward` in its place."""
        return KeyValues(
            self._split(self.k_proj(memory), self.kv_heads), self._split(self.v_proj(memory), self.kv_heads)
        )

    def _grouped(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, dropout: float
    ) -> Float[Tensor, "B heads S head_width"]:
        if q.shape[2] == 1:  # one query: the heads of a group are as many queries, and nothing is copied
            grouped = q.reshape(len(q), self.kv_heads, -1, q.shape[3])
            out = F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask, dropout_p=dropout)
            return out.flatten(1, 2).unsqueeze(2)
        times = self.heads // self.kv_heads
        k, v = torch.repeat_interleave(k, times, dim=1), torch.repeat_interleave(v, times, dim=1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)

    @staticmethod
    def _split(x: Float[Tensor, "B S D"], heads: int) -> Float[Tensor, "B heads S head_width"]:
        batch, length, width = x.shape
        return x.view(batch, length, heads, width // heads).transpose(1, 2)
