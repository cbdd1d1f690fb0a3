"""CIDEr-D (Vedantam et al. 2015, section 5) as COCO caption evaluation defines it: no stemming, times 10."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from diptych.evaluation.metrics import compiled
from diptych.evaluation.metrics.ngrams import (
    ORDER,
    Counts,
    Grams,
    Ints,
    captions_of,
    count_ngrams,
    number_ngrams,
    segments,
)
from diptych.evaluation.metrics.tokenizer import tokenize
from diptych.types import InputError

SIGMA, SCALE = 6.0, 10.0
_ONE_IMAGE = (
    "references: CIDEr-D weighs words by how few images have them; expected two or more images, or `frequencies` of a "
    "larger corpus"
)

Floats = NDArray[np.float64]


class DocumentFrequencies(NamedTuple):
    """In how many images of a corpus each n-gram stands, in one reference or more.

    Attributes:
        images: how many images the corpus has.
        vocabulary: its V words.
        keys: for n = 1 to 4 the n-grams, as in `ngrams.Grams`.
        counts: for n = 1 to 4 the number of images of each.
    """

    images: int
    vocabulary: pa.Array
    keys: list[Ints]
    counts: list[Ints]


def document_frequencies(references: Sequence[Sequence[str]], *, tokenized: bool = False) -> DocumentFrequencies:
    """Count the n-grams of a corpus of references, for `cider_d`.

    Args:
        references: the captions of each image.
        tokenized: they come from `tokenizer.tokenize`.

    Raises:
        InputError: fewer than two images.
    """
    if len(references) < 2:
        raise InputError(_ONE_IMAGE)
    if not tokenized:
        flat = iter(tokenize([text for texts in references for text in texts]))
        references = [list(islice(flat, len(texts))) for texts in references]
    captions = captions_of([""] * len(references), references)
    keys, images = [], []
    for grams in number_ngrams(captions.words):
        counts = count_ngrams(grams.ids, segments(grams.starts), captions.firsts)
        keys.append(grams.keys)
        images.append(_images_of_each(counts, len(grams.keys)))
    return DocumentFrequencies(len(references), captions.words.vocabulary, keys, images)


def cider_d(
    candidates: Sequence[str], references: Sequence[Sequence[str]], frequencies: DocumentFrequencies | None = None
) -> Floats:
    """CIDEr-D of each tokenized candidate, between 0 and 10: N.

    Deviation: the length whose difference is punished is the number of bigrams, as in COCO's code, where the paper
    speaks of the length of the sentence. The corpus score is the mean over images.

    Args:
        frequencies: of another corpus; default: those of the references given here.

    Raises:
        InputError: see `ngrams.captions_of`; one image and no `frequencies`: every n-gram would weigh log 1 = 0.
    """
    if frequencies is None and len(candidates) == 1:
        raise InputError(_ONE_IMAGE)
    captions = captions_of(candidates, references)
    lengths, firsts = np.diff(captions.words.starts), captions.firsts
    similarity, known = np.zeros(len(lengths)), None
    kernels = compiled.kernels(len(captions.words.ids))
    for n, grams in enumerate(number_ngrams(captions.words)):
        images_of_each, similarities = _counted(grams, firsts, kernels)
        if frequencies is None:
            images, total = images_of_each(len(grams.keys)), len(candidates)
        else:
            known = _places_in(frequencies, n, grams, captions.words.vocabulary, known)
            images, total = np.append(frequencies.counts[n], 0)[known], frequencies.images
        similarity += similarities(np.log(total) - np.log(np.maximum(1, images)))
    bigrams = np.maximum(lengths - 1, 0)
    gaps = bigrams - np.repeat(bigrams[firsts[:-1]], np.diff(firsts))
    similarity *= np.exp(-(gaps**2) / (2 * SIGMA**2)) * SCALE / ORDER
    similarity[firsts[:-1]] = 0
    result: Floats = np.add.reduceat(similarity, firsts[:-1]) / (np.diff(firsts) - 1)
    return result


def _counted(
    grams: Grams, firsts: Ints, kernels: compiled.Kernels | None
) -> tuple[Callable[[int], Ints], Callable[[Floats], Floats]]:
    """`images_of_each(kinds)` and `similarities(weights)` of these n-grams: compiled, or by numpy as below."""
    if kernels:
        ids, starts = grams.ids, grams.starts
        return partial(kernels.images_of_each, ids, starts, firsts), partial(kernels.similarities, ids, starts, firsts)
    counts = count_ngrams(grams.ids, segments(grams.starts), firsts)
    return partial(_images_of_each, counts), partial(_similarities, counts, firsts)


def _images_of_each(counts: Counts, kinds: int) -> Ints:
    """In how many images each of so many kinds of n-grams stands, in one reference or more."""
    lasts = np.append(counts.groups[1:], len(counts.texts)) - 1 if len(counts.texts) else counts.groups
    lasts = lasts[~counts.own[lasts]]  # the candidate comes first: where it comes last, no reference has the n-gram
    return np.bincount(counts.grams[lasts], minlength=kinds)


def _similarities(counts: Counts, firsts: Ints, weights: Floats) -> Floats:
    """Clipped cosine of the weighted n-grams of each text and those of the candidate of its image: T."""
    texts = int(firsts[-1])
    values = counts.counts * weights[counts.grams]
    norms = np.sqrt(np.bincount(counts.texts, values**2, minlength=texts))
    norms *= np.repeat(norms[firsts[:-1]], np.diff(firsts))
    first = np.repeat(counts.groups, np.diff(np.append(counts.groups, len(values))))
    shared = np.flatnonzero(counts.own[first])
    products = np.minimum(values[first[shared]], values[shared]) * values[shared]
    dots = np.bincount(counts.texts[shared], products, minlength=texts)
    return np.divide(dots, norms, out=np.zeros(texts), where=norms > 0)


def _places_in(
    frequencies: DocumentFrequencies, n: int, grams: Grams, vocabulary: pa.Array, before: Ints | None
) -> Ints:
    """Where each (n+1)-gram stands among those of another corpus; -1 where it does not.

    Args:
        before: the same of the n-grams.
    """
    words = _places(vocabulary, frequencies.vocabulary)
    if before is None:
        return words
    first, last = before[grams.keys // len(words)], words[grams.keys % len(words)]
    wanted = np.where((first >= 0) & (last >= 0), first * len(frequencies.vocabulary) + last, -1)
    return _places(pa.array(wanted), pa.array(frequencies.keys[n]))


def _places(values: pa.Array, among: pa.Array) -> Ints:
    """Where each value stands among others; -1 where it does not."""
    result: Ints = (
        pc.fill_null(pc.index_in(values, value_set=among), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return result
