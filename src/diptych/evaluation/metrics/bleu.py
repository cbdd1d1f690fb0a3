"""BLEU-1 to BLEU-4 (Papineni et al. 2002) as COCO caption evaluation defines them (Chen et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.evaluation.metrics import compiled
from diptych.evaluation.metrics.ngrams import ORDER, Captions, captions_of, changes, count_ngrams, segments

TINY, SMALL = 1e-15, 1e-9  # of pycocoevalcap: what keeps 0 matches of 0 n-grams from being a division by 0

Floats = NDArray[np.float64]


def bleu_counts(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """What BLEU counts in tokenized captions: N x 10, sums of rows are the counts of a corpus.

    Columns: length of the candidate; of the reference closest to it in length (of two, the shorter); matched 1- to
    4-grams, each counted at most as often as in the reference that has it most often; the candidate's 1- to 4-grams.

    Raises:
        InputError: see `ngrams.captions_of`.
    """
    captions = captions_of(candidates, references)
    lengths, firsts = np.diff(captions.words.starts), captions.firsts
    own, sizes = lengths[firsts[:-1]], np.diff(firsts)
    gaps = np.abs(lengths - np.repeat(own, sizes)) * (lengths.max() + 1) + lengths  # the smaller gap, then the shorter
    gaps[firsts[:-1]] = np.iinfo(np.int64).max
    closest = np.minimum.reduceat(gaps, firsts[:-1]) % (lengths.max() + 1)
    guesses = np.maximum(own[:, None] - np.arange(ORDER), 0)
    return np.column_stack([own, closest, _matches(captions), guesses]).astype(np.float64)


def _matches(captions: Captions) -> Floats:
    """Matched 1- to 4-grams of each candidate: N x 4.

    An n-gram of a reference can match only if its first n-1 words did: few are left to look up for each longer n.
    """
    words, firsts = captions.words, captions.firsts
    if kernels := compiled.kernels(len(words.ids)):
        return kernels.bleu_matches(words.ids, words.starts, firsts)
    matches = np.zeros((len(firsts) - 1, ORDER))
    texts, places = segments(words.starts), np.arange(len(words.ids))
    images, size = segments(firsts), len(words.vocabulary)
    keys = images[texts] * size + words.ids
    for n in range(ORDER):
        kinds = np.sort(keys[firsts[images[texts]] == texts])  # of the candidates; none is of two images
        kinds = kinds[changes(kinds)]
        found = np.searchsorted(kinds, keys)
        kept = np.append(kinds, -1)[found] == keys
        texts, places, grams = texts[kept], places[kept], found[kept]
        counts = count_ngrams(grams, texts, firsts)
        if len(grams):
            best = np.maximum.reduceat(np.where(counts.own, 0, counts.counts), counts.groups)
            matched = np.minimum(best, counts.counts[counts.groups])
            matches[:, n] = np.bincount(counts.images[counts.groups], matched, minlength=len(matches))
        grows = places + n + 1 < words.starts[texts + 1]
        texts, places = texts[grows], places[grows]
        keys = grams[grows] * size + words.ids[places + n + 1]
    return matches


def corpus_bleu(counts: ArrayLike) -> Floats:
    """BLEU-1 to BLEU-4, each between 0 and 1, of the corpus with these N x 10 counts (`bleu_counts`): 4."""
    result: Floats = each_bleu(np.asarray(counts, np.float64).sum(axis=0)[None])[0]
    return result


def each_bleu(counts: Floats) -> Floats:
    """BLEU-1 to BLEU-4 of each of N captions (`bleu_counts`): N x 4."""
    length, closest = counts[:, 0], counts[:, 1]
    precisions = (counts[:, 2 : 2 + ORDER] + TINY) / (counts[:, 2 + ORDER :] + SMALL)
    scores = np.cumprod(precisions, axis=1) ** (1 / np.arange(1, ORDER + 1))
    ratio = (length + TINY) / (closest + SMALL)
    with np.errstate(over="ignore"):  # an empty candidate: exp(1 - huge) is 0
        penalty = np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)
    result: Floats = scores * penalty[:, None]
    return result
