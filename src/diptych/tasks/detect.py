"""Where things of some classes are in each picture."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from diptych.capabilities import DetectsObjects, ProposesRegions
from diptych.machine import Precision
from diptych.tasks.reading import Pictures, Progress, as_they_are
from diptych.tasks.running import ask_each, lacks
from diptych.types import Detection, InputError, Rejected

WHO = "a model with a `detect` method (`diptych.capabilities.DetectsObjects`)"
PROPOSER = "a model with a `propose` method (`diptych.capabilities.ProposesRegions`)"


class Detected(NamedTuple):
    """`found[i]` is what was found in picture `kept[i]`; pictures that could not be read are in `rejected`."""

    found: list[list[Detection]]
    kept: list[int]
    rejected: list[Rejected]


def detect(
    model: Any,
    images: Pictures,
    names: Sequence[str],
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Detected:
    """Things of the classes `names`, or named by these phrases, in each picture; boxes in the picture's own pixels.

    Args:
        images: as `embed_images` takes them; the first picture of each sample of a dataset.

    Raises `InputError` for a model that finds no things.
    """
    if not isinstance(model, DetectsObjects):
        raise lacks(model, "detect objects", WHO)
    if isinstance(names, str) or not names:
        raise InputError(f"names: expected a list of class names, got {names!r}")
    options: dict[str, Any] = {"batch_size": batch_size, "device": device, "precision": precision, "progress": progress}
    return Detected(*ask_each(model, images, lambda read: model.detect(read.pictures, names), as_they_are, **options))


def propose(
    model: Any,
    images: Pictures,
    count: int = 20,
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Detected:
    """Where things are in each picture, whatever they are: `count` boxes at most, the surest first, without a name.

    Raises `InputError` for a model that proposes no regions.
    """
    if not isinstance(model, ProposesRegions):
        raise lacks(model, "propose regions", PROPOSER)
    if count < 1:
        raise InputError(f"count: expected 1 or more, got {count}")
    options: dict[str, Any] = {"batch_size": batch_size, "device": device, "precision": precision, "progress": progress}
    return Detected(*ask_each(model, images, lambda read: model.propose(read.pictures, count), as_they_are, **options))
