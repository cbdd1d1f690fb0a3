"""What the classifiers on frozen features ask of their input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.types import InputError


def checked_features(name: str, values: ArrayLike) -> NDArray[np.floating[Any]]:
    """N x D finite numbers as float32, or float64 where they are.

    Raises:
        InputError: the shape is another, there is no row, or a number is not finite.
    """
    rows = np.asarray(values)
    rows = rows.astype(np.float64 if rows.dtype == np.float64 else np.float32, copy=False)
    if rows.ndim != 2 or rows.size == 0:
        raise InputError(f"{name} features: expected N x D, got shape {rows.shape}")
    bad = np.flatnonzero(~np.isfinite(rows.sum(axis=1, dtype=np.float64)))
    if bad.size:
        raise InputError(f"{name} features: row {bad[0]} is not finite ({bad.size} such rows)")
    return rows


def checked_labels(values: ArrayLike, rows: int, classes: int | None) -> tuple[NDArray[np.int64], int]:
    """N class numbers, and how many classes there are.

    Raises:
        InputError: there is not one whole number from 0 to `classes` - 1 for each row.
    """
    labels = np.asarray(values)
    if labels.shape != (rows,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels: expected {rows} class numbers, got {labels.dtype} of shape {labels.shape}")
    count = int(labels.max()) + 1 if classes is None else classes
    if labels.min() < 0 or labels.max() >= count:
        raise InputError(f"labels: expected numbers from 0 to {count - 1}, got {labels.min()}..{labels.max()}")
    return labels.astype(np.int64), count
