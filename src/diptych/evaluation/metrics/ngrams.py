"""Words and n-grams of many captions as integers: what BLEU and CIDEr-D count.

Arrow splits and numbers the words in C++. An n-gram is the number of its first n-1 words and its last word, packed
into one integer and numbered again, so that equal numbers mean equal words, without hashing that could collide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from diptych.evaluation.metrics import compiled
from diptych.types import InputError

ORDER = 4  # the longest n-grams

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Words(NamedTuple):
    """The words of T texts, one text after the other.

    Attributes:
        ids: W numbers of words, places in `vocabulary`.
        starts: T+1 places in `ids`; text t has `ids[starts[t] : starts[t + 1]]`.
        vocabulary: V different words.
    """

    ids: Ints
    starts: Ints
    vocabulary: pa.Array


class Grams(NamedTuple):
    """The n-grams of T texts, for one n.

    Attributes:
        ids: P numbers of n-grams, text after text, each text's in their order.
        starts: T+1 places in `ids`, as in `Words`.
        keys: G; n-gram g is the (n-1)-gram `keys[g] // V` followed by the word `keys[g] % V`.
    """

    ids: Ints
    starts: Ints
    keys: Ints


class Captions(NamedTuple):
    """N candidates and all their references, as words.

    Attributes:
        words: of T texts: of image 0 the candidate, then its references; of image 1; ...
        firsts: N+1; the candidate of image i is text `firsts[i]`, its references are those before `firsts[i + 1]`.
    """

    words: Words
    firsts: Ints


class Counts(NamedTuple):
    """How often each n-gram stands in each text, for one n: E entries ordered by n-gram and text.

    Attributes:
        texts: E.
        images: E, the image of each text.
        own: E, whether the text is the candidate.
        grams: E.
        counts: E, from 1.
        groups: where the entries of the same n-gram and image start; the candidate's, if there is one, comes first.
    """

    texts: Ints
    images: Ints
    own: NDArray[np.bool_]
    grams: Ints
    counts: Ints
    groups: Ints


def captions_of(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Captions:
    """Tokenized candidates and references as numbers.

    Raises:
        InputError: no candidates, as many as references they are not, or a candidate without references.
    """
    sizes = checked_sizes(candidates, references)
    texts = list(chain.from_iterable(chain.from_iterable(zip(zip(candidates), references))))
    return Captions(split_words(texts), starts_of(sizes + 1))


def checked_sizes(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Ints:
    """How many references each candidate has.

    Raises:
        InputError: see `captions_of`.
    """
    if not len(candidates):
        raise InputError("candidates: expected at least one caption")
    if len(candidates) != len(references):
        raise InputError(
            f"references: expected one list for each of the {len(candidates)} candidates, got {len(references)}"
        )
    if any(isinstance(texts, str) for texts in references):
        raise InputError("references: expected a list of captions for each candidate, got a single text")
    sizes = np.fromiter(map(len, references), np.int64, len(references))
    if not sizes.all():
        raise InputError(f"references: expected one or more captions for image {int(sizes.argmin())}, got none")
    return sizes


def split_words(texts: Sequence[str], *, spaces_only: bool = False) -> Words:
    """The words of each text as `str.split()` gives them, numbered.

    Args:
        spaces_only: as `str.split(" ")` gives them instead, which makes empty words, and one of an empty text.
    """
    lists = pc.split_pattern(pa.array(texts, pa.large_string()), " ")
    numbered = lists.values.dictionary_encode()
    if not spaces_only:
        kinds: list[str] = numbered.dictionary.to_pylist()
        if any(len(kind.split()) != 1 for kind in kinds):  # empty texts, doubled spaces, other white space
            tidy = [text.split() for text in texts]
            sizes = np.fromiter(map(len, tidy), np.int64, len(tidy))
            numbered = pa.array(chain.from_iterable(tidy), pa.large_string(), size=int(sizes.sum())).dictionary_encode()
            return Words(_integers(numbered.indices), starts_of(sizes), numbered.dictionary)
    return Words(_integers(numbered.indices), _integers(lists.offsets), numbered.dictionary)


def number_ngrams(words: Words) -> Iterator[Grams]:
    """The 1-, 2-, 3- and 4-grams of all texts."""
    size, lengths = len(words.vocabulary), np.diff(words.starts)
    kernels = compiled.kernels(len(words.ids))
    grams = Grams(words.ids, words.starts, np.arange(size))
    yield grams
    for n in range(2, ORDER + 1):
        starts = starts_of(np.maximum(lengths - (n - 1), 0))
        if kernels:
            numbers, keys = kernels.extended(grams.ids, grams.starts, words.ids, words.starts, starts, size)
            grams = Grams(numbers, starts, keys)
        else:
            grows = np.ones(len(grams.ids), np.bool_)
            grows[grams.starts[1:][lengths >= n - 1] - 1] = False  # the last of a text has no word behind it
            follows = np.repeat(words.starts[:-1] + (n - 1) - starts[:-1], np.diff(starts)) + np.arange(starts[-1])
            numbered = pa.array(grams.ids[grows] * size + words.ids[follows]).dictionary_encode()
            grams = Grams(_integers(numbered.indices), starts, numbered.dictionary.to_numpy())
        yield grams


def count_ngrams(grams: Ints, texts: Ints, firsts: Ints) -> Counts:
    """How often each n-gram stands in each text; one sort finds repeated, shared and matching n-grams.

    Args:
        grams: P numbers of n-grams.
        texts: P, the text that each stands in.
        firsts: see `Captions`.
    """
    bits = int(firsts[-1]).bit_length()
    keys = np.sort((grams << bits) | texts)
    entries = np.flatnonzero(changes(keys))
    texts, grams = keys[entries] & ((1 << bits) - 1), keys[entries] >> bits
    images = segments(firsts)[texts]
    groups = np.flatnonzero(changes(grams) | changes(images))
    return Counts(texts, images, firsts[images] == texts, grams, np.diff(np.append(entries, len(keys))), groups)


def starts_of(sizes: Ints) -> Ints:
    """Where segments of these sizes start, one after the other, and where the last ends."""
    return np.concatenate([[0], np.cumsum(sizes)])


def segments(starts: Ints) -> Ints:
    """The segment of each place, of segments that start there: the text of each word, the image of each text."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def changes(values: Ints) -> NDArray[np.bool_]:
    """Where a value is not the one before it; true at the first."""
    return np.concatenate([[True], values[1:] != values[:-1]])[: len(values)]


def _integers(values: pa.Array) -> Ints:
    result: Ints = values.to_numpy(zero_copy_only=False).astype(np.int64)
    return result
