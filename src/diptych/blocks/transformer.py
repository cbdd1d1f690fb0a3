"""One transformer layer, and a stack of them."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from diptych.blocks.attention import Attention


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the approximate GELU that CLIP was trained with (Hendrycks & Gimpel 2016, section 2)."""

    def forward(self, x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "quick_gelu": QuickGELU}


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, hidden: int, *, activation: str = "gelu", dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.activation = ACTIVATIONS[activation]()
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        out: Tensor = self.fc2(self.dropout(self.activation(self.fc1(x))))
        return out


class TransformerLayer(nn.Module):
    """Self-attention and an MLP, each with a residual connection and a layer norm.

    Args:
        norm: "pre" normalises what enters a branch (Xiong et al. 2020), "post" the sum after it (Vaswani et al. 2017).
        dropout: on attention weights, inside the MLP and on both branches, in [0, 1).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        activation: str = "gelu",
        norm: Literal["pre", "post"] = "pre",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.attention = Attention(width, heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLP(width, round(width * mlp_ratio), activation=activation, dropout=dropout)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        mask: Bool[Tensor, "#B 1 #S S"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "B S D"]:
        if self.norm == "pre":
            x = x + self.dropout(self.attention(self.norm1(x), mask=mask, causal=causal))
            x = x + self.dropout(self.mlp(self.norm2(x)))
        else:
            x = self.norm1(x + self.dropout(self.attention(x, mask=mask, causal=causal)))
            x = self.norm2(x + self.dropout(self.mlp(x)))
        return x


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
