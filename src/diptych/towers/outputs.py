"""What towers take and give back. A tower is anything that fits one of these Protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Bool, Float, Int
    from torch import Tensor, nn


class VisionOutput(NamedTuple):
    """One vector per picture, and one per patch or grid cell in row-major order (None where the tower has no grid)."""

    pooled: Float[Tensor, "B D"]
    tokens: Float[Tensor, "B P D2"] | None


class TextOutput(NamedTuple):
    """One vector per text, and one per token. States at padded tokens mean nothing."""

    pooled: Float[Tensor, "B D"]
    tokens: Float[Tensor, "B T D"]


class VisionTower(Protocol):
    """Encodes normalised pixels. `width` is the width of `pooled`."""

    width: int

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> VisionOutput: ...


class TextTower(Protocol):
    """Encodes token ids padded on the right; `token_mask` is True at real tokens. `width` is the width of `pooled`.

    Columns that are padding for every text of a batch may be cut off: the result does not change.
    """

    width: int

    def forward(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> TextOutput: ...


@runtime_checkable
class Cache(Protocol):
    """What a language model keeps of the tokens that it has read, for each row of a batch."""

    @property
    def length(self) -> int:
        """Positions that are kept."""
        ...

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows of the batch, in this order, repeats allowed."""
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """A causal language model. Pictures may stand among its tokens as embeddings, and blocks between its layers."""

    width: int
    vocab_size: int

    @property
    def layers(self) -> nn.ModuleList: ...

    def embed(self, tokens: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """The tokens' embeddings, without positions."""
        ...

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        mask: Bool[Tensor, "#B 1 #S M"] | None = None,
        positions: Int[Tensor, "#B S"] | None = None,
        cache: Any = None,
        before: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """Hidden states after the last norm.

        Args:
            x: embeddings, of tokens and of anything else.
            mask: True where a position may look, over what is cached and `x`; None is the causal mask.
            positions: of `x`; None counts on from what is cached.
            cache: from `new_cache`; takes up `x`.
            before: called before each layer with its number and its input; gives what the layer gets instead.
        """
        ...

    def head_weight(self) -> Float[Tensor, "V D"]:
        """The matrix that makes logits of hidden states."""
        ...

    def logits(self, hidden: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Scores of the next token before the softmax."""
        ...

    def new_cache(self, capacity: int = 64) -> Any:
        """An empty cache (see `Cache`) with room for `capacity` positions at first."""
        ...
