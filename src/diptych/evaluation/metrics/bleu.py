"""BLEU-1 to BLEU-4 (Papineni et al. 2002) as COCO caption evaluation defines them (Chen et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.evaluation.metrics.ngrams import ORDER, Captions, Overlap, captions_of, number_ngrams, overlaps

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
    return counts_of(captions, overlaps(number_ngrams(captions.words), captions))


def counts_of(captions: Captions, found: Sequence[Overlap]) -> Floats:
    """`bleu_counts` of captions whose n-grams are counted."""
    count = captions.size
    lengths = np.diff(captions.words.starts)
    own, others = lengths[:count], lengths[count:]
    gaps = np.abs(others - own[captions.images[count:]])
    order = np.lexsort([others, gaps, captions.images[count:]])  # the closest reference of each image first
    firsts = np.searchsorted(captions.images[count:], np.arange(count))
    columns = [own, others[order[firsts]]]
    for each in found:
        best = np.zeros(len(each.candidates.counts), np.int64)
        met = each.meets >= 0
        np.maximum.at(best, each.meets[met], each.references.counts[met])
        matched = np.minimum(best, each.candidates.counts)
        columns.append(np.bincount(each.candidates.texts, matched, minlength=count))
    columns += [np.maximum(own - n, 0) for n in range(ORDER)]
    return np.stack(columns, axis=1).astype(np.float64)


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
