"""Words and n-grams of many captions as integers: what BLEU and CIDEr-D count.

Arrow splits and numbers the words in C++. An n-gram is the number of its first n-1 words and its last word, packed
into one integer and numbered again, so that equal numbers mean equal words, without hashing that could collide.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

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
        texts: P, the text that each stands in.
        keys: G; n-gram g is the (n-1)-gram `keys[g] // V` followed by the word `keys[g] % V`.
    """

    ids: Ints
    texts: Ints
    keys: Ints


class Bag(NamedTuple):
    """How often each n-gram stands in each text, ordered by text and n-gram."""

    texts: Ints
    grams: Ints
    counts: Ints


class Overlap(NamedTuple):
    """The n-grams of N candidates and of their references, for one n.

    Attributes:
        candidates: their bag; text i is the candidate of image i.
        references: their bag.
        images: the image of each entry of `references`.
        meets: for each entry of `references`, the entry of `candidates` with the same image and n-gram, or -1.
        kinds: G, how many different n-grams there are.
    """

    candidates: Bag
    references: Bag
    images: Ints
    meets: Ints
    kinds: int


class Captions(NamedTuple):
    """N candidates and all their references, as words.

    Attributes:
        words: N candidates, then the references of image 0, of image 1, ...
        images: for each text of `words`, its image.
        size: N.
    """

    words: Words
    images: Ints
    size: int


def captions_of(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Captions:
    """Tokenized candidates and references as numbers.

    Raises:
        InputError: no candidates, as many as references they are not, or a candidate without references.
    """
    sizes = checked_sizes(candidates, references)
    words = split_words([*candidates, *chain.from_iterable(references)])
    own = np.arange(len(candidates))
    return Captions(words, np.concatenate([own, np.repeat(own, sizes)]), len(candidates))


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
        raise InputError(f"references: expected one or more captions for candidate {int(sizes.argmin())}, got none")
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
            return Words(_integers(numbered.indices), _starts(sizes), numbered.dictionary)
    return Words(_integers(numbered.indices), lists.offsets.to_numpy(), numbered.dictionary)


def number_ngrams(words: Words) -> list[Grams]:
    """The 1-, 2-, 3- and 4-grams of all texts."""
    size = len(words.vocabulary)
    texts = np.repeat(np.arange(len(words.starts) - 1), np.diff(words.starts))
    places = np.arange(len(words.ids))
    grams = [Grams(words.ids, texts, np.arange(size))]
    for n in range(2, ORDER + 1):
        before = grams[-1]
        # an (n-1)-gram grows unless it is the last of its text; the last of all has no follower
        grows = np.append(before.texts[1:] == before.texts[:-1], False) if len(before.texts) else before.texts > 0
        places = places[grows]
        keys = before.ids[grows] * size + words.ids[places + (n - 1)]
        numbered = pa.array(keys).dictionary_encode()
        grams.append(Grams(_integers(numbered.indices), before.texts[grows], numbered.dictionary.to_numpy()))
    return grams


def overlaps(grams: Sequence[Grams], captions: Captions) -> list[Overlap]:
    """What candidates and references have in common, for each n."""
    return [_overlap(each, captions) for each in grams]


def _overlap(grams: Grams, captions: Captions) -> Overlap:
    kinds = max(1, len(grams.keys))
    keys, counts = np.unique(grams.texts * kinds + grams.ids, return_counts=True)
    bag = Bag(keys // kinds, keys % kinds, counts)
    split = int(np.searchsorted(bag.texts, captions.size))
    own, others = Bag(*(column[:split] for column in bag)), Bag(*(column[split:] for column in bag))
    images = captions.images[others.texts]
    wanted = images * kinds + others.grams
    found = np.searchsorted(keys[:split], wanted)
    meets = np.where(np.append(keys[:split], -1)[found] == wanted, found, -1)
    return Overlap(own, others, images, meets, kinds)


def _starts(sizes: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(sizes)])


def _integers(indices: pa.Array) -> Ints:
    result: Ints = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return result
