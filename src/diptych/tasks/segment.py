"""Which pixels of each picture belong to what a phrase names."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.capabilities import SegmentsPhrases
from diptych.machine import Precision
from diptych.tasks.reading import Pictures, Progress, as_they_are
from diptych.tasks.running import ask_each, lacks
from diptych.types import InputError, Rejected

WHO = "a model with a `segment` method (`diptych.capabilities.SegmentsPhrases`)"


class Segmented(NamedTuple):
    """`masks[i]` (float32 H x W, in [0, 1]) is about picture `kept[i]`; unreadable pictures are in `rejected`."""

    masks: list[np.ndarray]
    kept: list[int]
    rejected: list[Rejected]


def segment(
    model: Any,
    images: Pictures,
    phrases: Sequence[str],
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Segmented:
    """For each picture the probability, in its own pixels, that they belong to what `phrases[i]` names.

    Args:
        images: as `embed_images` takes them; the first picture of each sample of a dataset. For several phrases about
            one picture it stands several times, and is decoded once.

    Raises `InputError` for a model that segments nothing.
    """
    if not isinstance(model, SegmentsPhrases):
        raise lacks(model, "segment pictures", WHO)
    if isinstance(phrases, str) or len(phrases) != len(images):
        got = "a single text" if isinstance(phrases, str) else f"{len(phrases)}"
        raise InputError(f"phrases: expected one for each of {len(images)} pictures, got {got}")
    return Segmented(
        *ask_each(
            model,
            images,
            lambda read: model.segment(read.pictures, [phrases[i] for i in read.positions]),
            as_they_are,
            batch_size=batch_size,
            device=device,
            precision=precision,
            progress=progress,
        )
    )
