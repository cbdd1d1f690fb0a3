"""ROUGE-L (Lin 2004, section 3) as COCO caption evaluation defines it (Chen et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cpdist

from diptych.evaluation.metrics.ngrams import checked_sizes, split_words

BETA = 1.2
_SURROGATES = range(0xD800, 0xE000)  # code points that are no characters
_CHARACTERS = 0x110000 - len(_SURROGATES)
_AT_ONCE = 1 << 16  # images

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """ROUGE-L of each tokenized candidate, between 0 and 1: N.

    Precision and recall of the longest common subsequence of words are each that of the best reference, and it may not
    be the same reference; F = (1 + b^2) P R / (R + b^2 P) with b = 1.2.

    Raises:
        InputError: see `ngrams.captions_of`.
    """
    checked_sizes(candidates, references)
    parts = [
        _rouge_l(candidates[start : start + _AT_ONCE], references[start : start + _AT_ONCE])
        for start in range(0, len(candidates), _AT_ONCE)
    ]
    return np.concatenate(parts)


def _rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    count, sizes = len(candidates), np.fromiter(map(len, references), np.int64, len(references))
    words = split_words([*candidates, *chain.from_iterable(references)], spaces_only=True)
    texts, lengths = _as_characters(words.ids, words.starts), np.diff(words.starts)
    images = np.repeat(np.arange(count), sizes)
    pairs = [texts[image] for image in images.tolist()]
    common = cpdist(pairs, texts[count:], scorer=LCSseq.similarity, dtype=np.float64, workers=-1)
    firsts = np.cumsum(sizes) - sizes
    precision = np.maximum.reduceat(common / lengths[images], firsts)
    recall = np.maximum.reduceat(common / lengths[count:], firsts)
    bottom = recall + BETA**2 * precision
    return np.divide((1 + BETA**2) * precision * recall, bottom, out=np.zeros(count), where=bottom > 0)


def _as_characters(ids: Ints, starts: Ints) -> list[str]:
    """Each text as a string with one character a word: what rapidfuzz compares bit-parallel, in C++."""
    if len(ids) and ids.max() >= _CHARACTERS:
        raise OverflowError("more different words than Unicode has characters")
    codes = np.where(ids < _SURROGATES.start, ids, ids + len(_SURROGATES)).astype("<u4")
    whole = codes.tobytes().decode("utf-32-le")
    return [whole[start:end] for start, end in pairwise(starts.tolist())]
