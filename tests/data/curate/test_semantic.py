"""Semantic de-duplication against the plain greedy rule and against planted repeats."""

import numpy as np
import pytest

from diptych.data.curate import semantic
from diptych.data.curate.semantic import semantic_duplicates
from diptych.types import InputError


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def with_repeats(rows: int, repeats: int, dims: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors, the last of which are at a cosine of 0.96 to 0.99 to earlier ones; and which those are."""
    rng = np.random.default_rng(seed)
    topics = unit(rng.standard_normal((20, dims)))
    own = unit(rng.standard_normal((rows, dims)))
    vectors = unit(own + topics[rng.integers(0, 20, rows)])
    source = rng.choice(rows, repeats, replace=False)
    noise = rng.standard_normal((repeats, dims))
    noise = unit(noise - (noise * vectors[source]).sum(1, keepdims=True) * vectors[source])
    cosine = rng.uniform(0.96, 0.99, (repeats, 1))
    return np.concatenate([vectors, unit(cosine * vectors[source] + np.sqrt(1 - cosine**2) * noise)]), source


def greedily(vectors: np.ndarray, threshold: float, order: np.ndarray) -> np.ndarray:
    """The rule, one vector after the other."""
    similar = vectors @ vectors.T >= threshold
    owner, kept = np.arange(len(vectors)), []
    for row in order:
        near = [other for other in kept if similar[row, other]]
        owner[row] = near[0] if near else row
        if not near:
            kept.append(row)
    return owner


@pytest.mark.parametrize("block", [5, 64, 1024])
def test_one_cluster_is_the_greedy_rule(monkeypatch, block):
    monkeypatch.setattr(semantic, "_BLOCK", block)
    rng = np.random.default_rng(1)
    vectors = unit(rng.standard_normal((400, 4)))  # in 4 dimensions chains of near repeats are long
    assert (semantic_duplicates(vectors, threshold=0.9) == greedily(vectors, 0.9, np.arange(400))).all()
    priority = rng.permutation(400)
    found = semantic_duplicates(vectors, threshold=0.9, priority=priority)
    assert (found == greedily(vectors, 0.9, np.argsort(-priority))).all()
    assert (found != np.arange(400)).sum() > 50


def test_planted_repeats_are_found_across_clusters():
    vectors, source = with_repeats(5000, 1000, 64)
    owner = semantic_duplicates(vectors, threshold=0.95, clusters=60)
    assert (owner[5000:] == source).mean() >= 0.99
    assert (owner[:5000] == np.arange(5000)).all()


def test_repeats_that_a_border_divides_are_missed_without_visits(monkeypatch):
    vectors, source = with_repeats(5000, 1000, 64)
    monkeypatch.setattr(semantic, "VISITS", 0)
    owner = semantic_duplicates(vectors, threshold=0.95, clusters=60)
    assert (owner[5000:] == source).mean() < 0.99


def test_the_outcome_obeys_the_rule_within_clusters_and_owners_are_kept():
    rng = np.random.default_rng(2)
    vectors = unit(rng.standard_normal((3000, 6)))
    owner = semantic_duplicates(vectors, threshold=0.9, clusters=20)
    kept = owner == np.arange(3000)
    assert kept[owner].all() and 0.05 < kept.mean() < 0.9
    assert (owner <= np.arange(3000)).all()
    near = semantic._assign(vectors, semantic._centres(vectors, 20, np.random.default_rng(0)), 0.0)
    same = near.home[:, None] == near.home[None]
    similar = np.triu(vectors @ vectors.T >= 0.9, 1) & same
    assert not similar[np.ix_(kept, kept)].any(), "two that are kept in one cluster are not similar"
    cosine = (vectors * vectors[owner]).sum(axis=1)
    assert cosine.min() >= np.cos(2 * np.arccos(0.9)) - 1e-5, "an owner is two steps away at most"


def test_priority_and_not_the_order_of_rows_decides():
    vectors, _ = with_repeats(1500, 500, 32)
    priority = np.random.default_rng(3).permutation(2000)
    plain = semantic_duplicates(vectors, threshold=0.95, priority=priority)
    order = np.random.default_rng(4).permutation(2000)
    moved = semantic_duplicates(vectors[order], threshold=0.95, priority=priority[order])
    assert (order[moved] == plain[order]).all()
    dropped = plain != np.arange(2000)
    assert dropped.sum() >= 500 and (priority[plain[dropped]] > priority[dropped]).all()


def test_a_heap_of_equal_vectors_keeps_one_and_large_clusters_are_divided():
    rng = np.random.default_rng(5)
    apart = unit(rng.standard_normal((1000, 64)))
    heap = np.repeat(unit(rng.standard_normal((1, 64))), 3000, axis=0)
    owner = semantic_duplicates(np.concatenate([apart, heap]), threshold=0.95, clusters=30)
    assert (owner[1000:] == 1000).all() and (owner[:1000] == np.arange(1000)).all()
    cone = unit(heap + 0.08 * rng.standard_normal((3000, 64)))
    centres = semantic._centres(np.concatenate([apart[:300], cone]), 8, np.random.default_rng(0))
    sizes = np.bincount(semantic._assign(np.concatenate([apart[:300], cone]), centres, 0.0).home)
    assert sizes.max() < 4 * 3300 / 8


def test_a_seed_gives_the_same_owners():
    vectors, _ = with_repeats(2000, 200, 16)
    once, again = (semantic_duplicates(vectors, threshold=0.95, clusters=15, seed=7) for _ in range(2))
    assert (once == again).all()


@pytest.mark.parametrize("rows", [0, 1])
def test_few_vectors(rows):
    assert semantic_duplicates(unit(np.ones((rows, 3)))).tolist() == list(range(rows))


@pytest.mark.parametrize(
    ("vectors", "options", "sentence"),
    [
        (np.eye(3), {}, "expected float32, N x D, got float64"),
        (np.ones(3, np.float32), {}, "N x D"),
        (2 * np.eye(3, dtype=np.float32), {}, "row 0 has 2"),
        (np.array([[1, 0], [np.nan, 0]], np.float32), {}, "row 1 has nan"),
        (np.eye(3, dtype=np.float32), {"threshold": 1.5}, "threshold: expected a cosine"),
        (np.eye(3, dtype=np.float32), {"clusters": 4}, "clusters: expected 1 to 3, got 4"),
        (np.eye(3, dtype=np.float32), {"priority": [1, 2]}, "priority: expected 3 numbers"),
        (np.eye(3, dtype=np.float32), {"priority": [1, 2, np.nan]}, "priority: expected 3 numbers"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(vectors, options, sentence):
    with pytest.raises(InputError, match=sentence):
        semantic_duplicates(vectors, **options)
