"""CIDEr-D (Vedantam et al. 2015, section 5) as COCO caption evaluation defines it: no stemming, times 10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from diptych.evaluation.metrics.ngrams import (
    ORDER,
    Captions,
    Grams,
    Ints,
    Overlap,
    captions_of,
    number_ngrams,
    overlaps,
    split_words,
)
from diptych.evaluation.metrics.tokenizer import tokenize
from diptych.types import InputError

SIGMA, SCALE = 6.0, 10.0

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
        raise InputError("references: CIDEr-D weighs words by how few images have them; expected two or more images")
    texts = [text for some in references for text in some]
    words = split_words(texts if tokenized else tokenize(texts))
    images = np.repeat(np.arange(len(references)), [len(some) for some in references])
    grams = number_ngrams(words)
    counts = [_images_of_each(images[each.texts], each.ids, len(each.keys)) for each in grams]
    return DocumentFrequencies(len(references), words.vocabulary, [each.keys for each in grams], counts)


def cider_d(
    candidates: Sequence[str], references: Sequence[Sequence[str]], frequencies: DocumentFrequencies | None = None
) -> Floats:
    """CIDEr-D of each tokenized candidate, between 0 and 10: N.

    Deviation: the paper clips and sums over the n-grams of a sentence and takes its length; COCO's code, followed here,
    takes the number of bigrams for the length. The mean over images of the corpus is the corpus score.

    Args:
        frequencies: of another corpus; default: those of the references given here.

    Raises:
        InputError: see `ngrams.captions_of`; one image and no `frequencies`: every n-gram would weigh log 1 = 0.
    """
    captions = captions_of(candidates, references)
    grams = number_ngrams(captions.words)
    return cider_of(captions, grams, overlaps(grams, captions), frequencies)


def cider_of(
    captions: Captions, grams: Sequence[Grams], found: Sequence[Overlap], frequencies: DocumentFrequencies | None
) -> Floats:
    """`cider_d` of captions whose n-grams are counted."""
    weights = ngram_weights(captions, grams, frequencies)
    count, texts = captions.size, len(captions.images)
    bigrams = np.maximum(np.diff(captions.words.starts) - 1, 0)
    similarity = np.zeros(texts - count)
    for each, weight in zip(found, weights):
        own = each.candidates.counts * weight[each.candidates.grams]
        others = each.references.counts * weight[each.references.grams]
        met = each.meets >= 0
        products = np.minimum(own[each.meets[met]], others[met]) * others[met]
        dots = np.bincount(each.references.texts[met] - count, products, minlength=texts - count)
        norms = np.sqrt(np.bincount(each.candidates.texts, own**2, minlength=count))[captions.images[count:]]
        norms *= np.sqrt(np.bincount(each.references.texts - count, others**2, minlength=texts - count))
        similarity += np.divide(dots, norms, out=np.zeros(texts - count), where=norms > 0)
    gaps = bigrams[captions.images[count:]] - bigrams[count:]
    similarity *= np.exp(-(gaps**2) / (2 * SIGMA**2)) * SCALE / ORDER
    sizes = np.bincount(captions.images[count:], minlength=count)
    return np.bincount(captions.images[count:], similarity, minlength=count) / sizes


def ngram_weights(captions: Captions, grams: Sequence[Grams], frequencies: DocumentFrequencies | None) -> list[Floats]:
    """The weight of each n-gram, for n = 1 to 4: log(images) - log(images that have it; 1 where none has)."""
    if frequencies is None:
        if captions.size < 2:
            raise InputError(
                "candidates: CIDEr-D weighs words by how few images have them; expected two or more images, or "
                "`frequencies` of a larger corpus"
            )
        images = captions.size
        counts = []
        for each in grams:
            first = int(np.searchsorted(each.texts, captions.size))  # the candidates do not count
            counts.append(_images_of_each(captions.images[each.texts[first:]], each.ids[first:], len(each.keys)))
    else:
        images, counts = frequencies.images, _looked_up(captions, grams, frequencies)
    return [np.log(images) - np.log(np.maximum(1, each)) for each in counts]


def _images_of_each(images: Ints, grams: Ints, kinds: int) -> Ints:
    """In how many images each n-gram stands, of n-grams and the image of each."""
    distinct = np.unique(images * max(1, kinds) + grams)
    return np.bincount(distinct % max(1, kinds), minlength=kinds)


def _looked_up(captions: Captions, grams: Sequence[Grams], frequencies: DocumentFrequencies) -> list[Ints]:
    """In how many images of another corpus each n-gram stands; 0 for those that it has not."""
    size, theirs = len(captions.words.vocabulary), len(frequencies.vocabulary)
    words = _places(captions.words.vocabulary, frequencies.vocabulary)
    known, counts = words, [np.append(frequencies.counts[0], 0)[words]]
    for each, keys, images in zip(grams[1:], frequencies.keys[1:], frequencies.counts[1:]):
        first, last = known[each.keys // size], words[each.keys % size]
        wanted = np.where((first >= 0) & (last >= 0), first * theirs + last, -1)
        known = _places(pa.array(wanted), pa.array(keys))
        counts.append(np.append(images, 0)[known])
    return counts


def _places(values: pa.Array, among: pa.Array) -> Ints:
    """Where each value stands among others; -1 where it does not."""
    result: Ints = (
        pc.fill_null(pc.index_in(values, value_set=among), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return result
