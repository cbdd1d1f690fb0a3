"""Random detection problems in COCO's format: crowds, all sizes, empty pictures, a class without truth, masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask

WIDTH, HEIGHT = 320, 240


def detection_problem(
    seed: int, pictures: int = 40, classes: int = 5, masks: str = "", decoys: int = 0
) -> tuple[dict, list[dict]]:
    """Truth and results.

    Args:
        masks: "" for boxes only, or what the results have: "rle" as text, "bytes", "polygons".
        decoys: further detections of one thing; only 100 of a class count on a picture.
    """
    rng = np.random.default_rng(seed)
    images = [{"id": 3 * i + 1, "width": WIDTH, "height": HEIGHT} for i in range(pictures)]
    categories = [{"id": 2 * c + 1, "name": f"class {c}"} for c in range(classes)]
    annotations, results = [], []
    for image in images:
        things = 0 if rng.random() < 0.15 else rng.integers(1, 9)
        for _ in range(things):
            box, kind = random_box(rng), int(rng.integers(classes - 1))  # the last class has no truth
            truth = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": 2 * kind + 1, "bbox": box}
            crowd = bool(rng.random() < 0.15)
            area = box[2] * box[3] * rng.uniform(0.4, 1.0)
            annotations.append({**truth, "area": area, "iscrowd": int(crowd)})
            if masks:
                annotations[-1]["segmentation"] = runs(ellipse(box)) if crowd else [pentagon(box)]
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, 0.1, 4) * (box[2:] * 2)
                near = [box[0] + shift[0], box[1] + shift[1], max(box[2] + shift[2], 1), max(box[3] + shift[3], 1)]
                said = kind if rng.random() < 0.8 else int(rng.integers(classes))
                results.append(result(image["id"], said, near, rng, masks))
        for _ in range(rng.integers(0, 3)):  # out of the blue, on empty pictures too
            results.append(result(image["id"], int(rng.integers(classes)), random_box(rng), rng, masks))
    alone = next(row for row in annotations if not row["iscrowd"])
    for _ in range(decoys):
        x, y, width, height = alone["bbox"]
        near = [x + rng.normal(0, width / 10), y + rng.normal(0, height / 10), width, height]
        results.append(result(alone["image_id"], alone["category_id"] // 2, near, rng, masks))
    return {"images": images, "categories": categories, "annotations": annotations}, results


def random_box(rng: np.random.Generator) -> list[float]:
    side = np.exp(rng.uniform(np.log(8), np.log(200)))
    width, height = side * rng.uniform(0.6, 1.4), side * rng.uniform(0.6, 1.2)
    x, y = rng.uniform(0, max(WIDTH - width, 1)), rng.uniform(0, max(HEIGHT - height, 1))
    return [float(x), float(y), float(width), float(height)]


def result(image: int, kind: int, box: list[float], rng: np.random.Generator, masks: str) -> dict[str, Any]:
    found = {"image_id": image, "category_id": 2 * kind + 1, "score": float(np.round(rng.random(), 2))}  # with ties
    if not masks:
        return {**found, "bbox": [float(x) for x in box]}
    if masks == "polygons":
        return {**found, "bbox": [float(x) for x in box], "segmentation": [pentagon(box)]}
    return {**found, "segmentation": ellipse(box) if masks == "bytes" else runs(ellipse(box))}


def ellipse(box: list[float]) -> dict[str, Any]:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = ((x - box[0]) / box[2] * 2 - 1) ** 2 + ((y - box[1]) / box[3] * 2 - 1) ** 2 <= 1
    return mask.encode(np.asfortranarray(inside.astype(np.uint8)))


def runs(encoded: dict[str, Any]) -> dict[str, Any]:
    return {**encoded, "counts": encoded["counts"].decode()}


def pentagon(box: list[float]) -> list[float]:
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height * 0.7, x + width / 2, y + height, x, y + height * 0.8]
