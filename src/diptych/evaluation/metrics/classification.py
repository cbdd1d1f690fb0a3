"""Classification: top-k, accuracy per class, balanced accuracy and the confusion matrix, from scores or predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.types import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def top_k(scores: NDArray[np.floating[Any]], truth: ArrayLike, k: int, tie: float = 0.0) -> Floats:
    """Q values: the probability that the true class is among the k best, ties being broken by a fair die.

    It is 0 or 1 unless classes tie with the true one. A scorer that gives every class the same score gets k / K.

    Args:
        scores: Q x K, higher is better.
        truth: Q class numbers in [0, K).
        tie: scores that differ by no more than this are tied.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise InputError(f"scores: expected a matrix of finite numbers, got shape {scores.shape}")
    labels = _class_numbers(truth, scores.shape[1], "truth", len(scores))
    true_score = scores[np.arange(len(scores)), labels][:, None]
    better = np.count_nonzero(scores > true_score + tie, axis=1)
    reached = np.count_nonzero(scores >= true_score - tie, axis=1)  # the true class included
    hits: Floats = np.clip((k - better) / (reached - better), 0.0, 1.0)
    return hits


def confusion_matrix(predicted: ArrayLike, truth: ArrayLike, classes: int) -> Ints:
    """K x K counts; the row is the true class, the column the predicted one."""
    labels = _class_numbers(truth, classes, "truth")
    guesses = _class_numbers(predicted, classes, "predicted", len(labels))
    return np.bincount(labels * classes + guesses, minlength=classes * classes).reshape(classes, classes)


def per_class_accuracy(confusion: Ints) -> Floats:
    """K shares of right predictions, one per true class; NaN for a class without samples."""
    size = confusion.sum(axis=1)
    return np.where(size > 0, np.diag(confusion) / np.maximum(size, 1), np.nan)


def _class_numbers(values: ArrayLike, classes: int, name: str, length: int | None = None) -> Ints:
    numbers = np.asarray(values)
    if numbers.ndim != 1 or numbers.size == 0 or not np.issubdtype(numbers.dtype, np.integer):
        raise InputError(f"{name}: expected a row of class numbers, got {numbers.dtype} of shape {numbers.shape}")
    if length is not None and len(numbers) != length:
        raise InputError(f"{name}: expected {length} class numbers, got {len(numbers)}")
    if numbers.min() < 0 or numbers.max() >= classes:
        raise InputError(
            f"{name}: expected class numbers from 0 to {classes - 1}, got {numbers.min()}..{numbers.max()}"
        )
    return numbers.astype(np.int64)
