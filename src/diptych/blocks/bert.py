"""What BERT (Devlin et al. 2019) has beside its transformer: embeddings, pooler, the head that guesses words."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class TextEmbedding(nn.Module):
    """norm(word + position + type), for texts of one or two segments (Devlin et al. 2019, figure 2).

    Args:
        length: most tokens of a text.
        types: kinds of segments.
    """

    def __init__(
        self, vocab_size: int, length: int, width: int, *, types: int = 2, norm_eps: float = 1e-12, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(length, width)
        self.types = nn.Embedding(types, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)

    def added(self, tokens: Int[Tensor, "B T"], types: Int[Tensor, "B T"] | None = None) -> Float[Tensor, "B T D"]:
        """The sum, without norm and dropout. `types` is 0 everywhere if None."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        kinds = self.types.weight[0] if types is None else self.types(types)
        total: Tensor = self.words(tokens) + kinds + self.positions(places)
        return total

    def forward(self, tokens: Int[Tensor, "B T"], types: Int[Tensor, "B T"] | None = None) -> Float[Tensor, "B T D"]:
        out: Tensor = self.dropout(self.norm(self.added(tokens, types)))
        return out


class Pooler(nn.Module):
    """tanh(W h + b) of the first position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B D"]:
        pooled: Tensor = self.dense(x[:, 0]).tanh()
        return pooled


class WordHead(nn.Module):
    """Logits of a vocabulary: norm(gelu(W h + b)) E^T + c, with E the embedding of words, or vectors of its own.

    Args:
        own: whether E is the head's own, `output`.
    """

    def __init__(self, width: int, vocab_size: int, *, own: bool = False, norm_eps: float = 1e-12) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.output = nn.Parameter(torch.randn(vocab_size, width) * 0.02) if own else None
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Float[Tensor, "N D"], words: Float[Tensor, "V D"]) -> Float[Tensor, "N V2"]:
        """Args:
        x: the states at some tokens.
        words: the embedding's weights, which a head with vectors of its own does not need.
        """
        return F.linear(self.norm(F.gelu(self.dense(x))), words if self.output is None else self.output, self.bias)


def initialise(model: nn.Module, std: float = 0.02) -> None:
    """Fresh weights as BERT draws them: deviation `std` (truncated at two deviations), biases 0, norms 1 and 0."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
