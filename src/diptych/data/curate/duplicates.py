"""Exact and near-duplicate pictures, found by perceptual hashes.

Two pictures are near-duplicates when both their difference hashes (64 comparisons of neighbouring grey values) and
their 8 x 8 colour thumbnails are close: the hash makes candidates cheap to find, the thumbnail keeps a drawing in
another colour apart.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from diptych.data.curate.steps import Change, StepReport
from diptych.types import Sample

_BANDS = 4  # 64 bits in 4 bands: hashes that differ in at most 3 bits agree in at least one band
MAX_BITS = _BANDS - 1

Array = np.ndarray[Any, np.dtype[Any]]


class PictureHash(NamedTuple):
    """What repeats are found by: an exact digest, a 64-bit difference hash, an 8 x 8 x 3 thumbnail (uint8, flat)."""

    digest: bytes
    bits: int
    thumbnail: Array


def picture_hash(image: Image.Image) -> PictureHash:
    """The hashes of an RGB picture."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")
    thumbnail = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=np.uint8).reshape(-1)
    digest = hashlib.blake2b(image.tobytes() + str(image.size).encode(), digest_size=16).digest()
    return PictureHash(digest, bits, thumbnail)


def find_duplicates(hashes: Sequence[PictureHash | None], max_difference: float) -> list[int]:
    """For each picture the index of the earlier one that it repeats, or its own.

    Greedy: a picture is compared with those kept before it, so that a chain of small changes is not one big group.
    Hashes at most 3 bits apart whose thumbnails differ by at most `max_difference` (mean over pixels, 0 to 255) repeat
    each other; `None` (a picture that could not be read) repeats nothing.
    """
    by_digest: dict[bytes, int] = {}
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    owners = list(range(len(hashes)))
    for index, entry in enumerate(hashes):
        if entry is None:
            continue
        keys = [(band, entry.bits >> (16 * band) & 0xFFFF) for band in range(_BANDS)]
        owner = by_digest.setdefault(entry.digest, index)
        if owner == index:
            candidates = sorted({other for key in keys for other in buckets[key]})
            owner = _nearest(index, candidates, hashes, max_difference)
        owners[index] = owner
        if owner == index:
            for key in keys:
                buckets[key].append(index)
    return owners


def _nearest(index: int, candidates: list[int], hashes: Sequence[PictureHash | None], max_difference: float) -> int:
    entry = hashes[index]
    others = [(other, hashes[other]) for other in candidates]
    close = [(i, h) for i, h in others if h and entry and (h.bits ^ entry.bits).bit_count() <= MAX_BITS]
    if not close or entry is None:
        return index
    thumbnails = np.stack([h.thumbnail for _, h in close]).astype(np.int16)
    differences = np.abs(thumbnails - entry.thumbnail.astype(np.int16)).mean(axis=1)
    best = int(differences.argmin())
    return close[best][0] if differences[best] <= max_difference else index


def drop_duplicates(
    rows: Sequence[Sample], hashes: dict[str, PictureHash], max_difference: float
) -> tuple[list[Sample], StepReport]:
    """Keep one picture of every group of near-duplicates: the one with the longest caption."""
    order = sorted(range(len(rows)), key=lambda i: -len(" ".join(rows[i].captions)))
    owners = find_duplicates([hashes.get(rows[i].id) for i in order], max_difference)
    owner_of = {order[position]: order[owner] for position, owner in enumerate(owners)}
    kept = [row for i, row in enumerate(rows) if owner_of[i] == i]
    changes = [Change(rows[i].id, f"repeats {rows[o].id}", "") for i, o in sorted(owner_of.items()) if i != o]
    sentence = "Of pictures that repeat each other, the one with the longest caption was kept."
    return kept, StepReport("duplicates", sentence, len(rows), len(kept), changes)
