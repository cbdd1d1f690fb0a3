"""What families with pictures anywhere in their text share: a batch, or prompts, as tokens with places for pictures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from diptych.models import speaking
from diptych.models.dual_encoder import field_of
from diptych.processing.documents import IMAGE, place
from diptych.types import Batch, InputError


class Interleaved(NamedTuple):
    """Texts with pictures among them.

    Attributes:
        tokens: padded on the right.
        keep: True at what is no padding.
        said: True at what the model is to say itself.
        places: True where a picture stands: as many in each row as it has of `pixels`, which are in order.
        pixels: of all pictures; None where there is none.
    """

    tokens: Int[Tensor, "B T"]
    keep: Bool[Tensor, "B T"]
    said: Bool[Tensor, "B T"]
    places: Bool[Tensor, "B T"]
    pixels: Shaped[Tensor, "N C H W"] | None


def read_batch(batch: Batch, image: int) -> Interleaved:
    """A batch of documents as it is; one of pairs with a place for each row's picture after the start token.

    `image` is the number of the token that stands for a picture.
    """
    tokens, keep = field_of(batch, "tokens"), field_of(batch, "token_mask")
    said = speaking.targets(batch)
    if batch.picture_of is None:
        field_of(batch, "pixels")
        if batch.has_image is not None and not batch.has_image.all():
            raise InputError("batch: has_image: expected a picture in every row; rows without one can be documents")
        first = torch.ones_like(keep[:, :1])
        tokens = torch.cat([tokens[:, :1], torch.full_like(tokens[:, :1], image), tokens[:, 1:]], dim=1)
        keep = torch.cat([keep[:, :1], first, keep[:, 1:]], dim=1)
        said = torch.cat([said[:, :1], ~first, said[:, 1:]], dim=1)
    return Interleaved(tokens, keep, said, (tokens == image) & keep, batch.pixels)


def read_prompts(
    model: Any, pictures: Sequence[Sequence[speaking.Picture]], prompts: Sequence[Sequence[int]]
) -> Interleaved:
    """Prompts of a model with their pictures: at the prompt's own places, or after the start token if it has none.

    Raises `InputError` where a prompt has places for another number of pictures.
    """
    image = place(model.processor.text)
    placed = []
    for some, prompt in zip(pictures, prompts, strict=True):
        own = list(prompt)
        if image not in own:
            own[1:1] = [image] * len(some)
        if own.count(image) != len(some):
            raise InputError(f"question: expected {IMAGE} for each of {len(some)} pictures, got {own.count(image)}")
        placed.append(own)
    tokens, keep = speaking.padded(model, placed)
    every = [picture for some in pictures for picture in some]
    pixels = speaking.stack(model, every) if every else None
    return Interleaved(tokens, keep, torch.zeros_like(keep), (tokens == image) & keep, pixels)


def widened(text: Interleaved, width: int) -> Interleaved:
    """Each picture with `width` places in a row instead of one."""
    counts = torch.where(text.places, width, 1)[text.keep]
    lengths = (torch.where(text.places, width, 1) * text.keep).sum(dim=1)
    keep = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]

    def spread(values: Tensor) -> Tensor:
        wide = values.new_zeros(keep.shape)
        wide[keep] = values[text.keep].repeat_interleave(counts)
        return wide

    return Interleaved(spread(text.tokens), keep, spread(text.said), spread(text.places), text.pixels)


def positions(text: Interleaved, width: int) -> Int[Tensor, "B T"]:
    """The position of each token of a `widened` text, where all `width` vectors of a picture share one.

    So words are as near to the last cell as to the first, and a picture is one step in a text, wherever it stands.
    """
    later = text.places & ((text.places.cumsum(dim=1) - 1) % width != 0)
    return ((text.keep & ~later).cumsum(dim=1) - 1).clamp(min=0)
