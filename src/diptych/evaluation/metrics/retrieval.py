"""Retrieval: at which rank a query finds its first right answer, by counting instead of sorting.

A query is a picture that looks for its texts, or a text that looks for its picture. Only the best-scored right answer
counts. Three rules make the numbers honest:

* Ties are broken by a fair die: the rank is the expected one, a hit is the probability of a hit. A model that gives
  every pair the same score comes out exactly at chance.
* Texts with the same words are one text: every picture that carries a query's words is a right answer to it.
* Chance is computed in closed form from the number of right answers and candidates of each query.

Scores are made tile by tile and used for both directions; no N x M matrix is held.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.types import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Matrix = NDArray[np.floating[Any]]

TIE = 1e-6  # cosines closer than this are tied: float32 rounding must not decide who is first
_IMAGES_AT_ONCE, _TEXTS_AT_ONCE = 1024, 4096  # a tile of scores; 16 MB in float32


@dataclass(frozen=True)
class QueryRanks:
    """What Q queries of one direction met among their candidates.

    Attributes:
        better: Q; wrong candidates with a higher score than the best right answer.
        tied: Q; wrong candidates with the same score as the best right answer.
        right_tied: Q; right answers with that score, the best one included (1 or more).
        right: Q; right answers in all.
        candidates: how many candidates each query has, right ones included.
    """

    better: Ints
    tied: Ints
    right_tied: Ints
    right: Ints
    candidates: int

    def __len__(self) -> int:
        return len(self.better)

    def rank(self) -> Floats:
        """Q; the expected rank of the first right answer, from 1. With one right answer: 1 + better + tied / 2."""
        return np.asarray(1.0 + self.better + self.tied / (self.right_tied + 1.0), dtype=np.float64)

    def hit(self, k: int) -> Floats:
        """Q; the probability that a right answer stands among the first k; 0 or 1 unless there are ties."""
        return _any_right(k - self.better, self.right_tied, self.tied)

    def chance_of_hit(self, k: int) -> float:
        """What random scores reach on average: the mean of 1 - C(N - m, k) / C(N, k), for m right answers of N."""
        slots = np.full(len(self), min(k, self.candidates))
        return float(_any_right(slots, self.right, self.candidates - self.right).mean())

    def chance_of_median(self) -> float:
        """The median rank of random scores: the middle of the mixture of all queries' rank distributions."""
        sizes, counts = np.unique(self.right, return_counts=True)

        def share_beyond(rank: int) -> float:
            """P(rank of the first right answer > rank) = C(N - m, rank) / C(N, rank), over all queries."""
            return float(sum(c * _none_right(rank, int(m), self.candidates) for m, c in zip(sizes, counts)) / len(self))

        low, high = 1, self.candidates
        while low < high:  # the smallest rank that at least half of the queries reach
            middle = (low + high) // 2
            low, high = (low, middle) if share_beyond(middle) <= 0.5 + 1e-9 else (middle + 1, high)
        exactly_half = abs(share_beyond(low) - 0.5) < 1e-9
        return low + 0.5 * exactly_half  # then the median lies between this rank and the next


class RetrievalRanks(NamedTuple):
    """Both directions: `i2t` has one query per picture, `t2i` one per text, in the order given."""

    i2t: QueryRanks
    t2i: QueryRanks


def ranks_of_embeddings(
    images: Matrix,
    texts: Matrix,
    image_of_text: ArrayLike,
    *,
    text_ids: ArrayLike | None = None,
    tie: float = TIE,
) -> RetrievalRanks:
    """Ranks for scores `images @ texts.T`, which are never held whole: O(N M D) time, about 20 MB beside the inputs.

    Args:
        images: N x D, L2-normalised rows.
        texts: M x D, L2-normalised rows.
        image_of_text: M picture numbers in [0, N); every picture has at least one text.
        text_ids: M numbers; texts with equal numbers are the same text. By default all texts are different.
        tie: scores that differ by no more than this are tied.

    Raises:
        InputError: shapes do not fit, a picture has no text, or an embedding is not finite.
    """
    images, texts = (np.asarray(rows, dtype=np.result_type(rows, np.float32)) for rows in (images, texts))
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1]:
        raise InputError(f"embeddings: expected N x D and M x D, got {images.shape} and {texts.shape}")
    for name, rows in (("image", images), ("text", texts)):
        bad = np.flatnonzero(~np.isfinite(rows.sum(axis=1, dtype=np.float64)))
        if bad.size:
            raise InputError(f"{name} embeddings: row {bad[0]} is not finite ({bad.size} such rows)")
    truth = _Truth.build(image_of_text, text_ids, len(images), len(texts))

    def tile(rows: slice, cols: slice) -> Matrix:
        scores: Matrix = images[rows] @ texts[truth.first[cols]].T
        return scores

    def pairs(rows: Ints, cols: Ints) -> Matrix:
        scores: Matrix = np.einsum("pd,pd->p", images[rows], texts[truth.first[cols]])
        return scores

    return _ranks(tile, pairs, truth, tie)


def ranks_of_scores(
    scores: Matrix, image_of_text: ArrayLike, *, text_ids: ArrayLike | None = None, tie: float = 0.0
) -> RetrievalRanks:
    """Ranks for a given N x M matrix of scores, pictures x texts; higher is better. See `ranks_of_embeddings`."""
    scores = np.asarray(scores, dtype=np.result_type(scores, np.float32))
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise InputError(f"scores: expected a matrix of finite numbers, got shape {scores.shape}")
    truth = _Truth.build(image_of_text, text_ids, *scores.shape)
    return _ranks(
        lambda rows, cols: scores[rows][:, truth.first[cols]],  # a copy, which _ranks may change
        lambda rows, cols: scores[rows, truth.first[cols]],
        truth,
        tie,
    )


@dataclass(frozen=True)
class _Truth:
    """Which pairs are right, after texts with the same words became one column of U distinct texts.

    A sentence that stands on thousands of pictures then costs one column and not thousands squared pairs.
    """

    first: Ints  # U: one row number of each distinct text
    column: Ints  # M: the distinct text of each text
    copies: Ints  # U: how often each distinct text stands among the candidates
    image: Ints  # P: right pairs, sorted by picture: the picture ...
    text: Ints  # P: ... and the distinct text
    images: int

    @classmethod
    def build(cls, image_of_text: ArrayLike, text_ids: ArrayLike | None, images: int, texts: int) -> _Truth:
        owner = np.asarray(image_of_text)
        if owner.shape != (texts,) or texts == 0 or not np.issubdtype(owner.dtype, np.integer):
            raise InputError(f"image_of_text: expected {texts} picture numbers, got {owner.dtype} {owner.shape}")
        if owner.min() < 0 or owner.max() >= images:
            raise InputError(
                f"image_of_text: expected numbers from 0 to {images - 1}, got {owner.min()}..{owner.max()}"
            )
        alone = np.flatnonzero(np.bincount(owner, minlength=images) == 0)
        if alone.size:
            raise InputError(
                f"image_of_text: picture {alone[0]} has no text ({alone.size} such pictures); leave it out"
            )
        ids = np.arange(texts) if text_ids is None else np.asarray(text_ids)
        if ids.shape != (texts,):
            raise InputError(f"text_ids: expected {texts}, got shape {ids.shape}")
        _, first, column, copies = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
        pairs = np.unique(owner.astype(np.int64) * len(first) + column)
        return cls(first, column, copies, pairs // len(first), pairs % len(first), images)


def _ranks(
    tile: Callable[[slice, slice], Matrix],
    pair_scores: Callable[[Ints, Ints], Matrix],
    truth: _Truth,
    tie: float,
) -> RetrievalRanks:
    images, texts = truth.images, len(truth.first)
    starts = range(0, len(truth.image), _TEXTS_AT_ONCE)
    chunks = [slice(start, start + _TEXTS_AT_ONCE) for start in starts]
    score = np.concatenate([pair_scores(truth.image[chunk], truth.text[chunk]) for chunk in chunks])
    i2t = _Counts.build(score, truth.image, truth.copies[truth.text], images, tie)
    t2i = _Counts.build(score, truth.text, np.ones_like(truth.text), texts, tie)
    repeated = np.flatnonzero(truth.copies > 1)
    for a in range(0, images, _IMAGES_AT_ONCE):
        rows = slice(a, min(a + _IMAGES_AT_ONCE, images))
        near = slice(*np.searchsorted(truth.image, [rows.start, rows.stop]))
        for b in range(0, texts, _TEXTS_AT_ONCE):
            cols = slice(b, min(b + _TEXTS_AT_ONCE, texts))
            scores = tile(rows, cols)
            inside = (truth.text[near] >= cols.start) & (truth.text[near] < cols.stop)
            # Right answers leave the tile, so that only wrong ones are counted.
            scores[truth.image[near][inside] - a, truth.text[near][inside] - b] = -np.inf
            many = repeated[slice(*np.searchsorted(repeated, [cols.start, cols.stop]))]
            i2t.count_rows(scores, rows, many - b, truth.copies[many] - 1)
            t2i.count_columns(scores, cols)
    of_text = t2i.finish(images)
    each = {name: getattr(of_text, name)[truth.column] for name in ("better", "tied", "right_tied", "right")}
    return RetrievalRanks(i2t.finish(len(truth.column)), QueryRanks(**each, candidates=images))


@dataclass
class _Counts:
    """Running counts of one direction's queries against the score of their best right answer."""

    above: Matrix  # Q: a wrong score beyond this is better
    level: Matrix  # Q: a wrong score from here on is better or tied
    better: Ints
    reached: Ints
    right_tied: Ints
    right: Ints

    @classmethod
    def build(cls, score: Matrix, query: Ints, weight: Ints, queries: int, tie: float) -> _Counts:
        best = np.full(queries, -np.inf, dtype=score.dtype)
        np.maximum.at(best, query, score)
        above, level = best + score.dtype.type(tie), best - score.dtype.type(tie)
        tied = np.bincount(query, weights=weight * (score >= level[query]), minlength=queries).astype(np.int64)
        right = np.bincount(query, weights=weight, minlength=queries).astype(np.int64)
        zeros = np.zeros(queries, dtype=np.int64)
        return cls(above, level, zeros, zeros.copy(), tied, right)

    def count_rows(self, scores: Matrix, rows: slice, many: Ints, extra: Ints) -> None:
        """The queries are rows; column `many[i]` stands for `1 + extra[i]` candidates."""
        for counts, mask in (
            (self.better, scores > self.above[rows, None]),
            (self.reached, scores >= self.level[rows, None]),
        ):
            counts[rows] += np.count_nonzero(mask, axis=1) + mask[:, many] @ extra

    def count_columns(self, scores: Matrix, cols: slice) -> None:
        """The queries are columns."""
        self.better[cols] += np.count_nonzero(scores > self.above[cols], axis=0)
        self.reached[cols] += np.count_nonzero(scores >= self.level[cols], axis=0)

    def finish(self, candidates: int) -> QueryRanks:
        return QueryRanks(self.better, self.reached - self.better, self.right_tied, self.right, candidates)


def _any_right(slots: Ints, right: Ints, wrong: Ints) -> Floats:
    """P(a right one is among `slots` drawn without replacement from `right + wrong`) = 1 - C(wrong, s) / C(all, s)."""
    none = np.ones(len(right))
    for i in range(int(slots.max(initial=0))):
        share = np.maximum(wrong - i, 0) / np.maximum(wrong + right - i, 1)
        none *= np.where(i < slots, share, 1.0)
    return 1.0 - none


def _none_right(slots: int, right: int, candidates: int) -> float:
    """C(candidates - right, slots) / C(candidates, slots), through logarithms of factorials."""
    wrong = candidates - right
    if slots > wrong:
        return 0.0
    terms = (wrong, candidates - slots), (wrong - slots, candidates)
    above, below = (sum(math.lgamma(n + 1) for n in numbers) for numbers in terms)
    return math.exp(above - below)
