"""A sentence about each picture."""

import inspect
from typing import Any, NamedTuple

from diptych.capabilities import WritesCaptions
from diptych.machine import Precision
from diptych.tasks.reading import Pictures, Progress, decoder
from diptych.tasks.running import ask_each, lacks
from diptych.types import InputError, Rejected, Reply

WHO = (
    "a family that writes (virtex, simvlm, frozen, flamingo, visualgpt), "
    "an image-text-to-text model (a folder or 'hf:ORG/NAME') or a chat endpoint ('http://HOST/v1?model=NAME')"
)


class Captioned(NamedTuple):
    """`replies[i]` is about picture `kept[i]`; pictures without a caption are in `rejected`."""

    replies: list[Reply]
    kept: list[int]
    rejected: list[Rejected]


def caption(
    model: Any,
    images: Pictures,
    *,
    beams: int = 1,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Captioned:
    """What the model says that each picture shows, and how sure it is if it tells.

    Args:
        images: as `embed_images` takes them; the first picture of each sample of a dataset.
        beams: texts of each picture that are followed at a time, for a caption that is likelier as a whole; 1 takes the
            likeliest word each time.

    Pictures that cannot be read, and those that the model gave no caption for, are left out and named. Raises
    `InputError` for a model that writes no captions, for beams below 1, and for more than one where the model does not
    tell how likely each next word is.
    """
    if beams < 1:
        raise InputError(f"caption: beams: expected 1 or more, got {beams}")
    if not isinstance(model, WritesCaptions):
        raise lacks(model, "write captions", WHO)
    if beams > 1 and "beams" not in inspect.signature(model.caption).parameters:
        raise lacks(model, "follow several beams", "a family of Diptych's that writes")
    how = {"beams": beams} if beams > 1 else {}
    return Captioned(
        *ask_each(
            model,
            images,
            lambda read: model.caption(read.pictures, **how),
            decoder(model),
            batch_size=batch_size,
            device=device,
            precision=precision,
            progress=progress,
        )
    )
