"""IoU of pairs of boxes by hand and against pycocotools, and referring accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask

from diptych.evaluation.metrics.referring import box_iou, referring_accuracy
from diptych.types import InputError

NONE = [np.nan] * 4


def test_by_hand() -> None:
    box = [0, 0, 4, 2]
    others = [box, [2, 0, 6, 2], [4, 0, 8, 2], [1, 1, 2, 2], [1, 1, 1, 2], [3, 1, 0, 0], NONE]
    iou = box_iou(others, [box] * 7)
    assert iou.tolist() == [1, 4 / 12, 0, 1 / 8, 0, 0, 0]  # a box without area, a reversed one and none: nothing met
    assert referring_accuracy([[0, 0, 2, 2], [0, 0, 1.99, 2]], [box, box]).tolist() == [1, 0]  # 0.5 is enough
    assert referring_accuracy([[0, 0, 2, 2]], [box], threshold=0.6).tolist() == [0]


def test_against_pycocotools() -> None:
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 50, (2, 200, 2)), rng.uniform(1, 60, (2, 200, 2))
    xywh = np.concatenate([corner, size], axis=2)
    one, two = np.concatenate([corner, corner + size], axis=2)
    theirs = mask.iou(xywh[0], xywh[1], [0] * 200)
    np.testing.assert_allclose(box_iou(one, two), np.diag(theirs), rtol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([[0, 0, 1, 1]], [[0, 0, 1, 1]] * 2, "expected N x 4 twice"),
        ([[0, 0, 1]], [[0, 0, 1]], "expected N x 4 twice"),
        (np.zeros((0, 4)), np.zeros((0, 4)), "N above 0"),
        ([[0, 0, 1, np.nan]], [[0, 0, 1, 1]], "row 0: expected four finite numbers"),
        ([[0, 0, 1, 1]], [NONE], "row 0"),
    ],
)
def test_bad_boxes_are_named(a: list, b: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        box_iou(a, b)
