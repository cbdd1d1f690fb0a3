"""The map: neighbours stay neighbours, nothing is random, nothing overlaps."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.evaluation.report.layout import pair_layout, push_apart


def planted(clusters: int = 4, each: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs in clusters; texts lie in another cone than pictures."""
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(clusters), each)
    centres = rng.standard_normal((clusters, 32))
    rows = [centres[cluster] + 0.3 * rng.standard_normal((len(cluster), 32)) + shift for shift in (0.0, 2.0)]
    images, texts = (row / np.linalg.norm(row, axis=1, keepdims=True) for row in rows)
    return images.astype(np.float32), texts.astype(np.float32), cluster


def test_clusters_of_both_kinds_come_together() -> None:
    images, texts, cluster = planted()
    here, there, gap = pair_layout(images, texts)
    places = np.concatenate([here, there])
    names = np.concatenate([cluster, cluster])
    distance = np.linalg.norm(places[:, None] - places[None], axis=2) + 10 * np.eye(len(places))
    nearest = distance.argsort(axis=1)[:, :3]
    assert np.mean(names[nearest] == names[:, None]) > 0.9
    assert np.linalg.norm(here - there, axis=1).mean() < 0.5 * distance[distance < 10].mean()
    assert places.min() >= 0 and places.max() <= 1
    assert gap == pytest.approx(np.linalg.norm(images.mean(0) - texts.mean(0)), rel=1e-5) and gap > 0.3


def test_nothing_is_random() -> None:
    images, texts, _ = planted()
    for one, again in zip(pair_layout(images, texts), pair_layout(images, texts)):
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_a_few_pairs_are_laid_out_too(pairs: int) -> None:
    images, texts, _ = planted()
    for places in pair_layout(images[:pairs], texts[:pairs])[:2]:
        assert places.shape == (pairs, 2) and np.isfinite(places).all()


def test_equal_vectors_do_not_break_it() -> None:
    rows = np.ones((6, 4), dtype=np.float32) / 2
    assert np.isfinite(np.concatenate(pair_layout(rows, rows)[:2])).all()


def test_squares_are_pushed_apart() -> None:
    places = np.random.default_rng(1).random((30, 2)).astype(np.float32) * 100
    sizes = np.repeat(np.array([20, 8], dtype=np.float32), 15)
    moved = push_apart(places, sizes, steps=400)
    offset = np.abs(moved[:, None] - moved[None]).max(axis=2) + 100 * np.eye(30)
    assert (offset >= 0.95 * (sizes[:, None] + sizes[None]) / 2).all()
    np.testing.assert_array_equal(push_apart(moved * 100, sizes), (moved * 100).astype(np.float32))
