"""How varied and how long captions are: numbers that need no references."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from diptych.evaluation.metrics.ngrams import ORDER, number_ngrams, split_words
from diptych.types import InputError


def distinct_n(captions: Sequence[str], n: int) -> float:
    """The share of different ones among all n-grams of tokenized captions (Li et al. 2016), between 0 and 1.

    0 where no caption has n words.

    Raises:
        InputError: n is not 1 to 4.
    """
    if not 1 <= n <= ORDER:
        raise InputError(f"n: expected 1 to {ORDER}, got {n}")
    grams = next(islice(number_ngrams(split_words(captions)), n - 1, None))
    return len(grams.keys) / len(grams.ids) if len(grams.ids) else 0.0


def lengths(captions: Sequence[str]) -> NDArray[np.int64]:
    """The number of words of each tokenized caption: N."""
    return np.diff(split_words(captions).starts)


def vocabulary_size(captions: Sequence[str]) -> int:
    """How many different words tokenized captions use."""
    return len(split_words(captions).vocabulary)
