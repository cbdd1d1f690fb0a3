"""The loops of BLEU and CIDEr-D that numba compiles (extra `fast`); without it numpy does the same work, slower."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WORTHWHILE = 200_000  # words; numpy is done with fewer before numba is loaded

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Kernels(NamedTuple):
    """The compiled functions of this file."""

    extended: Callable[[Ints, Ints, Ints, Ints, Ints, int], tuple[Ints, Ints]]
    bleu_matches: Callable[[Ints, Ints, Ints], Floats]
    images_of_each: Callable[[Ints, Ints, Ints, int], Ints]
    similarities: Callable[[Ints, Ints, Ints, Floats], Floats]


def kernels(words: int) -> Kernels | None:
    """The compiled functions, if numba is installed and so many words are worth loading it."""
    return _compile() if words >= WORTHWHILE and importlib.util.find_spec("numba") else None


@cache
def _compile() -> Kernels:
    import numba

    compiled: Any = numba.njit(cache=True, nogil=True)
    return Kernels(*map(compiled, (_extended, _bleu_matches, _images_of_each, _similarities)))


# `ids` and `starts` are those of `ngrams.Words` or `ngrams.Grams`, `firsts` those of `ngrams.Captions`.


def _extended(
    ids: Ints, starts: Ints, words: Ints, word_starts: Ints, new_starts: Ints, size: int
) -> tuple[Ints, Ints]:
    """Number n-grams by those of n-1 words and a vocabulary of so many words: their `ids` and `keys`."""
    count, bits = new_starts[-1], 4
    while (1 << bits) < 2 * count:
        bits += 1
    numbers, keys, kinds = np.empty(count, np.int64), np.empty(count, np.int64), 0
    table = np.full(1 << bits, -1, np.int32)  # open addressing: where a key belongs, or soon behind, stands its number
    for text in range(len(starts) - 1):
        shift = word_starts[text + 1] - new_starts[text + 1]
        for place in range(new_starts[text], new_starts[text + 1]):
            key = ids[starts[text] + place - new_starts[text]] * size + words[place + shift]
            slot = np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))
            while table[slot] >= 0 and keys[table[slot]] != key:
                slot = (slot + 1) & ((1 << bits) - 1)
            if table[slot] < 0:
                table[slot], keys[kinds] = kinds, key
                kinds += 1
            numbers[place] = table[slot]
    return numbers, keys[:kinds].copy()


def _bleu_matches(ids: Ints, starts: Ints, firsts: Ints) -> Floats:
    """Matched 1- to 4-grams of each candidate: N x 4."""
    matches = np.zeros((len(firsts) - 1, 4))
    for image in range(len(firsts) - 1):
        start, end = starts[firsts[image]], starts[firsts[image] + 1]
        best = np.zeros((end - start, 4), np.int64)  # how often a reference has the n-gram that starts here
        for text in range(firsts[image] + 1, firsts[image + 1]):
            for i in range(start, end):
                found = np.zeros(4, np.int64)
                for j in range(starts[text], starts[text + 1]):
                    n = 0
                    while n < 4 and i + n < end and j + n < starts[text + 1] and ids[i + n] == ids[j + n]:
                        found[n] += 1
                        n += 1
                for n in range(4):
                    best[i - start, n] = max(best[i - start, n], found[n])
        for i in range(start, end):
            before, all_of_it = np.zeros(4, np.int64), np.zeros(4, np.int64)
            for j in range(start, end):
                n = 0
                while n < 4 and i + n < end and j + n < end and ids[i + n] == ids[j + n]:
                    before[n] += j < i
                    all_of_it[n] += 1
                    n += 1
            for n in range(4):
                if before[n] == 0 and i + n < end:
                    matches[image, n] += min(best[i - start, n], all_of_it[n])
    return matches


def _images_of_each(ids: Ints, starts: Ints, firsts: Ints, kinds: int) -> Ints:
    """In how many images each of so many kinds of n-grams stands, in one reference or more."""
    images, latest = np.zeros(kinds, np.int64), np.full(kinds, -1)
    for image in range(len(firsts) - 1):
        for place in range(starts[firsts[image] + 1], starts[firsts[image + 1]]):
            if latest[ids[place]] != image:
                latest[ids[place]] = image
                images[ids[place]] += 1
    return images


def _similarities(ids: Ints, starts: Ints, firsts: Ints, weights: Floats) -> Floats:
    """Clipped cosine of the weighted n-grams of each text and those of the candidate of its image: T."""
    result = np.zeros(len(starts) - 1)
    longest = 0
    for text in range(len(starts) - 1):
        longest = max(longest, starts[text + 1] - starts[text])
    kinds, values = np.empty(longest, np.int64), np.empty(longest)
    for image in range(len(firsts) - 1):
        size, own = 0, 0.0
        for text in range(firsts[image], firsts[image + 1]):
            start, end = starts[text], starts[text + 1]
            norm, dot = 0.0, 0.0
            for i in range(start, end):
                count = 0
                for j in range(start, end):
                    if ids[j] == ids[i]:
                        if j < i:  # counted before
                            count = 0
                            break
                        count += 1
                if count == 0:
                    continue
                value = count * weights[ids[i]]
                norm += value * value
                if text == firsts[image]:
                    kinds[size], values[size] = ids[i], value
                    size += 1
                    continue
                for k in range(size):
                    if kinds[k] == ids[i]:
                        dot += min(values[k], value) * value
            if text == firsts[image]:
                own = norm
            elif norm > 0 and own > 0:
                result[text] = dot / (np.sqrt(norm) * np.sqrt(own))
    return result
