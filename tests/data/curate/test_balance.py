"""Balancing against the law of Algorithm 1 and a plain loop."""

import random

import numpy as np
import pytest

from diptych.data.curate import balance as module
from diptych.data.curate.balance import balance, entry_counts, limit_for, tail
from diptych.types import InputError


def pool(rows: int = 3000, entries: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Examples with 0 to 5 entries each, of very unequal frequency."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, entries + 1)
    lists = [np.sort(rng.choice(entries, n, False, weights / weights.sum())) for n in rng.integers(0, 6, rows)]
    return np.cumsum([0, *map(len, lists)]), np.concatenate(lists).astype(np.int32)


def chances(offsets: np.ndarray, entries: np.ndarray, limit: int) -> np.ndarray:
    """1 - prod(1 - p) for each example."""
    p = np.minimum(1, limit / np.maximum(np.bincount(entries), 1))
    return np.array([1 - np.prod(1 - p[entries[a:b]]) for a, b in zip(offsets, offsets[1:])])


def test_each_example_is_kept_with_its_own_probability():
    offsets, entries = pool(rows=400)
    expected = chances(offsets, entries, 20)
    seeds = 600
    kept = np.mean([balance(offsets, entries, 20, seed) for seed in range(seeds)], axis=0)
    error = np.sqrt(expected * (1 - expected) / seeds)
    assert (kept[error == 0] == expected[error == 0]).all()  # without entries, or with a rare one
    scores = ((kept - expected) / np.maximum(error, 1e-12))[error > 0]
    assert len(scores) > 100 and abs(scores).max() < 4.5 and scores.std() == pytest.approx(1, abs=0.15)


def test_a_plain_loop_keeps_as_many():
    offsets, entries = pool()
    counts = np.bincount(entries)
    rng = random.Random(0)
    by_loop = 0
    for a, b in zip(offsets, offsets[1:]):
        for entry in entries[a:b]:
            if rng.random() < min(1, 50 / counts[entry]):
                by_loop += 1
                break
    expected = chances(offsets, entries, 50)
    error = np.sqrt((expected * (1 - expected)).sum())
    assert abs(by_loop - expected.sum()) < 4 * error
    assert abs(balance(offsets, entries, 50).sum() - expected.sum()) < 4 * error


def test_examples_draw_for_themselves(monkeypatch):
    offsets, entries = pool()
    rows, counts = len(offsets) - 1, entry_counts(entries)
    whole = balance(offsets, entries, 30, seed=1)
    monkeypatch.setattr(module, "_AT_ONCE", 7)
    assert (balance(offsets, entries, 30, seed=1) == whole).all()
    monkeypatch.undo()
    order = np.random.default_rng(0).permutation(rows)
    lists = [entries[offsets[i] : offsets[i + 1]] for i in order]
    moved = balance(np.cumsum([0, *map(len, lists)]), np.concatenate(lists), 30, seed=1, keys=order)
    assert (moved == whole[order]).all()
    half = rows // 2
    part = balance(
        offsets[half:] - offsets[half], entries[offsets[half] :], 30, 1, counts=counts, keys=range(half, rows)
    )
    assert (part == whole[half:]).all()
    assert (balance(offsets, entries, 30, seed=2) != whole).any()


def test_rare_entries_keep_all_and_nothing_keeps_an_example_without_entries():
    offsets = np.array([0, 0, 1, 3, 3])
    entries = np.array([5, 0, 5], np.int32)
    assert balance(offsets, entries, 2).tolist() == [False, True, True, False]
    assert balance(np.array([0]), entries[:0], 1).tolist() == []
    assert balance(np.array([0, 0]), entries[:0], 1).tolist() == [False]


def test_the_tail_and_the_limit_that_leaves_it_a_share():
    counts = np.array([100, 50, 0, 3, 2, 1])
    assert tail(counts, 10) == (10, 5, 2, 156, 6 / 156, 6 / 26)
    assert limit_for(counts, 6 / 156) == 3
    assert limit_for(counts, 7 / 156) == 50
    assert limit_for(counts, 1.0) == 100
    counts = entry_counts(pool(entries=4000)[1])
    limit = limit_for(counts, 0.3)
    assert tail(counts, limit - 1).share < 0.3 <= tail(counts, limit).share


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"limit": 0}, "limit: expected 1 or more"),
        ({"row_offsets": np.array([0, 2])}, "row_offsets"),
        ({"row_offsets": np.array([], np.int64)}, "row_offsets"),
        ({"keys": [1, 2, 3]}, "keys: expected one for each of 2 examples, got 3"),
        ({"counts": np.array([3])}, "counts: expected one for each entry"),
    ],
)
def test_what_does_not_fit_is_refused(change, sentence):
    arguments = {"row_offsets": np.array([0, 1, 3]), "entry_ids": np.array([0, 1, 2]), "limit": 5} | change
    with pytest.raises(InputError, match=sentence):
        balance(**arguments)


def test_a_share_that_cannot_be_is_refused():
    for share, counts in ((0, [1]), (1.5, [1]), (0.5, [0])):
        with pytest.raises(InputError, match="tail share"):
            limit_for(np.array(counts), share)
