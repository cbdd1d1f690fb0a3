"""Weighted k-nearest-neighbour classification on frozen features: how good an embedding is, with nothing trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.evaluation.metrics.features import checked_features, checked_labels
from diptych.types import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Features = NDArray[np.floating[Any]]

_TESTS_AT_ONCE, _TRAIN_AT_ONCE = 1024, 4096  # a tile of similarities; 16 MB in float32


def knn_classify(
    train: Features,
    labels: ArrayLike,
    test: Features,
    k: int = 20,
    temperature: float = 0.07,
    *,
    classes: int | None = None,
) -> Floats:
    """M x K scores: the k most similar training samples vote for their class with weight exp(cosine / temperature).

    Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (2018), section 3.4, with the
    settings of DINO (Caron et al. 2021). Each row is scaled to the sum 1. Similarities are made tile by tile; no
    N x M matrix is held. Neighbours that tie for the last place: the earlier training sample is taken.

    Args:
        train: N x D features of any length; they are L2-normalised here.
        labels: N class numbers from 0.
        test: M x D features.
        k: neighbours; all of them if there are fewer.
        classes: K; by default the largest label and 1.

    Raises:
        InputError: shapes do not fit, a feature is not finite, or k or the temperature is not above 0.
    """
    if k < 1 or temperature <= 0:
        raise InputError(f"neighbours: expected k of 1 or more and a temperature above 0, got {k} and {temperature}")
    rows, queries = checked_features("train", train), checked_features("test", test)
    if rows.shape[1] != queries.shape[1]:
        raise InputError(f"features: {rows.shape[1]} dimensions to train on against {queries.shape[1]} to test on")
    numbers, count = checked_labels(labels, len(rows), classes)
    rows = _unit(rows)
    scores = np.zeros((len(queries), count))
    for start in range(0, len(queries), _TESTS_AT_ONCE):
        few = slice(start, start + _TESTS_AT_ONCE)
        similar, place = _nearest(rows, _unit(queries[few]), min(k, len(rows)))
        # The largest cosine is taken off, so that a small temperature cannot overflow.
        weights = np.exp((similar - similar.max(axis=1, keepdims=True)).astype(np.float64) / temperature)
        cells = np.arange(len(place))[:, None] * count + numbers[place]
        votes = np.bincount(cells.ravel(), weights=weights.ravel(), minlength=len(place) * count)
        scores[few] = votes.reshape(len(place), count)
    result: Floats = scores / scores.sum(axis=1, keepdims=True)
    return result


def _nearest(rows: Features, queries: Features, k: int) -> tuple[Features, Ints]:
    """Cosines and positions, each M x k, of the nearest rows."""
    similar = np.full((len(queries), 0), -np.inf, dtype=rows.dtype)
    place = np.zeros((len(queries), 0), dtype=np.int64)
    for start in range(0, len(rows), _TRAIN_AT_ONCE):
        tile = queries @ rows[start : start + _TRAIN_AT_ONCE].T
        best = _first(tile, k)
        similar = np.concatenate([similar, np.take_along_axis(tile, best, axis=1)], axis=1)
        place = np.concatenate([place, best + start], axis=1)
        best = _first(similar, k)
        similar, place = np.take_along_axis(similar, best, axis=1), np.take_along_axis(place, best, axis=1)
    return similar, place


def _first(values: Features, k: int) -> Ints:
    """Positions of the k largest of each row, in the order of the row; of equal ones the earlier."""
    if values.shape[1] <= k:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    last = -np.partition(-values, k - 1, axis=1)[:, k - 1 : k]
    kept = values >= last
    for row in np.flatnonzero(np.count_nonzero(kept, axis=1) > k):
        level = np.flatnonzero(values[row] == last[row])
        kept[row, level[k - np.count_nonzero(values[row] > last[row]) :]] = False
    return np.nonzero(kept)[1].reshape(len(values), k)


def _unit(rows: Features) -> Features:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Features = rows / np.where(length > 0, length, 1)
    return unit
