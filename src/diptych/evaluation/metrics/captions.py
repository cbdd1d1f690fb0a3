"""The scores of COCO caption evaluation (Chen et al. 2015): BLEU, ROUGE-L, CIDEr-D."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.evaluation.metrics.bleu import bleu_counts, corpus_bleu, each_bleu
from diptych.evaluation.metrics.cider import DocumentFrequencies, cider_d, document_frequencies
from diptych.evaluation.metrics.ngrams import checked_sizes
from diptych.evaluation.metrics.rouge import rouge_l
from diptych.evaluation.metrics.tokenizer import tokenize
from diptych.types import InputError

__all__ = ["METRICS", "CaptionScore", "DocumentFrequencies", "document_frequencies", "score_captions"]

METRICS = ("bleu", "rouge_l", "cider_d")


class CaptionScore(NamedTuple):
    """A score of a corpus and of each of its N images.

    Attributes:
        value: of the corpus, as COCO caption evaluation defines it: for BLEU no mean over images.
        each: N.
    """

    value: float
    each: NDArray[np.float64]


def score_captions(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Collection[str] = METRICS,
    frequencies: DocumentFrequencies | None = None,
    tokenized: bool = False,
) -> dict[str, CaptionScore]:
    """Score one caption of each image against what people wrote about it, equal to pycocoevalcap to 1e-6.

    Args:
        candidates: N captions.
        references: of each image, one or more.
        metrics: of "bleu", "rouge_l" and "cider_d".
        frequencies: for CIDEr-D, of another corpus; default: those of `references`.
        tokenized: the texts come from `tokenizer.tokenize`.

    Returns:
        "bleu_1" to "bleu_4" and "rouge_l" between 0 and 1, "cider_d" between 0 and 10.

    Raises:
        InputError: an unknown metric; see `ngrams.captions_of` and `cider.cider_d`.
    """
    if unknown := set(metrics) - set(METRICS):
        raise InputError(f"metrics: expected some of {', '.join(METRICS)}, got {sorted(unknown)[0]!r}")
    if not tokenized:
        candidates, references = _tokenized(candidates, references)
    scores: dict[str, CaptionScore] = {}
    if "bleu" in metrics:
        counts = bleu_counts(candidates, references)
        each, whole = each_bleu(counts), corpus_bleu(counts)
        scores |= {f"bleu_{n}": CaptionScore(float(whole[n - 1]), each[:, n - 1]) for n in range(1, 5)}
    if "rouge_l" in metrics:
        scores["rouge_l"] = _mean(rouge_l(candidates, references))
    if "cider_d" in metrics:
        scores["cider_d"] = _mean(cider_d(candidates, references, frequencies))
    return scores


def _mean(each: NDArray[np.float64]) -> CaptionScore:
    return CaptionScore(float(each.mean()), each)


def _tokenized(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    ends = np.cumsum(checked_sizes(candidates, references)) + len(candidates)
    flat = tokenize([*candidates, *(text for texts in references for text in texts)])
    return flat[: len(candidates)], [flat[end - len(texts) : end] for end, texts in zip(ends.tolist(), references)]
