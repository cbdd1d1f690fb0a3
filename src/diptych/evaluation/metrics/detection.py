"""Detection: average precision and recall as COCO defines them, from truth and results in COCO's own format.

Lin et al., "Microsoft COCO: Common Objects in Context" (2014) and its evaluation script, through hotcoco, which gives
pycocotools' numbers bit by bit. Intervals and paired comparison stand in `detection_intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from hotcoco import COCO, COCOeval, mask
from numpy.typing import NDArray

from diptych.types import InputError

IouType = Literal["bbox", "segm"]


@dataclass(frozen=True)
class DetectionScore:
    """COCO's twelve numbers, from 0 to 1; NaN where the truth has nothing to find (pycocotools writes -1 there).

    Attributes:
        ap: average precision, the mean over classes and over IoU thresholds 0.50, 0.55, ..., 0.95.
        ap50, ap75: at one threshold.
        ap_small, ap_medium, ap_large: of things below 32 x 32 pixels, between, and from 96 x 96 pixels on.
        ar_1, ar_10, ar_100: the mean of the largest recall with so many detections a picture.
        ar_small, ar_medium, ar_large: with 100 detections a picture.
        per_class: `ap` of each class by name; NaN for a class without truth.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    per_class: dict[str, float]

    def numbers(self) -> dict[str, float]:
        """The twelve by name."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "per_class"}


def average_precision(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], iou_type: IouType = "bbox"
) -> DetectionScore:
    """COCO's average precision and recall of detections.

    Args:
        truth: COCO's dictionary: "images" (id, and for masks width and height), "categories" (id, name),
            "annotations" (image_id, category_id, bbox [x, y, width, height] in pixels, segmentation as polygons or
            run lengths, iscrowd, area). Where area is absent, that of the box or the mask is taken.
        results: detections: image_id, category_id, score, and bbox or segmentation.
        iou_type: compare boxes ("bbox") or masks ("segm").

    Raises:
        InputError: a field is absent or malformed, or a result names a picture or category that the truth has not.
    """
    found = COCOeval(*load(truth, results, iou_type), iou_type)
    found.evaluate()
    found.accumulate()
    assert found.eval is not None
    # IoU threshold x recall x class x area (all, small, medium, large) x detections a picture (1, 10, 100)
    precision, recall = found.eval["precision"], found.eval["recall"]
    names = {category["id"]: str(category["name"]) for category in truth["categories"]}
    return DetectionScore(
        ap=_mean(precision[:, :, :, 0, 2]),
        ap50=_mean(precision[0, :, :, 0, 2]),
        ap75=_mean(precision[5, :, :, 0, 2]),
        ap_small=_mean(precision[:, :, :, 1, 2]),
        ap_medium=_mean(precision[:, :, :, 2, 2]),
        ap_large=_mean(precision[:, :, :, 3, 2]),
        ar_1=_mean(recall[:, :, 0, 0]),
        ar_10=_mean(recall[:, :, 0, 1]),
        ar_100=_mean(recall[:, :, 0, 2]),
        ar_small=_mean(recall[:, :, 1, 2]),
        ar_medium=_mean(recall[:, :, 2, 2]),
        ar_large=_mean(recall[:, :, 3, 2]),
        per_class={names[key]: _mean(precision[:, :, k, 0, 2]) for k, key in enumerate(found.params.cat_ids)},
    )


def load(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], iou_type: IouType) -> tuple[COCO, COCO]:
    """Truth and results as hotcoco takes them, after checks that name what is wrong."""
    if iou_type not in ("bbox", "segm"):
        raise InputError(f'iou_type: expected "bbox" or "segm", got {iou_type!r}')
    checked = _checked_truth(truth, iou_type)
    images = {image["id"]: image for image in checked["images"]}
    categories = {category["id"] for category in checked["categories"]}
    for number, result in enumerate(results):
        _check_result(f"results[{number}]", result, images, categories, iou_type)
    try:
        ours = COCO(checked)
        found = ours.load_res([dict(result) for result in results])
    except (ValueError, TypeError, KeyError) as wrong:
        raise InputError(f"detections: {wrong}") from wrong
    return ours, found


def _checked_truth(truth: Mapping[str, Any], iou_type: IouType) -> dict[str, Any]:
    """The truth with "iscrowd" and "area" filled in."""
    for field in ("images", "categories", "annotations"):
        if not isinstance(truth.get(field), list):
            raise InputError(f"truth: {field}: expected a list, as in COCO's instances files")
    for field in ("images", "categories"):
        ids = [_whole(f"truth: {field}[{i}]", row, "id") for i, row in enumerate(truth[field])]
        if len(set(ids)) < len(ids):
            raise InputError(f"truth: {field}: {len(ids) - len(set(ids))} ids stand there twice")
    names = [str(category.get("name")) for category in truth["categories"]]
    if len(set(names)) < len(names):
        raise InputError("truth: categories: expected a name for each, and no name twice")
    images = {image["id"]: image for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    annotations = []
    for number, row in enumerate(truth["annotations"]):
        where = f"truth: annotations[{number}]"
        _check_ids(where, row, images.keys(), categories)
        if iou_type == "bbox" or "segmentation" not in row:
            _check_box(where, row)
        if iou_type == "segm":
            _check_mask(where, row, images[row["image_id"]])
        annotations.append({"id": number + 1, "iscrowd": 0, **row})
    without = [row for row in annotations if row.get("area") is None]
    if without:
        for row, area in zip(without, _areas(without, images, iou_type)):
            row["area"] = area
    return {"images": truth["images"], "categories": truth["categories"], "annotations": annotations}


def _areas(rows: Sequence[dict[str, Any]], images: Mapping[int, Mapping[str, Any]], iou_type: IouType) -> list[float]:
    """Pixels that each mask covers, or the area of each box."""
    if iou_type == "bbox":
        return [float(row["bbox"][2] * row["bbox"][3]) for row in rows]
    pictures = COCO({"images": list(images.values()), "categories": [], "annotations": []})
    return [float(mask.area(pictures.ann_to_rle(row))) for row in rows]


def _check_result(
    where: str, row: Mapping[str, Any], images: Mapping[int, Any], categories: set[int], iou_type: IouType
) -> None:
    _check_ids(where, row, images, categories)
    score = row.get("score")
    if not isinstance(score, int | float | np.number) or not math.isfinite(score):
        raise InputError(f"{where}: score: expected a finite number, got {score!r}")
    if "bbox" in row or "segmentation" not in row:
        _check_box(where, row)
    if iou_type == "segm":
        _check_mask(where, row, images[row["image_id"]])


def _check_ids(where: str, row: Mapping[str, Any], images: Any, categories: Any) -> None:
    if _whole(where, row, "image_id") not in images:
        raise InputError(f"{where}: image_id: {row['image_id']} is not among the truth's images")
    if _whole(where, row, "category_id") not in categories:
        raise InputError(f"{where}: category_id: {row['category_id']} is not among the truth's categories")


def _whole(where: str, row: Any, field: str) -> int:
    value = row.get(field) if isinstance(row, Mapping) else None
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise InputError(f"{where}: {field}: expected a whole number, got {value!r}")
    return int(value)


def _check_box(where: str, row: Mapping[str, Any]) -> None:
    box = row.get("bbox")
    try:
        numbers = [float(x) for x in box]  # type: ignore[union-attr]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or min(numbers[2:]) < 0:
        raise InputError(f"{where}: bbox: expected [x, y, width, height] in pixels, got {box!r}")


def _check_mask(where: str, row: Mapping[str, Any], image: Mapping[str, Any]) -> None:
    size = [image.get("height"), image.get("width")]
    if None in size:
        raise InputError(f"truth: images: id {image['id']}: expected width and height, to compare masks")
    shape = row.get("segmentation")
    try:
        if isinstance(shape, Mapping) and list(shape["size"]) == size:
            mask.area(dict(shape))  # hotcoco's own checks
            return
        if isinstance(shape, list) and shape and all(len(ring) >= 6 and np.isfinite(ring).all() for ring in shape):
            return
    except (ValueError, TypeError, KeyError) as wrong:
        raise InputError(f"{where}: segmentation: {wrong}") from None
    raise InputError(f"{where}: segmentation: expected polygons, or run lengths of height and width {size}")


def _mean(values: NDArray[np.float64]) -> float:
    seen = values[values > -1]  # -1 marks a class without truth
    return float(np.mean(seen)) if seen.size else math.nan
