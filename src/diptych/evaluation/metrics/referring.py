"""Referring expressions: is the box that a phrase was given the right one?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.types import InputError

Floats = NDArray[np.float64]


def box_iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """N values from 0 to 1: the intersection over the union of each pair of boxes.

    Args:
        a, b: N x 4; (x0, y0, x1, y1), x1 and y1 exclusive. A box without area has IoU 0 with every box. A row of four
            NaN in `a` says that no box was given, and has IoU 0.

    Raises:
        InputError: shapes differ, or a number is not finite.
    """
    one, two = (np.asarray(boxes, dtype=np.float64) for boxes in (a, b))
    if one.ndim != 2 or one.size == 0 or one.shape[1] != 4 or one.shape != two.shape:
        raise InputError(f"boxes: expected N x 4 twice, N above 0, got {one.shape} and {two.shape}")
    absent = np.isnan(one).all(axis=1, keepdims=True)
    one = np.where(absent, 0.0, one)
    for boxes in (one, two):
        bad = np.flatnonzero(~np.isfinite(boxes).all(axis=1))
        if bad.size:
            raise InputError(f"boxes: row {bad[0]}: expected four finite numbers ({bad.size} such rows)")
    overlap = _area(np.concatenate([np.maximum(one[:, :2], two[:, :2]), np.minimum(one[:, 2:], two[:, 2:])], axis=1))
    union = _area(one) + _area(two) - overlap
    result: Floats = overlap / np.where(union > 0, union, 1.0)
    return result


def referring_accuracy(predicted: ArrayLike, truth: ArrayLike, threshold: float = 0.5) -> Floats:
    """N values, 1 where the predicted box has an IoU of at least `threshold` with the true one, else 0.

    RefCOCO's accuracy (Yu et al., "Modeling Context in Referring Expressions", 2016) is their mean. Boxes as in
    `box_iou`.
    """
    return (box_iou(predicted, truth) >= threshold).astype(np.float64)


def _area(boxes: Floats) -> Floats:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    product: Floats = sides[:, 0] * sides[:, 1]
    return product
