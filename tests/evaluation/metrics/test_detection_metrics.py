"""Average precision equals pycocotools bit by bit; its bootstrap equals judging drawn pictures; errors name the row."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from detection_data import detection_problem
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from diptych.evaluation.metrics.detection import average_precision
from diptych.evaluation.metrics.detection_intervals import (
    Matches,
    average_precision_difference,
    average_precision_intervals,
    match_detections,
)
from diptych.types import InputError


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("masks", "iou_type"),
    [("", "bbox"), ("rle", "segm"), ("bytes", "segm"), ("polygons", "segm"), ("rle", "bbox"), ("polygons", "bbox")],
)
def test_the_twelve_numbers_and_every_class_are_pycocotools(seed: int, masks: str, iou_type: Any) -> None:
    truth, results = detection_problem(seed, pictures=25, masks=masks, decoys=110)
    score = average_precision(truth, results, iou_type)
    twelve, per_class = by_pycocotools(truth, results, iou_type)
    assert list(score.numbers().values()) == twelve
    assert 0.01 < score.ap < 0.6 and len(set(twelve)) >= 11  # a problem that tells numbers apart
    assert list(score.per_class) == [row["name"] for row in truth["categories"]]
    np.testing.assert_array_equal(list(score.per_class.values()), per_class)  # NaN for the class without truth
    assert math.isnan(score.per_class["class 4"])


def test_what_is_missing_is_nan_and_what_is_missed_is_zero() -> None:
    truth, results = detection_problem(0)
    none = average_precision(truth, [])
    assert none.ap == 0 and none.ar_100 == 0
    empty = average_precision({**truth, "annotations": []}, results)
    assert all(math.isnan(number) for number in empty.numbers().values())
    perfect = [{**row, "score": 1.0} for row in truth["annotations"] if not row["iscrowd"]]
    assert average_precision(truth, perfect).ap == pytest.approx(1)


@pytest.mark.parametrize(("masks", "iou_type"), [("", "bbox"), ("rle", "segm")])
def test_absent_areas_are_those_of_box_or_mask(masks: str, iou_type: Any) -> None:
    truth, results = detection_problem(1, masks=masks)
    bare = {**truth, "annotations": [strip(row, "area", "iscrowd", "id") for row in truth["annotations"]]}
    full = copy.deepcopy(bare)
    index = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        index.dataset = copy.deepcopy(truth)
        index.createIndex()
    for number, row in enumerate(full["annotations"]):
        area = row["bbox"][2] * row["bbox"][3] if iou_type == "bbox" else int(index.annToMask(row).sum())
        row |= {"area": float(area), "iscrowd": 0, "id": number + 1}
    assert average_precision(bare, results, iou_type) == average_precision(full, results, iou_type)
    assert "area" not in bare["annotations"][0]  # the caller's own dictionaries stay as they were


def test_a_weighted_picture_is_a_repeated_picture() -> None:
    truth, results = detection_problem(2, pictures=30)
    for number, row in enumerate(results):
        row["score"] += number * 1e-7  # repeated pictures stand beside each other in the ranking
    matches = match_detections(truth, results)
    weights = np.stack([np.bincount(row, minlength=30) for row in np.random.default_rng(0).integers(0, 30, (4, 30))])
    found = matches.average_precision(np.vstack([np.ones((1, 30), dtype=np.int64), weights]))
    plain = average_precision(truth, results)
    np.testing.assert_allclose(found[0].mean(axis=0), list(plain.per_class.values()), rtol=1e-12)
    assert np.nanmean(found[0]) == pytest.approx(plain.ap, rel=1e-12)
    for times, ap in zip(weights, found[1:]):
        again = average_precision(*repeated(truth, results, times))
        np.testing.assert_allclose(ap.mean(axis=0), list(again.per_class.values()), atol=1e-12)


def test_intervals_hold_the_value_and_narrow_with_more_pictures() -> None:
    widths = []
    for pictures in (40, 360):
        truth, results = detection_problem(3, pictures=pictures)
        matches, score = match_detections(truth, results), average_precision(truth, results)
        found = average_precision_intervals(matches, np.random.default_rng(0), resamples=300)
        assert set(found) == {"ap", "ap50", "ap75", *(f"ap[class {c}]" for c in range(4))}  # class 4 has no truth
        for name, value in (("ap", score.ap), ("ap50", score.ap50), ("ap75", score.ap75)):
            assert found[name].value == pytest.approx(value, rel=1e-12)
            assert found[name].low < value < found[name].high and found[name].n == pictures
        assert found["ap[class 1]"].value == pytest.approx(score.per_class["class 1"])
        widths.append(found["ap"].high - found["ap"].low)
    assert 2 < widths[0] / widths[1] < 4.5  # about the square root of 9
    assert (
        average_precision_intervals(match_detections({**truth, "annotations": []}, []), np.random.default_rng(0)) == {}
    )


def one_class(pictures: int, *widths: float) -> Matches:
    """Things 20 pixels wide in the first pictures, each found with one of these widths; no things elsewhere."""
    boxes = [{"image_id": i + 1, "category_id": 1, "bbox": [0, 0, 20, 20]} for i in range(len(widths))]
    truth = {"images": [{"id": i + 1} for i in range(pictures)], "categories": [{"id": 1, "name": "cat"}]}
    found = [{**box, "bbox": [0, 0, width, 20], "score": 0.9} for box, width in zip(boxes, widths)]
    return match_detections({**truth, "annotations": boxes}, found)


def test_pictures_without_things_do_not_lower_an_interval() -> None:
    found = average_precision_intervals(one_class(40, 20, 18, 16), np.random.default_rng(0))  # no thing in 4 % of draws
    assert found["ap"].low == found["ap[cat]"].low > 0.4 and found["ap"].n == 40


def test_all_right_or_all_wrong_is_as_sure_as_the_pictures_with_things_are_many() -> None:
    found = average_precision_intervals(one_class(40, 20, 20, 20, 20), np.random.default_rng(0))
    assert found["ap"].value == pytest.approx(1) and found["ap"].low == pytest.approx(0.025 ** (1 / 4))
    none = average_precision_intervals(one_class(40, 2, 2, 2, 2), np.random.default_rng(0))["ap"]
    assert none[:2] == (0, 0) and none.high == pytest.approx(1 - 0.025 ** (1 / 4))


def test_of_one_picture_no_interval_is_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pictures in (1, 30):
            found = average_precision_intervals(one_class(pictures, 16), np.random.default_rng(0))["ap"]
            assert 0.5 < found.value < 1 and math.isnan(found.low) and math.isnan(found.high)


def test_equal_detectors_are_equal_and_a_worse_one_is_found() -> None:
    truth, results = detection_problem(4, pictures=150)
    rng = np.random.default_rng(1)
    first = match_detections(truth, noisy(results, rng, 0.03))
    alike = match_detections(truth, noisy(results, rng, 0.03))
    worse = match_detections(truth, noisy(results, rng, 0.12))
    same = average_precision_difference(first, alike, rng, resamples=300)
    assert same.p > 0.05 and same.estimate.low < 0 < same.estimate.high
    gap = average_precision_difference(first, worse, rng, resamples=300)
    assert gap.p < 0.01 and gap.estimate.low > 0
    values = [np.nanmean(m.average_precision(np.ones((1, 150), dtype=np.int64))) for m in (first, worse)]
    assert gap.estimate.value == pytest.approx(values[0] - values[1])
    itself = average_precision_difference(first, first, rng, resamples=100)
    assert itself.p == 1 and itself.estimate[:3] == (0, 0, 0)


def test_p_is_small_for_a_twentieth_of_equal_detectors() -> None:
    truth, results = detection_problem(5, pictures=15, classes=3)
    rng = np.random.default_rng(2)

    def one() -> Matches:
        return match_detections(truth, noisy(results, rng, 0.08))

    ps = [average_precision_difference(one(), one(), rng, resamples=99).p for _ in range(50)]
    assert np.sum(np.array(ps) <= 0.05) <= 6  # a fair test exceeds 6 of 50 once in 80
    assert np.mean(ps) == pytest.approx(0.5, abs=0.13)


def test_other_truth_cannot_be_compared() -> None:
    first, second = (match_detections(*detection_problem(seed)) for seed in (0, 1))
    with pytest.raises(InputError, match="different truth"):
        average_precision_difference(first, second, np.random.default_rng(0))


def change(field: str, value: Any, part: str = "results") -> Callable[[dict, list], None]:
    def edit(truth: dict, results: list) -> None:
        row = results[2] if part == "results" else truth[part][2]
        row.pop(field) if value is KeyError else row.update({field: value})

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (change("score", math.nan), r"results\[2\]: score: expected a finite number"),
        (change("score", KeyError), r"results\[2\]: score"),
        (change("bbox", [1, 2, 3]), r"results\[2\]: bbox: expected \[x, y, width, height\]"),
        (change("bbox", [1, 2, 3, math.inf]), r"results\[2\]: bbox"),
        (change("bbox", [1, 2, -3, 4]), r"results\[2\]: bbox"),
        (change("bbox", KeyError), r"results\[2\]: bbox"),
        (change("image_id", 999), r"results\[2\]: image_id: 999 is not among"),
        (change("image_id", "4"), r"results\[2\]: image_id: expected a whole number"),
        (change("category_id", 999), r"results\[2\]: category_id: 999 is not among"),
        (change("image_id", 999, "annotations"), r"truth: annotations\[2\]: image_id"),
        (change("bbox", None, "annotations"), r"truth: annotations\[2\]: bbox"),
        (change("id", 1, "images"), "truth: images: 1 ids stand there twice"),
        (change("name", "class 1", "categories"), "no name twice"),
        (lambda truth, results: truth.pop("categories"), "truth: categories: expected a list"),
        (lambda truth, results: results.__setitem__(2, "x"), r"results\[2\]: image_id"),
    ],
)
def test_bad_input_is_named(edit: Callable[[dict, list], None], words: str) -> None:
    truth, results = copy.deepcopy(detection_problem(0))
    edit(truth, results)
    with pytest.raises(InputError, match=words):
        average_precision(truth, results)


def test_masks_need_masks() -> None:
    truth, results = detection_problem(0)
    with pytest.raises(InputError, match='expected "bbox" or "segm"'):
        average_precision(truth, results, "points")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"annotations\[0\]: segmentation: expected polygons, or run lengths"):
        average_precision(truth, results, "segm")
    with_masks = detection_problem(0, masks="rle")[0]
    with pytest.raises(InputError, match=r"results\[0\]: segmentation"):
        average_precision(with_masks, results, "segm")
    with_masks["images"] = [strip(image, "width") for image in with_masks["images"]]
    with pytest.raises(InputError, match="images: id 1: expected width and height"):
        average_precision(with_masks, results, "segm")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"size": [240, 320], "counts": "\x01\x02"}, "invalid RLE"),
        ({"size": [320, 240], "counts": "0"}, r"height and width \[240, 320\]"),
        ({"counts": "0"}, "size"),
        ([[1.0, 2.0, 3.0]], "expected polygons"),
        ([], "expected polygons"),
        (["abcdef"], ""),
    ],
)
def test_bad_masks_are_named(shape: Any, words: str) -> None:
    truth, results = detection_problem(0, masks="rle")
    results[3]["segmentation"] = shape
    with pytest.raises(InputError, match=rf"results\[3\]: segmentation: .*{words}"):
        average_precision(truth, results, "segm")


def by_pycocotools(truth: dict, results: list[dict], iou_type: str) -> tuple[list[float], list[float]]:
    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO()
        ours.dataset = copy.deepcopy(truth)
        ours.createIndex()
        found = COCOeval(ours, ours.loadRes(copy.deepcopy(results)), iou_type)
        found.evaluate()
        found.accumulate()
        found.summarize()
    tables = [found.eval["precision"][:, :, k, 0, 2] for k in range(len(truth["categories"]))]
    per_class = [table[table > -1].mean() if (table > -1).any() else np.nan for table in tables]
    return found.stats.tolist(), per_class


def repeated(truth: dict, results: list[dict], times: np.ndarray) -> tuple[dict, list[dict]]:
    """The problem with picture i standing there times[i] times, under new ids."""
    images, annotations, found = [], [], []
    for image, count in zip(truth["images"], times):
        for _ in range(count):
            key = len(images) + 1
            images.append({**image, "id": key})
            annotations += [
                {**row, "image_id": key, "id": 0} for row in truth["annotations"] if row["image_id"] == image["id"]
            ]
            found += [{**row, "image_id": key} for row in results if row["image_id"] == image["id"]]
    for number, row in enumerate(annotations):
        row["id"] = number + 1
    return {**truth, "images": images, "annotations": annotations}, found


def noisy(results: list[dict], rng: np.random.Generator, size: float) -> list[dict]:
    moved = []
    for row in results:
        x, y, width, height = row["bbox"]
        dx, dy = rng.normal(0, size, 2) * (width, height)
        moved.append({**row, "bbox": [x + dx, y + dy, width, height], "score": row["score"] + rng.normal(0, 0.1)})
    return moved


def strip(row: dict, *fields: str) -> dict:
    return {key: value for key, value in row.items() if key not in fields}
