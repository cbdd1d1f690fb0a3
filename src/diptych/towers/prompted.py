"""A language model that has read its prompts and can be asked for the next token: what `diptych.decoding` drives."""

from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.blocks import masks
from diptych.blocks.attention import KeyValues
from diptych.towers.outputs import LanguageModel


@runtime_checkable
class Between(Protocol):
    """What a family puts before the layers while a text is written, e.g. Flamingo's gated cross-attention."""

    def __call__(self, layer: int, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]: ...

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows of the batch."""
        ...


@runtime_checkable
class Memory(Protocol):
    """What the layers' `cross` modules look at while a text is written: one entry for each layer, and who may look."""

    layers: list[Any]
    mask: Bool[Tensor, "B 1 1 M"] | None

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows of the batch."""
        ...


class Projected:
    """A memory that each layer's `cross` has projected once, so that no token does it again; see `Memory`.

    Args:
        layers: of a decoder, each with a `cross` whose `key_values` gives those of the memory or of its levels.
        memory: what they look at.
        keep: True at what may be looked at; everything if None.
    """

    def __init__(self, layers: nn.ModuleList, memory: Any, keep: Bool[Tensor, "B M"] | None = None) -> None:
        self.layers: list[Any] = [cast(Any, layer).cross.key_values(memory) for layer in layers]
        self.mask = None if keep is None or bool(keep.all()) else masks.padding(keep)

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows, in this order, repeats allowed."""
        self.layers = [
            layer.select(rows) if isinstance(layer, KeyValues) else tuple(level.select(rows) for level in layer)
            for layer in self.layers
        ]
        self.mask = None if self.mask is None else self.mask[rows]


class Prompted:
    """Rows of a batch that are being written; see `decoding.SourceWithStates`.

    Prompts of different length are padded anywhere: what is not kept is never seen, and positions count kept tokens
    only, so that a row's text does not depend on what else is in the batch.

    Args:
        lm: the language model.
        x: the prompts' embeddings, pictures among them.
        keep: True at what is no padding; at least once in each row.
        mask: True where a position of the prompt may look; None is the causal mask. `keep` is joined to it.
        before: called before each layer.
        memory: for a model whose layers have a `cross` module.
        positions: of each token of the prompts; kept tokens are counted if None.
    """

    def __init__(
        self,
        lm: LanguageModel,
        x: Float[Tensor, "B S D"],
        keep: Bool[Tensor, "B S"],
        *,
        mask: Bool[Tensor, "#B 1 S S"] | None = None,
        before: Between | None = None,
        memory: Memory | None = None,
        positions: Int[Tensor, "B S"] | None = None,
    ) -> None:
        self.lm, self.before, self.memory = lm, before, memory
        self.keep = keep
        self.whole = bool(keep.all())  # nothing is padded, so that no mask is needed for single tokens
        if positions is None:
            positions = (keep.cumsum(dim=1) - 1).clamp(min=0)
        last = keep.shape[1] - 1 - keep.flip(1).int().argmax(dim=1)
        self.written = positions.gather(1, last[:, None])[:, 0] + 1  # the next position of each row
        self.cache = lm.new_cache(2 * x.shape[1] + 32)
        if not self.whole:
            mask = (masks.causal(x.shape[1], x.device) if mask is None else mask) & masks.padding(keep)
        hidden = self._read(x, mask, positions)
        self.prompt: tuple[Float[Tensor, "R S D"], Bool[Tensor, "R S"]] | None = (hidden, keep)
        self.hidden: Float[Tensor, "R D"] = hidden[torch.arange(len(hidden), device=hidden.device), last]

    def logits(self) -> Float[Tensor, "R V"]:
        """Scores of each row's next token, in float32."""
        return self.lm.logits(self.hidden).float()

    def advance(self, tokens: Int[Tensor, "R"]) -> None:
        """Write one more token in each row."""
        self.prompt = None
        if not self.whole:
            self.keep = torch.cat([self.keep, self.keep.new_ones(len(self.keep), 1)], dim=1)
        mask = None if self.whole else masks.padding(self.keep)
        self.hidden = self._read(self.lm.embed(tokens[:, None]), mask, self.written[:, None])[:, 0]
        self.written = self.written + 1

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows, in this order, repeats allowed."""
        self.keep, self.written, self.hidden = self.keep[rows], self.written[rows], self.hidden[rows]
        self.prompt = None if self.prompt is None else (self.prompt[0][rows], self.keep)
        self.cache.select(rows)
        for part in (self.before, self.memory):
            if part is not None:
                part.select(rows)

    def _read(self, x: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        extra: dict[str, Any] = {}
        if self.memory is not None:
            extra = {"memory": self.memory.layers, "memory_mask": self.memory.mask}
        return self.lm.forward(x, mask=mask, positions=positions, cache=self.cache, before=self.before, **extra)
