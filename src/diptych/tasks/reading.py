"""Pictures of any kind, decoded on threads a few batches ahead of the model that wants them."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.data.store import Dataset, image_source
from diptych.images import BadImage, decode
from diptych.types import EncodedImage, InputError, Rejected, Sample

Pictures = Sequence[Any] | np.ndarray | Dataset
Decode = Callable[[Any], Any]
Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are."""

_AHEAD = 3  # batches that are decoded before the model asks for them
_PICTURES_A_TASK = 8


class Read(NamedTuple):
    """A batch of a stream: positions, names and pictures of what could be read, and what ails the others."""

    positions: list[int]
    names: list[str]
    pictures: list[Any]
    rejected: dict[int, Rejected]


def read_pictures(images: Pictures, decode: Decode, batch_size: int, *, several: bool = False) -> Iterator[Read]:
    """Every picture of `images`, in order, in batches of at most `batch_size`.

    A picture that stands several times in a row is decoded once, and comes as the same object.

    Args:
        images: paths, PIL images, arrays, encoded bytes or `EncodedImage`s, mixed as you like, or a dataset.
        decode: what makes a picture of one of them; runs on threads.
        several: an entry may be a list or tuple of pictures, and a sample stands for all of its pictures and not for
            its first; then `Read.pictures` holds lists, and an entry with one bad picture is rejected.

    Raises `InputError` where `images` is a single picture, or `batch_size` no size.
    """
    if isinstance(images, (str, bytes)) or (isinstance(images, np.ndarray) and images.ndim != 4):
        raise InputError("images: expected a list of pictures (or a dataset), got a single one")
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, got {batch_size}")
    pool = ThreadPoolExecutor(reading_threads(), thread_name_prefix="decode")
    waiting: deque[tuple[int, list[Future[list[Any]]]]] = deque()
    starts = iter(range(0, len(images), batch_size))
    try:
        while True:
            while len(waiting) <= _AHEAD and (start := next(starts, None)) is not None:
                stop = min(start + batch_size, len(images))
                cuts = [(a, min(a + _PICTURES_A_TASK, stop)) for a in range(start, stop, _PICTURES_A_TASK)]
                waiting.append((start, [pool.submit(_decode_some, decode, images, a, b, several) for a, b in cuts]))
            if not waiting:
                return
            start, tasks = waiting.popleft()
            read = Read([], [], [], {})
            for position, (name, picture) in enumerate((pair for task in tasks for pair in task.result()), start):
                if isinstance(picture, Rejected):
                    read.rejected[position] = picture
                    continue
                read.positions.append(position)
                read.names.append(name)
                read.pictures.append(picture)
            yield read
    finally:
        pool.shutdown(cancel_futures=True)


def decoder(model: Any) -> Decode:
    """How pictures are decoded for `model`: by its processor where it has one, else `as_they_are`."""
    processor = getattr(model, "processor", None)
    return as_they_are if processor is None else processor.decode_image


def as_they_are(source: Any) -> np.ndarray:
    """A picture as uint8 H x W x 3 (RGB) at its own size. Raises `BadImage`."""
    return np.asarray(decode(source))


def reading_threads() -> int:
    """How many threads read pictures."""
    return min(16, os.cpu_count() or 1)


def _decode_some(decode: Decode, images: Pictures, start: int, stop: int, several: bool) -> list[tuple[str, Any]]:
    """Names of pictures `start` to `stop`, each with the decoded picture (or list of them) or `Rejected`."""
    if isinstance(images, Dataset):
        entries: list[Any] = images.take(range(start, stop), fields=("images",))
    else:
        entries = [images[i] for i in range(start, stop)]
    decoded: list[tuple[str, Any]] = []
    for i, entry in enumerate(entries):
        name = entry.id if isinstance(entry, Sample) else name_of(entry, start + i)
        if i and _same(entry, entries[i - 1]):
            picture = decoded[-1][1]
            if isinstance(picture, Rejected):
                picture = picture._replace(id=name)
        else:
            try:
                pictures = [decode(source) for source in _sources(entry, several)]
                picture = pictures if several else pictures[0]
            except BadImage as error:
                picture = Rejected(name, error.reason, error.detail)
        decoded.append((name, picture))
    return decoded


def _same(entry: Any, before: Any) -> bool:
    """Whether two entries are one picture. Arrays and PIL images are compared by identity alone."""
    if isinstance(entry, Sample):
        return bool(entry.images) and entry.images == before.images
    if isinstance(entry, (list, tuple)) and isinstance(before, (list, tuple)):
        return len(entry) == len(before) and all(map(_same, entry, before))
    known = (str, bytes, Path, EncodedImage)
    return entry is before or (isinstance(entry, known) and type(entry) is type(before) and entry == before)


def _sources(entry: Any, several: bool) -> list[Any]:
    """The pictures that one entry stands for, each as something that can be decoded. Raises `BadImage`."""
    if isinstance(entry, Sample):
        chosen = entry.images if several else entry.images[:1]
        return [image_source(Sample(entry.id, [image])) for image in chosen] or [image_source(entry)]
    if isinstance(entry, (list, tuple)):
        if not (several and entry):
            wanted = "at least one picture" if several else "one picture"
            raise BadImage("image not supported", f"expected {wanted}, got a list of {len(entry)}")
        return [source for one in entry for source in _sources(one, False)]
    if isinstance(entry, EncodedImage):
        entry = Path(entry.path or "") if entry.data is None else entry.data
    return [Path(entry) if isinstance(entry, str) else entry]


def name_of(entry: Any, position: int) -> str:
    """What to call a picture: its path where it is one, else its position."""
    path = entry.path if isinstance(entry, EncodedImage) else entry
    return str(path) if isinstance(path, (str, Path)) else f"picture {position}"
