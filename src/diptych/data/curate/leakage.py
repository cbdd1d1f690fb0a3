"""Leaks from training data into test data: test rows that a model may have seen, and so are no test.

Everything is compared across the two sets only; repeats within one of them are the affair of de-duplication.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.data.curate.concepts import normalise
from diptych.data.curate.duplicates import picture_hash
from diptych.data.curate.near import THUMBNAIL, looks_of, near_pairs
from diptych.data.store import Dataset
from diptych.images import BadImage, decode, read_bytes
from diptych.types import EncodedImage, InputError

PICTURE_KINDS = ("same file", "same pixels", "near picture", "near embedding")
"""How a picture leaks, from the surest on; of one test row only the first that fits is told."""
KINDS = (*PICTURE_KINDS, "same caption")

_CHUNK = 256
_BLOCK = 1024  # vectors, in the comparison of embeddings

Array = np.ndarray[Any, np.dtype[Any]]
Progress = Callable[[int, int], None]


class Leak(NamedTuple):
    """A test row, one training row that gives it away (the nearest, or the first of equals), and how.

    `distance` is the mean difference of thumbnails (0 to 255) for a near picture, the cosine for a near embedding,
    and 0 for what is equal.
    """

    kind: str
    test: int
    train: int
    distance: float = 0.0


class Leaks(NamedTuple):
    """What was found: at most one picture leak and one caption leak a test row, in order of test rows.

    `unread` counts pictures of either set that cannot be read; they leak nothing.
    """

    found: list[Leak]
    train_rows: int
    test_rows: int
    unread: int

    def counts(self) -> dict[str, int]:
        """Test rows by kind, in the order of `KINDS`."""
        return {kind: sum(leak.kind == kind for leak in self.found) for kind in KINDS}

    def rows(self, kinds: tuple[str, ...] = PICTURE_KINDS) -> Array:
        """The test rows that leak in one of these ways, rising: what to leave out of the test."""
        return np.unique(np.array([leak.test for leak in self.found if leak.kind in kinds], np.int64))


def find_leaks(
    train: Dataset,
    test: Dataset,
    *,
    difference: float | None = 2.0,
    vectors: tuple[Array, Array] | None = None,
    threshold: float = 0.95,
    progress: Progress | None = None,
) -> Leaks:
    """Test rows whose picture or caption stands in the training data as well.

    Pictures: the same bytes; the same pixels in other bytes; near-duplicates, whose difference hashes are at most 3 of
    64 bits and whose thumbnails at most `difference` apart (`curate.duplicates`); and, given vectors, a cosine of
    `threshold` or more. Of a row with several pictures each is compared. Captions: equal once normalised
    (`concepts.normalise`). Short captions are often equal by chance, so look before you act on that kind.

    Args:
        difference: mean over pixels and channels, 0 to 255; None leaves near pictures out.
        vectors: one for each row of train and of test, float32 of length 1, or zero for a row without.
        threshold: in (0, 1].
        progress: called with (pictures read, rows in both sets).

    Raises:
        InputError: vectors that do not fit the rows, or a difference or threshold out of range.
    """
    if difference is not None and not 0 <= difference <= 255:
        raise InputError(f"difference: expected a number from 0 to 255, got {difference}")
    whole = len(train) + len(test)
    seen = _fingerprints(train, lambda done: progress(done, whole) if progress else None)
    asked = _fingerprints(test, lambda done: progress(len(train) + done, whole) if progress else None)
    found: dict[int, Leak] = {}
    for kind, of_seen, of_asked in (
        ("same file", seen.files, asked.files),
        ("same pixels", seen.digests, asked.digests),
    ):
        first = dict(zip(reversed(of_seen), reversed(seen.rows.tolist())))
        for digest, row in zip(of_asked, asked.rows.tolist()):
            if digest in first:
                found.setdefault(row, Leak(kind, row, first[digest]))
    if difference is not None:
        near, apart = nearest(seen, asked, difference)
        for at in np.flatnonzero(near >= 0)[np.argsort(apart[near >= 0], kind="stable")].tolist():
            row = int(asked.rows[at])
            found.setdefault(row, Leak("near picture", row, int(seen.rows[near[at]]), float(apart[at])))
    if vectors is not None:
        for row, other, cosine in _near_vectors(train, test, vectors, threshold):
            found.setdefault(row, Leak("near embedding", row, other, cosine))
    leaks = [*found.values(), *_same_captions(train, test)]
    leaks.sort(key=lambda leak: (leak.test, KINDS.index(leak.kind)))
    return Leaks(leaks, len(train), len(test), seen.unread + asked.unread)


# ---------------------------------------------------------------- pictures


class Fingerprints(NamedTuple):
    """Of the pictures that can be read: their row, digest of the file, of the pixels, difference hash, thumbnail."""

    rows: Array
    files: Sequence[bytes]
    digests: Sequence[bytes]
    bits: Array
    thumbnails: Array
    unread: int


def _fingerprints(dataset: Dataset, progress: Callable[[int], None]) -> Fingerprints:
    rows: list[int] = []
    found: list[tuple[bytes, bytes, int, bytes]] = []
    unread = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(dataset), _CHUNK):
            samples = dataset.take(range(start, min(start + _CHUNK, len(dataset))), fields=("images",))
            pictures = [(start + i, image) for i, sample in enumerate(samples) for image in sample.images]
            for (row, _), entry in zip(pictures, pool.map(_fingerprint, [image for _, image in pictures])):
                if entry is None:
                    unread += 1
                else:
                    rows.append(row)
                    found.append(entry)
            progress(start + len(samples))
    files, digests, bits, thumbnails = zip(*found) if found else ((), (), (), ())
    pixels = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(found), THUMBNAIL)
    return Fingerprints(np.array(rows, np.int64), files, digests, np.array(bits, np.uint64), pixels, unread)


def _fingerprint(image: EncodedImage) -> tuple[bytes, bytes, int, bytes] | None:
    if image.data is None and (not image.path or "://" in image.path):
        return None
    try:
        data = image.data if image.data is not None else read_bytes(Path(image.path or ""))
        return hashlib.blake2b(data, digest_size=16).digest(), *picture_hash(decode(data))
    except BadImage:
        return None


def nearest(seen: Fingerprints, asked: Fingerprints, difference: float) -> tuple[Array, Array]:
    """For each picture asked about the near-duplicate with the nearest thumbnail, or -1; and the difference."""
    best = np.full(len(asked.rows), np.iinfo(np.int64).max)
    seen_looks, asked_looks = (looks_of(side.bits, side.thumbnails) for side in (seen, asked))
    of_seen, of_asked = np.arange(len(seen.rows)), np.arange(len(asked.rows))
    for one, other, apart in near_pairs(seen_looks, of_seen, asked_looks, of_asked, difference):
        np.minimum.at(best, one, (apart << 40) | other)
    some = best < np.iinfo(np.int64).max
    return np.where(some, best & ((1 << 40) - 1), -1), np.where(some, (best >> 40) / THUMBNAIL, np.inf)


# ---------------------------------------------------------------- vectors and captions


def _near_vectors(
    train: Dataset, test: Dataset, vectors: tuple[Array, Array], threshold: float
) -> Iterator[tuple[int, int, float]]:
    """(test row, nearest training row, cosine) of those that reach the threshold. Compares all with all."""
    of_train, of_test = vectors
    for name, rows, given in (("train", len(train), of_train), ("test", len(test), of_test)):
        if given.ndim != 2 or len(given) != rows or given.shape[1] != of_train.shape[1]:
            raise InputError(f"vectors of {name}: expected {rows} rows of one width, got shape {given.shape}")
    if not 0 < threshold <= 1:
        raise InputError(f"threshold: expected a cosine above 0 and up to 1, got {threshold}")
    best, nearest = np.full(len(of_test), -np.inf, np.float32), np.full(len(of_test), -1)
    for start in range(0, len(of_train), 16 * _BLOCK):
        part = of_train[start : start + 16 * _BLOCK]
        for at in range(0, len(of_test), _BLOCK):
            cosines = of_test[at : at + _BLOCK] @ part.T
            here = cosines.argmax(axis=1)
            value = cosines[np.arange(len(here)), here]
            better = np.flatnonzero(value > best[at : at + _BLOCK])
            best[at + better], nearest[at + better] = value[better], start + here[better]
    for row in np.flatnonzero(best >= threshold).tolist():
        yield row, int(nearest[row]), float(best[row])


def _same_captions(train: Dataset, test: Dataset) -> Iterator[Leak]:
    first: dict[str, int] = {}
    for row, caption in _captions(train):
        first.setdefault(caption, row)
    told = -1
    for row, caption in _captions(test):
        if row != told and caption in first:
            told = row
            yield Leak("same caption", row, first[caption])


def _captions(dataset: Dataset) -> Iterator[tuple[int, str]]:
    """(row, normalised caption) of all captions that say anything."""
    column = dataset.column("captions")
    flat = [(row, text) for row, texts in enumerate(column) for text in texts or () if text is not None]
    normal = normalise([text for _, text in flat]).to_pylist()
    yield from ((row, text) for (row, _), text in zip(flat, normal) if text)
