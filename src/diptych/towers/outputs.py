"""What towers take and give back. A tower is anything that fits one of these Protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


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
