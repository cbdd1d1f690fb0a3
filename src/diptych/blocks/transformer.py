"""One transformer layer, and a stack of them."""

from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.blocks.attention import Attention
from diptych.blocks.cache import LayerCache
from diptych.blocks.linear import Linear
from diptych.blocks.rotary import Rotation


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the approximate GELU that CLIP was trained with (Hendrycks & Gimpel 2016, section 2)."""

    def forward(self, x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, Any] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
}
NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(
        self, width: int, hidden: int, *, activation: str = "gelu", bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden, bias=bias)
        self.activation = ACTIVATIONS[activation]()
        self.fc2 = Linear(hidden, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        out: Tensor = self.fc2(self.dropout(self.activation(self.fc1(x))))
        return out


class GatedMLP(nn.Module):
    """W2 (SiLU(W1 x) * V x): SwiGLU (Shazeer 2020, equation 6)."""

    def __init__(self, width: int, hidden: int, *, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.gate = Linear(width, hidden, bias=bias)
        self.fc1 = Linear(width, hidden, bias=bias)
        self.fc2 = Linear(hidden, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        out: Tensor = self.fc2(self.dropout(F.silu(self.gate(x)) * self.fc1(x)))
        return out


class TransformerLayer(nn.Module):
    """Self-attention and an MLP, each with a residual connection and a norm.

    Between the two is a place for a module that looks at something else, `cross`: a family that has one puts it there
    (`layer.cross = CrossAttention(...)`), so that the layer's own weights keep their names. It is called with the state
    and `memory` (and `memory_mask` where given) and returns the new state, its own norm and residual included.

    Args:
        kv_heads: heads of keys and values, see `Attention`.
        activation: of the MLP; "swiglu" is the gated one.
        norm: "pre" normalises what enters a branch (Xiong et al. 2020), "post" the sum after it (Vaswani et al. 2017).
        normalization: "layer" norm, or "rms": without mean and bias (Zhang and Sennrich 2019).
        dropout: on attention weights, inside the MLP and on both branches, in [0, 1).
        bias: whether linear layers have one.
    """

    cross: nn.Module | None

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        norm: Literal["pre", "post"] = "pre",
        normalization: Literal["layer", "rms"] = "layer",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.attention = Attention(width, heads, kv_heads=kv_heads, bias=bias, dropout=dropout)
        self.norm1 = NORMS[normalization](width, eps=norm_eps)
        self.cross = None
        hidden = round(width * mlp_ratio)
        self.mlp: nn.Module
        if activation == "swiglu":
            self.mlp = GatedMLP(width, hidden, bias=bias, dropout=dropout)
        else:
            self.mlp = MLP(width, hidden, activation=activation, bias=bias, dropout=dropout)
        self.norm2 = NORMS[normalization](width, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        mask: Bool[Tensor, "#B 1 #S M"] | None = None,
        causal: bool = False,
        rotation: Rotation | None = None,
        cache: LayerCache | None = None,
        memory: Any = None,
        memory_mask: Bool[Tensor, "#B 1 #S M2"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """`mask`, `causal`, `rotation` and `cache` as in `Attention`; `memory` is what `cross` looks at."""
        seen = {"mask": mask, "causal": causal, "rotation": rotation, "cache": cache}
        if self.norm == "pre":
            x = x + self.dropout(self.attention(self.norm1(x), **seen))
            x = self._across(x, memory, memory_mask)
            x = x + self.dropout(self.mlp(self.norm2(x)))
        else:
            x = self.norm1(x + self.dropout(self.attention(x, **seen)))
            x = self._across(x, memory, memory_mask)
            x = self.norm2(x + self.dropout(self.mlp(x)))
        return x

    def _across(self, x: Tensor, memory: Any, memory_mask: Tensor | None) -> Tensor:
        if self.cross is None or memory is None:
            return x
        out: Tensor = self.cross(x, memory) if memory_mask is None else self.cross(x, memory, mask=memory_mask)
        return out


class CrossAttention(nn.Module):
    """Attention to a memory with a residual connection and a norm, as a decoder has it (Vaswani et al. 2017, 3.1).

    Args:
        norm: "pre" or "post", as in `TransformerLayer`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        memory_width: int | None = None,
        norm: Literal["pre", "post"] = "pre",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.place = norm
        self.attention = Attention(width, heads, memory_width=memory_width, dropout=dropout)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B S D"], memory: Any, *, mask: Bool[Tensor, "#B 1 #S M"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """`memory` is (B M D2), or what `key_values` made of it."""
        if self.place == "pre":
            x = x + self.dropout(self.attention(self.norm(x), memory, mask=mask))
        else:
            x = self.norm(x + self.dropout(self.attention(x, memory, mask=mask)))
        return x

    def key_values(self, memory: Float[Tensor, "B M D2"]) -> Any:
        """The memory projected, so that a text can be written without doing it again for every token."""
        return self.attention.key_values(memory)


class Transformer(nn.Module):
    """A stack of layers. Weights start as in CLIP's code (Radford et al. 2021): the deeper, the smaller each branch.

    Queries, keys and values have standard deviation width^-0.5, what returns to the residual stream
    width^-0.5 (2 layers)^-0.5, the MLP's first matrix (2 width)^-0.5; biases start at zero.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        norm: Literal["pre", "post"] = "pre",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(
                width,
                heads,
                mlp_ratio=mlp_ratio,
                activation=activation,
                norm=norm,
                norm_eps=norm_eps,
                dropout=dropout,
            )
            for _ in range(layers)
        )
        residual_std = width**-0.5 * (2 * layers) ** -0.5
        stds = {"q_proj": width**-0.5, "k_proj": width**-0.5, "v_proj": width**-0.5, "out_proj": residual_std}
        stds |= {"fc1": (2 * width) ** -0.5, "fc2": residual_std}
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=stds[name.rsplit(".", 1)[-1]])
                nn.init.zeros_(module.bias)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        mask: Bool[Tensor, "#B 1 #S S"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "B S D"]:
        for layer in self.layers:
            x = layer(x, mask=mask, causal=causal)
        return x
