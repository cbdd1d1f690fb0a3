"""Pixels, masks and panoptic quality: by hand, against loops over pixels, and against hotcoco's panoptic program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hotcoco.panoptic import pq_compute
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.evaluation.metrics.intervals import bootstrap_of_sums
from diptych.evaluation.metrics.segmentation import (
    Segments,
    confusion,
    iou_counts,
    iou_of_sums,
    iou_per_class,
    mask_iou,
    mean_iou,
    panoptic_counts,
    panoptic_quality,
    pq_of_sums,
)
from diptych.types import InputError

TRUTH = np.array([[0, 0, 1, 1], [0, 2, 1, 255], [2, 2, 255, 255]], dtype=np.uint8)
GUESS = np.array([[0, 1, 1, 1], [0, 2, 2, 0], [2, 0, 1, 2]], dtype=np.uint8)


def test_confusion_and_iou_by_hand() -> None:
    table = confusion(GUESS, TRUTH, 4)
    assert table.tolist() == [[2, 1, 0, 0], [0, 2, 1, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    # class 0: 2 right of 3 true and 3 predicted; class 1: 2 of 3 and 3; class 2: 2 of 3 and 3; class 3 occurs nowhere
    np.testing.assert_array_equal(iou_per_class(table), [2 / 4, 2 / 4, 2 / 4, np.nan])
    assert mean_iou(table) == 0.5
    assert np.isnan(mean_iou(np.zeros((2, 2), dtype=np.int64)))
    assert mean_iou(confusion(GUESS, GUESS, 3)) == 1


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    table = confusion(np.array([[0, 1]]), np.array([[0, 0]]), 3)
    np.testing.assert_array_equal(iou_per_class(table), [0.5, 0.0, np.nan])
    assert mean_iou(table) == 0.25


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["uint8", "int32", "int64"]), st.sampled_from([0, 3, 255]))
def test_confusion_against_a_loop(seed: int, dtype: str, ignore: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, 5, (7, 9)).astype(dtype), rng.integers(0, 5, (7, 9)).astype(dtype)
    if ignore == 255:
        truth[rng.random((7, 9)) < 0.2] = 255
    slow = np.zeros((5, 5), dtype=np.int64)
    for true, said in zip(truth.ravel().tolist(), guess.ravel().tolist()):
        if true != ignore:
            slow[true, said] += 1
    np.testing.assert_array_equal(confusion(guess, truth, 5, ignore), slow)
    np.testing.assert_array_equal(confusion(guess.T, truth.T, 5, ignore), slow)  # not contiguous


def test_sums_over_pictures_give_the_number_of_all_pixels() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (20, 8, 8))
    guess = np.where(rng.random((20, 8, 8)) < 0.7, truth, rng.integers(0, 3, (20, 8, 8)))
    tables = np.stack([confusion(g, t, 3) for g, t in zip(guess, truth)])
    assert tables.sum(axis=0).tolist() == confusion(guess, truth, 3).tolist()
    counts = np.stack([iou_counts(table) for table in tables])
    found = bootstrap_of_sums(iou_of_sums, counts, rng)
    assert found.value == pytest.approx(mean_iou(tables.sum(axis=0))) and found.low < found.value < found.high
    assert found.n == 20


@pytest.mark.parametrize(
    ("guess", "truth", "words"),
    [
        ([[0, 1]], [[0], [1]], "expected one size"),
        ([[0.0]], [[0]], "whole numbers, got float64 as predicted"),
        ([[3]], [[0]], "label 3"),
        ([[255]], [[0]], "label 255"),
        ([[-1]], [[0]], "negative"),
        ([[0]], [[9]], "label 9"),
    ],
)
def test_bad_labels_are_named(guess: list, truth: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        confusion(np.array(guess), np.array(truth), 3)


def test_mask_iou() -> None:
    left, right, none = np.zeros((3, 2, 4), dtype=bool)
    left[:, :2] = right[:, 1:3] = True
    assert mask_iou([left, left, none, none], [right, left, left, none]).tolist() == [1 / 3, 1, 0, 1]
    with pytest.raises(InputError, match="boolean N x H x W twice"):
        mask_iou([left], [left, left])
    with pytest.raises(InputError, match="got uint8"):
        mask_iou(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8))


# ---------------------------------------------------------------- panoptic quality


def row(*runs: tuple[int, int]) -> np.ndarray:
    """A picture of one row: (id, length), ..."""
    return np.repeat([run[0] for run in runs], [run[1] for run in runs])[None]


def test_panoptic_quality_by_hand() -> None:
    # Class 0: segment 1 is found with IoU 8 / 12; segment 2 is missed, since 5 of 10 pixels is not above one half.
    # Class 1: the guess 23 lies on nothing true but void, for 4 of 6 pixels, and is left out; 24 is wrong.
    truth = Segments(row((1, 10), (2, 10), (0, 4), (3, 6)), {1: 0, 2: 0, 3: 1})
    guess = Segments(row((0, 2), (21, 10), (0, 3), (22, 5), (23, 6), (0, 2), (24, 2)), {21: 0, 22: 0, 23: 1, 24: 1})
    # 21 covers 8 of segment 1 and 2 of segment 2; 22 covers 5 of segment 2; 23 4 of void and 2 of segment 3.
    counts = panoptic_counts(guess, truth, 3)
    assert counts.reshape(4, 3).tolist() == [[8 / 12, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0]]
    found = panoptic_quality(counts)
    np.testing.assert_allclose(found.per_class, [[1 / 3, 2 / 3, 1 / 2], [0, 0, 0], [np.nan] * 3])
    assert found[:3] == pytest.approx((1 / 6, 1 / 3, 1 / 4))
    assert panoptic_quality(counts, only=[True, False, False]).pq == pytest.approx(1 / 3)
    assert np.isnan(panoptic_quality(counts, only=[False, False, True]).pq)
    assert pq_of_sums(counts[None])[0] == pytest.approx(found.pq)


def test_void_inside_a_guess_is_no_error() -> None:
    truth = Segments(row((1, 6), (0, 4)), {1: 0})
    guess = Segments(row((1, 10)), {1: 0})
    assert panoptic_counts(guess, truth, 1).tolist() == [1, 1, 0, 0]


def test_a_crowd_is_neither_found_nor_missed_and_excuses_its_class() -> None:
    truth = Segments(row((7, 10), (1, 4)), {7: 0, 1: 1}, crowds=[7])
    guess = Segments(row((1, 5), (2, 5), (3, 4)), {1: 0, 2: 1, 3: 1})
    # 1 lies in the crowd of its class; 2 in that of another; 3 is right.
    assert panoptic_counts(guess, truth, 2).reshape(4, 2).tolist() == [[0, 1], [0, 1], [0, 1], [0, 0]]
    half = Segments(row((0, 5), (1, 4), (2, 5)), {1: 0, 2: 1})  # all of 1 is in the crowd; 1 of 2's 5 pixels
    assert panoptic_counts(half, truth, 2).reshape(4, 2).tolist() == [[0, 0.8], [0, 1], [0, 0], [0, 0]]


def test_nothing_at_all() -> None:
    empty = Segments(np.zeros((2, 3), dtype=np.int64), {})
    assert not panoptic_counts(empty, empty, 2).any()
    assert np.isnan(panoptic_quality(panoptic_counts(empty, empty, 2)).pq)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_panoptic_against_sets_of_pixels(seed: int) -> None:
    guess, truth = panoptic_problem(np.random.default_rng(seed))
    np.testing.assert_allclose(panoptic_counts(guess, truth, 3), by_sets(guess, truth, 3), rtol=1e-12)


def test_panoptic_against_hotcoco(tmp_path: Path) -> None:
    """The same pictures as files in COCO's panoptic format, judged by a port of the authors' own program."""
    rng = np.random.default_rng(1)
    problems = [panoptic_problem(rng) for _ in range(30)]
    counts = np.stack([panoptic_counts(guess, truth, 3) for guess, truth in problems])
    for name, which in (("guess", 0), ("truth", 1)):
        (tmp_path / name).mkdir()
        rows = []
        for number, problem in enumerate(problems):
            segments = problem[which]
            colours = np.stack([segments.ids >> shift & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8)
            Image.fromarray(colours).save(tmp_path / name / f"{number}.png")
            infos = [
                {
                    "id": i,
                    "category_id": c + 1,
                    "iscrowd": int(i in segments.crowds),
                    "area": int((segments.ids == i).sum()),
                }
                for i, c in segments.classes.items()
            ]
            rows.append({"image_id": number, "file_name": f"{number}.png", "segments_info": infos})
        images = [{"id": n, "file_name": f"{n}.jpg", "height": 12, "width": 16} for n in range(len(problems))]
        categories = [{"id": c + 1, "name": f"class {c}", "isthing": int(c < 2)} for c in range(3)]
        content = {"images": images, "annotations": rows, "categories": categories}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    theirs = pq_compute(str(tmp_path / "truth.json"), str(tmp_path / "guess.json"))
    total = counts.sum(axis=0)
    for name, only in (("All", None), ("Things", [True, True, False]), ("Stuff", [False, False, True])):
        ours = panoptic_quality(total, only)
        assert ours[:3] == pytest.approx([theirs[name][key] for key in ("pq", "sq", "rq")], rel=1e-9)
        assert 0.1 < ours.pq < 0.9
    found = bootstrap_of_sums(pq_of_sums, counts, rng)
    assert found.value == pytest.approx(theirs["All"]["pq"]) and found.low < found.value < found.high


@pytest.mark.parametrize(
    ("guess", "words"),
    [
        (Segments(row((1, 5)), {1: 0}), "expected one size"),
        (Segments(row((1, 5), (2, 5)), {1: 0}), "predicted segment 2 has no class"),
        (Segments(row((1, 10)), {1: 3}), "classes from 0 to 2"),
        (Segments(row((1, 10)), {1: 0, 0: 1}), "0 for void"),
        (Segments(row((-1, 10)), {1: 0}), "whole numbers from 0"),
    ],
)
def test_bad_segments_are_named(guess: Segments, words: str) -> None:
    with pytest.raises(InputError, match=words):
        panoptic_counts(guess, Segments(row((1, 10)), {1: 0}), 3)


def panoptic_problem(rng: np.random.Generator) -> tuple[Segments, Segments]:
    """Blocks of pixels as segments with large ids; the guess changes some borders and some classes."""
    blocks = np.kron(rng.integers(0, 7, (3, 4)), np.ones((4, 4), dtype=np.int64))
    ids = np.where(blocks > 0, blocks * 70_001 + 5, 0)
    classes = {int(i): int(rng.integers(3)) for i in np.unique(ids[ids > 0])}
    crowded = {}  # one crowd of a class at most, as COCO has it
    for segment, kind in classes.items():
        if rng.random() < 0.25:
            crowded.setdefault(kind, segment)
    moved = np.where(rng.random(ids.shape) < 0.15, np.roll(ids, 1, axis=1), ids)
    said = {
        int(i): classes[int(i)] if rng.random() < 0.8 else int(rng.integers(3)) for i in np.unique(moved[moved > 0])
    }
    return Segments(moved, said), Segments(ids, classes, list(crowded.values()))


def by_sets(guess: Segments, truth: Segments, classes: int) -> np.ndarray:
    """Kirillov et al. 2019 word for word: segments as sets of pixels, all pairs tried."""
    pixels = lambda part: {i: set(np.flatnonzero(part.ids.ravel() == i)) for i in part.classes}  # noqa: E731
    true, said, void = pixels(truth), pixels(guess), set(np.flatnonzero(truth.ids.ravel() == 0))
    result, found = np.zeros((4, classes)), set()
    for g, guessed in said.items():
        kind, matched = guess.classes[g], False
        for t, pixel in true.items():
            iou = len(pixel & guessed) / len(pixel | (guessed - void))
            if truth.classes[t] == kind and t not in truth.crowds and iou > 0.5:
                result[0, kind] += iou
                result[1, kind] += 1
                found.add(t)
                matched = True
        excused = void.union(*(true[t] for t in truth.crowds if truth.classes[t] == kind))
        if not matched and len(guessed & excused) <= len(guessed) / 2:
            result[2, kind] += 1
    for t, kind in truth.classes.items():
        result[3, kind] += t not in found and t not in truth.crowds
    return result.ravel()
