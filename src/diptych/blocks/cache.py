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
        self._keys: Float[Tensor, "B heads capacity head_width"] | None = None
        self._values: Float[Tensor, "B heads capacity head_width"] | None = None

    def append(
        self, keys: Float[Tensor, "B heads S head_width"], values: Float[Tensor, "B heads S head_width"]
    ) -> tuple[Float[Tensor, "B heads S2 head_width"], Float[Tensor, "B heads S2 head_width"]]:
        """Keep these too; gives all that are kept, as views."""
        new = keys.shape[2]
        total = self.length + new
        while total > self.capacity:
            self.capacity *= 2
        self._keys = self._with_room(self._keys, keys)
        self._values = self._with_room(self._values, values)
        self._keys.narrow(2, self.length, new).copy_(keys)
        self._values.narrow(2, self.length, new).copy_(values)
        self.length = total
        return self._keys.narrow(2, 0, total), self._values.narrow(2, 0, total)

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows, in this order, repeats allowed."""
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys.index_select(0, rows), self._values.index_select(0, rows)

    def _with_room(self, kept: Tensor | None, like: Tensor) -> Tensor:
        if kept is not None and kept.shape[2] == self.capacity:
            return kept
        larger = like.new_empty(*like.shape[:2], self.capacity, like.shape[3])
        if kept is not None:
            larger.narrow(2, 0, self.length).copy_(kept.narrow(2, 0, self.length))
        return larger


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
