"""Retrieval ranks: matrices that can be checked by eye, a brute-force reference, ties, shared captions, chance."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.evaluation.metrics import retrieval
from diptych.evaluation.metrics.retrieval import QueryRanks, ranks_of_embeddings, ranks_of_scores
from diptych.types import InputError


def test_one_caption_each_by_eye() -> None:
    scores = np.array(
        [
            [9.0, 1.0, 2.0],  # picture 0: its text is first
            [7.0, 5.0, 6.0],  # picture 1: its text is last
            [3.0, 4.0, 2.5],  # picture 2: its text is last
        ]
    )
    i2t, t2i = ranks_of_scores(scores, [0, 1, 2])
    assert i2t.rank().tolist() == [1, 3, 3]
    assert t2i.rank().tolist() == [1, 1, 2]
    assert i2t.hit(1).tolist() == [1, 0, 0]
    assert t2i.hit(1).tolist() == [1, 1, 0]
    assert t2i.hit(2).tolist() == [1, 1, 1]


def test_many_ragged_captions_by_eye() -> None:
    # Texts 0 and 3 belong to picture 0, text 1 to picture 1, texts 2, 4, 5 to picture 2.
    scores = np.array(
        [
            [1.0, 8.0, 3.0, 5.0, 7.0, 0.0],  # right: 1 and 5; 8 and 7 are better than 5
            [2.0, 9.0, 1.0, 6.0, 3.0, 4.0],  # right: 9; first
            [0.0, 2.0, 5.0, 7.0, 6.0, 1.0],  # right: 5, 6, 1; 7 is better than 6
        ]
    )
    i2t, t2i = ranks_of_scores(scores, [0, 1, 2, 0, 2, 2])
    assert i2t.rank().tolist() == [3, 1, 2]
    assert i2t.right.tolist() == [2, 1, 3]
    assert t2i.rank().tolist() == [2, 1, 1, 3, 2, 2]
    assert (i2t.candidates, t2i.candidates) == (6, 3)


def test_ties_share_the_places() -> None:
    i2t, _ = ranks_of_scores(np.array([[1.0, 1.0, 0.0, 2.0]] * 4), [0, 1, 2, 3])
    assert i2t.rank().tolist() == [2.5, 2.5, 4.0, 1.0]  # 1 + one better + half of one tied
    assert i2t.hit(2).tolist() == [0.5, 0.5, 0.0, 1.0]
    assert i2t.hit(1).tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("captions", [[1] * 20, [3, 1, 5, 2] * 3])
def test_a_constant_scorer_is_exactly_at_chance(captions: list[int]) -> None:
    owner = np.repeat(np.arange(len(captions)), captions)
    vectors = np.ones((1, 37), dtype=np.float32) / math.sqrt(37)
    by_scores = ranks_of_scores(np.zeros((len(captions), len(owner))), owner)
    by_vectors = ranks_of_embeddings(vectors.repeat(len(captions), 0), vectors.repeat(len(owner), 0), owner)
    for ranks in (*by_scores, *by_vectors):
        for k in (1, 5, 10):
            assert ranks.hit(k).mean() == pytest.approx(ranks.chance_of_hit(k), abs=1e-12)
    assert np.median(by_vectors.t2i.rank()) == by_vectors.t2i.chance_of_median() == (len(captions) + 1) / 2


def test_every_picture_with_the_same_text_is_right() -> None:
    # Pictures 0 and 1 both carry the text "a star" (texts 0 and 1), picture 2 carries "a cat" (text 2).
    scores = np.array(
        [
            [0.2, 0.2, 0.9],
            [0.8, 0.8, 0.1],
            [0.5, 0.5, 0.4],
        ]
    )
    i2t, t2i = ranks_of_scores(scores, [0, 1, 2], text_ids=[7, 7, 3])
    assert t2i.rank().tolist() == [1, 1, 2]  # "a star" finds picture 1, which is right for both queries
    assert t2i.right.tolist() == [2, 2, 1]
    assert i2t.right.tolist() == [2, 2, 1]
    assert i2t.rank().tolist() == [2, 1, 3]  # both copies of "a star" stand before "a cat" for picture 2
    plain = ranks_of_scores(scores, [0, 1, 2]).t2i
    assert plain.rank().tolist() == [3, 1, 2]


def test_one_sentence_on_thousands_of_pictures_stays_cheap() -> None:
    rng = np.random.default_rng(0)
    images, texts = (_unit(rng.standard_normal((3000, 8))) for _ in range(2))
    texts[:2900] = texts[0]
    ids = np.maximum(np.arange(3000), 2899)  # 2900 copies of one text
    tracemalloc.start()
    ranks = ranks_of_embeddings(images, texts, np.arange(3000), text_ids=ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ranks.t2i.right[0] == 2900 and ranks.i2t.right_tied[0] == 2900
    scores = images @ texts[0]
    assert set(ranks.t2i.better[:2900]) == {np.count_nonzero(scores[2900:] > scores[:2900].max())}
    assert peak < 20e6  # 2900 squared pairs alone would be 67 MB a column


def test_tiles_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    owner = np.concatenate([np.arange(23), rng.integers(0, 23, 40)])
    ids = rng.integers(0, 50, len(owner))
    scores = rng.integers(0, 6, (23, len(owner))).astype(np.float32)
    scores = scores[:, np.unique(ids, return_index=True)[1][np.unique(ids, return_inverse=True)[1]]]
    whole = ranks_of_scores(scores, owner, text_ids=ids)
    monkeypatch.setattr(retrieval, "_IMAGES_AT_ONCE", 5)
    monkeypatch.setattr(retrieval, "_TEXTS_AT_ONCE", 7)
    for one, other in zip(whole, ranks_of_scores(scores, owner, text_ids=ids)):
        _assert_same(one, other)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A small matrix of whole scores (many ties), the owner of each text, and text ids with repetitions."""
    images = draw(st.integers(1, 4))
    owner = list(range(images)) + draw(st.lists(st.integers(0, images - 1), max_size=6 - images))
    ids = draw(st.lists(st.integers(0, 5), min_size=len(owner), max_size=len(owner)))
    by_id = draw(st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=images, max_size=images))
    return np.array(by_id, dtype=np.float64)[:, ids], np.array(draw(st.permutations(owner))), np.array(ids)


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(1, 7))
def test_against_sorting_in_every_order_of_the_ties(problem: tuple[np.ndarray, np.ndarray, np.ndarray], k: int) -> None:
    scores, owner, ids = problem
    carries = {(image, text) for image, text in zip(owner, ids)}
    right = np.array([[(image, text) in carries for text in ids] for image in range(len(scores))])
    ranks = ranks_of_scores(scores, owner, text_ids=ids)
    for direction, matrix, truth in ((ranks.i2t, scores, right), (ranks.t2i, scores.T, right.T)):
        for query in range(len(matrix)):
            places = _places_by_sorting(matrix[query], truth[query])
            assert direction.rank()[query] == pytest.approx(np.mean(places))
            assert direction.hit(k)[query] == pytest.approx(np.mean([place <= k for place in places]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(0, 60))
def test_embeddings_against_argsort(seed: int, images: int, more: int) -> None:
    rng = np.random.default_rng(seed)
    owner = np.concatenate([rng.permutation(images), rng.integers(0, images, more)])
    pictures, texts = _unit(rng.standard_normal((images, 16))), _unit(rng.standard_normal((len(owner), 16)))
    ranks = ranks_of_embeddings(pictures, texts, owner)
    scores = (pictures.astype(np.float64) @ texts.T.astype(np.float64)).T
    places = (np.argsort(-scores, axis=1) == owner[:, None]).argmax(axis=1) + 1
    assert np.abs(ranks.t2i.rank() - places).max() <= 0.5  # a near-tie within float32 rounding may share a place
    assert np.mean(ranks.t2i.rank() == places) > 0.9
    order = np.argsort(-scores.T, axis=1)
    first = (owner[order] == np.arange(images)[:, None]).argmax(axis=1) + 1
    assert np.mean(ranks.i2t.rank() == first) > 0.9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(6, 9), st.integers(1, 12))
def test_chance_is_the_mean_over_all_orders(right: list[int], candidates: int, k: int) -> None:
    ranks = _ranks_with(right, candidates)
    first = [np.array([min(places) for places in itertools.combinations(range(1, candidates + 1), m)]) for m in right]
    assert ranks.chance_of_hit(k) == pytest.approx(np.mean([(places <= k).mean() for places in first]))
    cdf = [np.mean([(places <= rank).mean() for places in first]) for rank in range(1, candidates + 1)]
    lower = next(rank for rank, share in enumerate(cdf, 1) if share >= 0.5 - 1e-12)
    upper = next(rank for rank, share in enumerate(cdf, 1) if share > 0.5 + 1e-12)
    assert ranks.chance_of_median() == pytest.approx((lower + upper) / 2)


def test_chance_at_the_size_of_coco() -> None:
    ranks = _ranks_with([5] * 10, 25_000)
    assert ranks.chance_of_hit(1) == pytest.approx(5 / 25_000)
    assert ranks.chance_of_median() == pytest.approx(25_000 * (1 - 0.5 ** (1 / 5)), abs=1)
    assert _ranks_with([1] * 10, 5000).chance_of_median() == 2500.5


@pytest.mark.parametrize(
    ("images", "texts", "owner", "words"),
    [
        (np.eye(3), np.eye(3)[:2], [0, 1], "picture 2 has no text"),
        (np.eye(3), np.eye(3), [0, 1, 3], "from 0 to 2"),
        (np.eye(3), np.eye(4), [0, 1, 2, 2], "expected N x D and M x D"),
        (np.eye(3), np.full((3, 3), np.nan), [0, 1, 2], "text embeddings: row 0 is not finite"),
        (np.eye(3), np.eye(3), [0.0, 1.0, 2.0], "picture numbers"),
    ],
)
def test_bad_input_is_refused(images: np.ndarray, texts: np.ndarray, owner: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ranks_of_embeddings(images, texts, owner)


def _places_by_sorting(scores: np.ndarray, right: np.ndarray) -> list[int]:
    """The place of the first right answer for every order in which the candidates could have been listed."""
    places = []
    for listing in itertools.permutations(range(len(scores))):
        order = sorted(listing, key=lambda candidate: -scores[candidate])  # stable: ties stay in the order of the list
        places.append(next(place for place, candidate in enumerate(order, 1) if right[candidate]))
    return places


def _ranks_with(right: list[int], candidates: int) -> QueryRanks:
    zeros = np.zeros(len(right), dtype=np.int64)
    return QueryRanks(zeros, zeros, zeros + 1, np.array(right), candidates)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _assert_same(one: QueryRanks, other: QueryRanks) -> None:
    for name in ("better", "tied", "right_tied", "right"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.candidates == other.candidates
