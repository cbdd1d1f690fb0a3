"""Judge a dual encoder by retrieval: do pictures find their captions, and captions their pictures?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from diptych.capabilities import DualEncoder
from diptych.data.store import Dataset
from diptych.evaluation.judged import Values
from diptych.evaluation.metrics.intervals import mean_interval, median_interval
from diptych.evaluation.metrics.retrieval import QueryRanks, RetrievalRanks, ranks_of_embeddings, ranks_of_scores
from diptych.tasks.embed import embed_readable_images, embed_texts
from diptych.tasks.retrieve import match_pairs
from diptych.types import Estimate, InputError, Rejected

KS = (1, 5, 10)

Direction = Literal["i2t", "t2i"]


class Answered(NamedTuple):
    """One candidate that a query found: its number among the candidates, its score, and whether it is a right one."""

    candidate: int
    score: float
    right: bool


@dataclass(frozen=True)
class RetrievalResult:
    """Everything that came out, N pictures against M captions.

    Attributes:
        estimates: "retrieval/i2t_r@1" ... as shares in [0, 1], and "retrieval/i2t_median_rank"; the same for "t2i".
        rows: N; the judged samples' numbers in the dataset.
        captions: M.
        image_of_text: M; the picture of each caption, in [0, N).
        text_ids: M; captions with the same words have the same number.
        images: N x D, L2-normalised.
        texts: M x D, L2-normalised.
        ranks: per query, both directions.
        rejected: pictures that could not be read; they are left out.
        without_caption: samples that have no caption; they are left out.
    """

    estimates: dict[str, Estimate]
    rows: list[int]
    captions: list[str]
    image_of_text: NDArray[np.int64]
    text_ids: NDArray[np.int64]
    images: NDArray[np.float32]
    texts: NDArray[np.float32]
    ranks: RetrievalRanks
    rejected: list[Rejected]
    without_caption: int

    def left_out(self) -> dict[str, int]:
        """How many samples were left out, by reason."""
        return {"sample without a caption": self.without_caption, **Counter(row.reason for row in self.rejected)}

    @property
    def values(self) -> dict[str, Values]:
        """The hits of every query, by the name of the estimate that is their mean."""
        rows = np.asarray(self.rows)
        place = np.arange(len(self.image_of_text)) - np.searchsorted(self.image_of_text, self.image_of_text)
        found = {}
        for k in KS:
            found[f"retrieval/i2t_r@{k}"] = Values.of(rows, np.zeros_like(rows), self.ranks.i2t.hit(k))
            found[f"retrieval/t2i_r@{k}"] = Values.of(rows[self.image_of_text], place, self.ranks.t2i.hit(k))
        return found

    def side(self, direction: Direction) -> QueryRanks:
        """The ranks of one direction."""
        return self.ranks.i2t if direction == "i2t" else self.ranks.t2i

    def worst(self, direction: Direction, count: int = 10) -> list[int]:
        """Numbers of the queries with the highest ranks, worst first."""
        return [int(i) for i in np.argsort(-self.side(direction).rank(), kind="stable")[:count]]

    def best(self, direction: Direction, count: int = 10) -> list[int]:
        """Numbers of the queries with the lowest ranks, best first; of those, the ones with the surest answers."""
        margin = self._best_right_scores(direction)
        return [int(i) for i in np.lexsort((-margin, self.side(direction).rank()))[:count]]

    def answers(self, direction: Direction, query: int) -> list[Answered]:
        """All candidates of one query, best first."""
        if direction == "t2i":
            scores = self.images @ self.texts[query]
            right = np.isin(np.arange(len(scores)), self.image_of_text[self.text_ids == self.text_ids[query]])
        else:
            scores = self.texts @ self.images[query]
            right = np.isin(self.text_ids, self.text_ids[self.image_of_text == query])
        return [Answered(int(i), float(scores[i]), bool(right[i])) for i in np.argsort(-scores, kind="stable")]

    def _best_right_scores(self, direction: Direction) -> NDArray[np.float32]:
        """Q; the score of the query with its own picture, or with the best of its own captions."""
        pairs: NDArray[np.float32] = np.einsum("md,md->m", self.texts, self.images[self.image_of_text])
        if direction == "t2i":
            return pairs
        best = np.full(len(self.images), -np.inf, dtype=pairs.dtype)
        np.maximum.at(best, self.image_of_text, pairs)
        return best


def evaluate_retrieval(
    model: Any,
    dataset: Dataset,
    *,
    by: Any = None,
    shortlist: int = 16,
    batch_size: int = 64,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> RetrievalResult:
    """Rank every caption for every picture and every picture for every caption.

    All captions of all readable samples are candidates and queries. Recall and rank are defined in
    `diptych.evaluation.metrics.retrieval`; intervals are drawn over pictures, each with all its captions. `progress` is
    called with how many pictures are embedded and how many there are.

    With `by`, a model that `tasks.match` can ask, the first `shortlist` candidates of each query are looked at pair by
    pair and put in its order; the recalls of that are the same names with "_by_pairs".

    Raises:
        InputError: the model is no dual encoder, or no sample has both a caption and a readable picture.
    """
    if not isinstance(model, DualEncoder):
        raise InputError(f"{type(model).__name__} cannot be judged by retrieval: it does not encode images and texts")
    captions = [[text for text in texts or () if text.strip()] for texts in dataset.column("captions")]
    with_caption = [row for row, texts in enumerate(captions) if texts]
    if not with_caption:
        raise InputError(f"{dataset.name}: captions: no sample has one, so there is nothing to retrieve by")
    embedded = embed_readable_images(
        model, dataset.select(with_caption), batch_size=batch_size, device=device, progress=progress
    )
    if not embedded.kept:
        raise InputError(f"{dataset.name}: images: none of {len(with_caption)} could be read")
    rows = [with_caption[i] for i in embedded.kept]
    texts = [text for row in rows for text in captions[row]]
    image_of_text = np.repeat(np.arange(len(rows)), [len(captions[row]) for row in rows])
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    text_ids = np.array([distinct[text] for text in texts])
    told = embed_texts(model, list(distinct), batch_size=batch_size, device=device)
    vectors = told[text_ids]
    ranks = ranks_of_embeddings(embedded.vectors, vectors, image_of_text, text_ids=text_ids)
    estimates = retrieval_estimates(ranks, image_of_text, seed)
    if by is not None:
        options = {"batch_size": batch_size, "device": device, "progress": progress}
        orders = _by_pairs(by, dataset.select(rows), list(distinct), embedded.vectors @ told.T, shortlist, options)
        of_pictures, of_texts = (ranks_of_scores(one[:, text_ids], image_of_text, text_ids=text_ids) for one in orders)
        found = retrieval_estimates(RetrievalRanks(of_pictures.i2t, of_texts.t2i), image_of_text, seed)
        estimates |= {f"{name}_by_pairs": one for name, one in found.items() if "r@" in name}
    return RetrievalResult(
        estimates=estimates,
        rows=rows,
        captions=texts,
        image_of_text=image_of_text,
        text_ids=text_ids,
        images=embedded.vectors,
        texts=vectors,
        ranks=ranks,
        rejected=list(embedded.rejected),
        without_caption=len(captions) - len(with_caption),
    )


def _by_pairs(
    model: Any,
    pictures: Dataset,
    texts: Sequence[str],
    cosines: NDArray[np.float32],
    shortlist: int,
    options: dict[str, Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores N x M by which pictures find texts, and by which texts find pictures.

    The shortlist of a query stands before all others, in the order of the model that looked at its pairs.
    """
    chosen = [np.argsort(-some, axis=1, kind="stable")[:, :shortlist] for some in (cosines, cosines.T)]
    pairs = {(i, int(j)) for i, some in enumerate(chosen[0]) for j in some}
    pairs |= {(int(i), j) for j, some in enumerate(chosen[1]) for i in some}
    looked = match_pairs(model, pictures, texts, sorted(pairs), **options)
    found = []
    for some, best, swapped in ((cosines, chosen[0], False), (cosines.T, chosen[1], True)):
        scores = some.astype(np.float64)
        for query, own in enumerate(best):
            seen = [looked.get((int(i), query) if swapped else (query, int(i)), -np.inf) for i in own]
            scores[query, own] = 1 + rankdata(seen) / len(own)
        found.append(scores)
    return found[0], found[1].T


def retrieval_estimates(
    ranks: RetrievalRanks, image_of_text: NDArray[np.int64] | Sequence[int], seed: int = 0
) -> dict[str, Estimate]:
    """Recalls at 1, 5 and 10 (shares) and median ranks, both ways, each with interval, n and chance."""
    rng = np.random.default_rng(seed)
    sample_of = {"i2t": np.arange(len(ranks.i2t)), "t2i": np.asarray(image_of_text)}
    estimates = {}
    for direction, side in (("i2t", ranks.i2t), ("t2i", ranks.t2i)):
        groups = sample_of[direction]
        for k in KS:
            estimates[f"retrieval/{direction}_r@{k}"] = mean_interval(
                side.hit(k), rng, groups=groups, chance=side.chance_of_hit(k)
            )
        estimates[f"retrieval/{direction}_median_rank"] = median_interval(
            side.rank(), rng, groups=groups, chance=side.chance_of_median()
        )
    return estimates
