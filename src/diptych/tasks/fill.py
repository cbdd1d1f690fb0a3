"""Words that are hidden in a text about a picture."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from diptych.capabilities import MASK, FillsWords
from diptych.machine import Precision
from diptych.tasks.reading import Pictures, Progress, Read, decoder
from diptych.tasks.running import ask_each, lacks
from diptych.types import InputError, Rejected

WHO = "a family that reads picture and text together (visualbert, vilbert, vilt, flava)"


class Filled(NamedTuple):
    """`words[i]` are the hidden words of the text about picture `kept[i]`; `rejected` pictures could not be read."""

    words: list[list[str]]
    kept: list[int]
    rejected: list[Rejected]


def fill(
    model: FillsWords,
    images: Pictures,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Filled:
    """What stands at each `<mask>` of each text ("a <mask> cube"), `texts[i]` being about picture i.

    Words are guessed one by one, not knowing each other. Raises `InputError` for a text without a mask, and for a model
    that cannot do it.
    """
    if isinstance(texts, str) or len(texts) != len(images):
        got = "a single text" if isinstance(texts, str) else f"{len(texts)}"
        raise InputError(f"texts: expected one for each of {len(images)} pictures, got {got}")
    bare = next((text for text in texts if MASK not in text), None)
    if bare is not None:
        raise InputError(f"texts: expected {MASK} where a word is hidden, got {bare!r}")
    if not isinstance(model, FillsWords):
        raise lacks(model, "guess hidden words", WHO)

    def ask(read: Read) -> list[list[str]]:
        return model.fill(read.pictures, [texts[i] for i in read.positions])

    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "device": device,
        "precision": precision,
        "progress": progress,
    }
    return Filled(*ask_each(model, images, ask, decoder(model), **settings))
