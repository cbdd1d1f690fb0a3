"""Masks in COCO's encoding: round trips, the three ways in which files hold them, and what is refused."""

import numpy as np
import pytest

from diptych.data import masks
from diptych.types import InputError, Mask


@pytest.fixture
def ring():
    pixels = np.zeros((7, 9), dtype=bool)
    pixels[2:6, 1:8] = True
    pixels[3:5, 3:5] = False
    return pixels


def test_what_is_encoded_comes_back(ring):
    for pixels in (ring, np.zeros((4, 3), bool), np.ones((3, 4), bool), ring.T):
        mask = masks.encode(pixels)
        assert (mask.height, mask.width) == pixels.shape
        assert np.array_equal(masks.decode(mask), pixels) and masks.area(mask) == pixels.sum()
    assert masks.box(masks.encode(ring)) == (1, 2, 8, 6)
    assert masks.box(masks.encode(np.zeros((4, 3), bool))) == (0, 0, 0, 0)


def test_runs_and_polygons_of_files(ring):
    mask = masks.encode(ring)
    columns = ring.T.reshape(-1)  # runs go down the columns and begin with the outside
    edges = np.flatnonzero(np.diff(np.concatenate(([False], columns, [False]))))
    runs = np.diff(np.concatenate(([0], edges, [columns.size]))).tolist()
    assert masks.from_coco({"size": [7, 9], "counts": runs}, 7, 9) == mask
    assert masks.from_coco({"size": [7, 9], "counts": mask.counts.decode()}, 7, 9) == mask
    square = masks.from_coco([[2, 1, 6, 1, 6, 5, 2, 5]], 7, 9)
    assert masks.area(square) == 16 and masks.box(square) == (2, 1, 6, 5)
    both = masks.from_coco([[2, 1, 6, 1, 6, 5, 2, 5], [4, 1, 8, 1, 8, 5, 4, 5]], 7, 9)
    assert masks.area(both) == 24


@pytest.mark.parametrize(
    "segmentation",
    [
        *([], {}, 3, None, "x", [[1, 2, 3]], [[1, 2, 3, 4]], [["a"] * 6], [[1, 2, 3, 4, 5, float("nan")]]),
        *({"size": [7, 9], "counts": [3, 4]}, {"size": [9, 7], "counts": [63]}, {"size": [7, 9], "counts": [-1, 64]}),
        *({"size": [7, 9], "counts": None}, {"size": [7, 9], "counts": ""}, {"size": [7, 9], "counts": "caf\xe9"}),
        {"size": [7, 9], "counts": "a"},  # it goes on
        {"size": [7, 9], "counts": "000"},  # fills nothing
    ],
)
def test_what_is_no_mask_is_refused_with_a_sentence(segmentation):
    with pytest.raises(InputError, match="mask: expected"):
        masks.from_coco(segmentation, 7, 9)


def test_a_compressed_mask_that_was_cut_short_is_not_a_smaller_one(ring):
    counts = masks.encode(ring).counts.decode()
    assert masks.from_coco({"size": [7, 9], "counts": counts}, 7, 9) == masks.encode(ring)
    for end in range(len(counts)):
        with pytest.raises(InputError, match="mask: expected"):
            masks.from_coco({"size": [7, 9], "counts": counts[:end]}, 7, 9)


def test_compressed_masks_of_any_picture_are_read():
    for seed in range(200):
        dice = np.random.default_rng(seed)
        pixels = dice.random(dice.integers(1, 120, 2)) < dice.random() ** 2
        mask = masks.encode(pixels)
        assert masks.from_coco({"size": [*pixels.shape], "counts": mask.counts}, *pixels.shape) == mask


def test_a_mask_is_a_value():
    assert masks.encode(np.ones((2, 2), bool)) == Mask(2, 2, masks.encode(np.ones((2, 2), bool)).counts)
