"""Keys and values of a text that is being written, kept from token to token."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor


class LayerCache:
    """Keys and values of one layer, in memory that is allocated once and doubled when it is full."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._kept: Float[Tensor, "2 B heads capacity head_width"] | None = None

    def append(
        self, keys: Float[Tensor, "B heads S head_width"], values: Float[Tensor, "B heads S head_width"]
    ) -> tuple[Float[Tensor, "B heads S2 head_width"], Float[Tensor, "B heads S2 head_width"]]:
        """Keep these too; gives all that are kept, as views."""
        batch, heads, new, head_width = keys.shape
        total = self.length + new
        if self._kept is None or total > self.capacity:
            while total > self.capacity:
                self.capacity *= 2
            larger = keys.new_empty(2, batch, heads, self.capacity, head_width)
            if self._kept is not None:
                larger[:, :, :, : self.length] = self._kept[:, :, :, : self.length]
            self._kept = larger
        self._kept[0, :, :, self.length : total] = keys
        self._kept[1, :, :, self.length : total] = values
        self.length = total
        return self._kept[0, :, :, :total], self._kept[1, :, :, :total]

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows, in this order, repeats allowed."""
        if self._kept is not None:
            self._kept = self._kept.index_select(1, rows)


class KVCache:
    """A `LayerCache` for each layer.

    Args:
        layers: how many there are.
        capacity: positions to make room for at first.
    """

    def __init__(self, layers: int, capacity: int = 64) -> None:
        self.layers = [LayerCache(capacity) for _ in range(layers)]

    @property
    def length(self) -> int:
        """Positions that are kept."""
        return self.layers[0].length

    def __iter__(self) -> Iterator[LayerCache]:
        return iter(self.layers)

    @torch.no_grad()
    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows of the batch, in this order, repeats allowed."""
        for layer in self.layers:
            layer.select(rows)
