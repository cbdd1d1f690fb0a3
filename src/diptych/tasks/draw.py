"""A picture for each text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.capabilities import DrawsPictures
from diptych.machine import Precision
from diptych.tasks.reading import Progress
from diptych.tasks.running import computing, lacks, name_of, ready
from diptych.types import InputError

WHO = "a model with a `draw` method (`diptych.capabilities.DrawsPictures`)"


def draw(
    model: Any,
    texts: Sequence[str],
    seed: int = 0,
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """A uint8 H x W x 3 picture for each text; the same text and seed, the same picture.

    Raises `InputError` for a model that draws nothing.
    """
    if not isinstance(model, DrawsPictures):
        raise lacks(model, "draw pictures", WHO)
    if isinstance(texts, str):
        raise InputError(f"texts: expected a list of texts, got the text {texts[:40]!r}")
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}")
    pictures: list[np.ndarray] = []
    with ready(model, device) as place:
        for start in range(0, len(texts), batch_size):
            some = list(texts[start : start + batch_size])
            with computing(place, precision):
                drawn = model.draw(some, seed)
            if len(drawn) != len(some):
                raise InputError(f"{name_of(model)}: gave {len(drawn)} pictures for {len(some)} texts")
            pictures.extend(drawn)
            if progress is not None:
                progress(len(pictures), len(texts))
    return pictures
