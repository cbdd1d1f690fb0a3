"""A sentence about each picture."""

from typing import Any, NamedTuple

from diptych.machine import Precision
from diptych.tasks.reading import Pictures, Progress, decoder
from diptych.tasks.running import ask_each, lacks
from diptych.types import Rejected, Reply, WritesCaptions

WHO = "an image-text-to-text model (a folder or 'hf:ORG/NAME') or a chat endpoint ('http://HOST/v1?model=NAME')"


class Captioned(NamedTuple):
    """`replies[i]` is about picture `kept[i]`; pictures without a caption are in `rejected`."""

    replies: list[Reply]
    kept: list[int]
    rejected: list[Rejected]


def caption(
    model: Any,
    images: Pictures,
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Captioned:
    """What the model says that each picture shows, and how sure it is if it tells.

    Args:
        images: as `embed_images` takes them; the first picture of each sample of a dataset.

    Pictures that cannot be read, and those that the model gave no caption for, are left out and named. Raises
    `InputError` for a model that writes no captions.
    """
    if not isinstance(model, WritesCaptions):
        raise lacks(model, "write captions", WHO)
    return Captioned(
        *ask_each(
            model,
            images,
            lambda read: model.caption(read.pictures),
            decoder(model),
            batch_size=batch_size,
            device=device,
            precision=precision,
            progress=progress,
        )
    )
