"""METEOR 1.5 for English (Denkowski & Lavie 2014) as COCO caption evaluation runs it, without Java.

Words are matched as they are, by stem, by synonym and by paraphrase; precision and recall of the matched words, content
words weighing more than function words, are joined and discounted by how scattered the matches are. Synonyms and
paraphrases come from METEOR's own files where they are installed; the score says which stages ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import mul

import numpy as np
import snowballstemmer
from numpy.typing import NDArray

from diptych.evaluation.metrics.meteor_align import Lexicon, Sentence, align
from diptych.evaluation.metrics.meteor_data import MeteorData, find_meteor_data
from diptych.evaluation.metrics.meteor_words import words_of
from diptych.evaluation.metrics.tokenizer import tokenize
from diptych.types import InputError

__all__ = ["MeteorData", "MeteorScore", "corpus_meteor", "find_meteor_data", "meteor"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75  # English, tuned to WMT's ranking task
STAGES = ("exact", "stem", "synonym", "paraphrase")
WEIGHTS = (1.0, 0.6, 0.8, 0.6)
_SIDE = 2 * len(STAGES) + 2  # counts of one side: content words matched by each stage, function words, and all of both
_COLUMNS = 2 * _SIDE + 1  # the caption's side, the reference's side, chunks


@dataclass(frozen=True)
class MeteorScore:
    """METEOR of a corpus.

    Attributes:
        value: from the counts summed over all captions, as COCO caption evaluation reports it; it is not a mean.
        each: N scores, of each caption with its best reference.
        stages: what words were matched by: "exact", "stem", and "synonym" and "paraphrase" where their data was there.
        counts: N x 21; `corpus_meteor(counts[some])` is the corpus score of some captions.
    """

    value: float
    each: Floats
    stages: tuple[str, ...]
    counts: Ints


def meteor(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    data: MeteorData | None = None,
    *,
    tokenized: bool = False,
) -> MeteorScore:
    """METEOR of each caption with the best of its references, and of all together.

    Deviation: the stemmer is that of `snowballstemmer`, whose English rules are younger than the program's: 198 of
    103,704 words of its tables have another stem (organize is not organ any more).

    Args:
        candidates: N captions.
        references: N lists of one or more references.
        data: synonyms and paraphrases (`find_meteor_data()`); without them only "exact" and "stem" are matched, and
            scores are lower than published ones.
        tokenized: the texts come from `metrics.tokenizer.tokenize`.

    Raises:
        InputError: the lengths differ, a caption has no reference, or METEOR's files are damaged.
    """
    if len(candidates) != len(references):
        raise InputError(f"references: expected {len(candidates)} lists, one of each caption, got {len(references)}")
    alone = next((place for place, texts in enumerate(references) if not texts), None)
    if alone is not None:
        raise InputError(f"references: expected one or more of each caption, got none at position {alone}")
    if not tokenized:
        candidates, references = _tokenize(candidates, references)
    own = [words_of(text) for text in candidates]
    others = [[words_of(text) for text in texts] for texts in references]
    lexicon, stages = _lexicon(data, [*own, *(words for some in others for words in some)])

    each, counts = np.zeros(len(own)), np.zeros((len(own), _COLUMNS), np.int64)
    for row, (words, some) in enumerate(zip(own, others)):
        caption = Sentence(words, lexicon)
        rows = [_count(caption, Sentence(reference, lexicon)) for reference in some]
        scores = [_score(numbers) for numbers in rows]
        best = max(range(len(rows)), key=scores.__getitem__)
        each[row], counts[row] = scores[best], rows[best]
    return MeteorScore(corpus_meteor(counts), each, stages, counts)


def corpus_meteor(counts: Ints) -> float:
    """METEOR from the summed counts of captions (`MeteorScore.counts`); in [0, 1]."""
    return _score(counts.sum(axis=0).tolist())


def _tokenize(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    flat = tokenize([*candidates, *(text for texts in references for text in texts)])
    ends = np.cumsum([len(candidates), *map(len, references)]).tolist()
    return flat[: ends[0]], [flat[start:end] for start, end in zip(ends, ends[1:])]


def _lexicon(data: MeteorData | None, texts: list[list[str]]) -> tuple[Lexicon, tuple[str, ...]]:
    stem = lru_cache(maxsize=None)(snowballstemmer.stemmer("english").stemWord)
    if data is None:
        return Lexicon(stem, lambda _: frozenset(), {}), STAGES[:2]
    synsets = lru_cache(maxsize=None)(data.synonyms().of)
    return Lexicon(stem, synsets, data.paraphrases(texts)), STAGES if data.table else STAGES[:3]


def _count(caption: Sentence, reference: Sentence) -> list[int]:
    """A row of `MeteorScore.counts`."""
    matches = align(caption, reference)
    own = _side(caption, [(match.own_start, match.own_end, match.stage) for match in matches])
    other = _side(reference, [(match.start, match.end, match.stage) for match in matches])
    ends = [(-1, -1), *((match.end, match.own_end) for match in matches)]
    chunks = sum((match.start, match.own_start) != end for match, end in zip(matches, ends))
    if chunks == 1 and all(sum(side[:-2]) == sum(side[-2:]) for side in (own, other)):
        chunks = 0  # nothing is scattered where both texts are matched as a whole
    return [*own, *other, chunks]


def _side(sentence: Sentence, matched: list[tuple[int, int, int]]) -> list[int]:
    content, function = [0] * len(STAGES), [0] * len(STAGES)
    for start, end, stage in matched:
        functions = sum(sentence.function[start:end])
        function[stage] += functions
        content[stage] += end - start - functions
    functions = sum(sentence.function)
    return [*content, *function, len(sentence.words) - functions, functions]


def _score(counts: Sequence[int]) -> float:
    """Denkowski & Lavie 2014, section 2.2, of one row of counts or of summed ones."""
    own, other, chunks = counts[:_SIDE], counts[_SIDE:-1], counts[-1]
    matched = sum(own[:-2]) + sum(other[:-2])
    if not matched:
        return 0.0
    mean: float = 1 / ((1 - ALPHA) / _share(own) + ALPHA / _share(other))
    penalty: float = GAMMA * (chunks / (matched / 2)) ** BETA
    return max(mean * (1 - penalty), 0.0)


def _share(side: Sequence[int]) -> float:
    """The matched share of one side's words, weighted by stage and kind of word: precision or recall."""
    weights = [weight * DELTA for weight in WEIGHTS] + [weight * (1 - DELTA) for weight in WEIGHTS]
    matched: float = sum(map(mul, weights, side))  # of `side`, the counts of all words are left over
    return matched / (DELTA * side[-2] + (1 - DELTA) * side[-1])
