"""COCO's average precision at the size of val2017 (5,000 pictures, 80 classes), against pycocotools.

    python benchmarks/detection.py

Both get the same truth and results as dictionaries in memory; loading them counts. Prints seconds, the ratio, and the
largest difference of the twelve numbers and of the classes' AP (it must be 0), then what the bootstrap interval costs.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from diptych.evaluation.metrics.detection import average_precision
from diptych.evaluation.metrics.detection_intervals import average_precision_intervals, match_detections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--things", type=float, default=7.3, help="per picture")
    parser.add_argument("--detections", type=int, default=36, help="per picture")
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--skip-pycocotools", action="store_true")
    sizes = parser.parse_args()
    truth, results = problem(sizes)
    print(f"{len(truth['annotations'])} things, {len(results)} detections")

    score, ours = timed(lambda: average_precision(truth, results))
    print(f"diptych      {ours:7.2f} s  AP {score.ap:.4f}")
    if not sizes.skip_pycocotools:
        copied = copy.deepcopy(truth), copy.deepcopy(results)  # pycocotools writes into them
        (twelve, classes), theirs = timed(lambda: by_pycocotools(*copied))
        gap = max(
            np.abs(twelve - list(score.numbers().values())).max(),
            np.abs(classes - list(score.per_class.values())).max(),
        )
        print(f"pycocotools  {theirs:7.2f} s  AP {twelve[0]:.4f}")
        print(f"ratio {theirs / ours:.1f}; largest difference {gap}")
        if gap:
            raise SystemExit("the numbers differ")
    matches, seconds = timed(lambda: match_detections(truth, results))
    print(f"matches      {seconds:7.2f} s")
    rng = np.random.default_rng(0)
    found, seconds = timed(lambda: average_precision_intervals(matches, rng, resamples=sizes.resamples))
    ap = found["ap"]
    print(
        f"intervals    {seconds:7.2f} s  {sizes.resamples} resamples: AP {ap.value:.4f} [{ap.low:.4f}, {ap.high:.4f}]"
    )


def problem(sizes: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Things of all sizes in classes of unequal frequency; a detection in five is near a thing, the others anywhere."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, sizes.classes + 1)
    owner = rng.integers(sizes.pictures, size=int(sizes.pictures * sizes.things))
    boxes, kinds = random_boxes(rng, len(owner)), rng.choice(sizes.classes, len(owner), p=frequency / frequency.sum())
    annotations = [
        {
            "id": i + 1,
            "image_id": int(o),
            "category_id": int(k),
            "bbox": box.tolist(),
            "area": float(box[2] * box[3] * 0.7),
            "iscrowd": int(i % 60 == 0),
        }
        for i, (o, k, box) in enumerate(zip(owner, kinds, boxes))
    ]
    count = sizes.pictures * sizes.detections
    place, said = rng.integers(sizes.pictures, size=count), rng.integers(sizes.classes, size=count)
    found, scores = random_boxes(rng, count), rng.random(count) ** 3
    near = np.arange(len(owner))
    place[near], said[near] = owner, np.where(rng.random(len(owner)) < 0.8, kinds, said[near])
    found[near] = boxes + rng.normal(0, 0.08, boxes.shape) * boxes[:, [2, 3, 2, 3]]
    scores[near] = np.sqrt(scores[near])
    results = [
        {"image_id": int(p), "category_id": int(k), "bbox": np.maximum(box, 1).tolist(), "score": float(s)}
        for p, k, box, s in zip(place, said, found, scores)
    ]
    images = [{"id": i, "width": 640, "height": 480} for i in range(sizes.pictures)]
    categories = [{"id": c, "name": f"class {c}"} for c in range(sizes.classes)]
    return {"images": images, "categories": categories, "annotations": annotations}, results


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    side = np.exp(rng.uniform(np.log(10), np.log(350), (count, 1))) * rng.uniform(0.7, 1.3, (count, 2))
    return np.hstack([rng.uniform(0, 1, (count, 2)) * np.maximum((640, 480) - side, 1), side])


def by_pycocotools(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO()
        ours.dataset = truth
        ours.createIndex()
        found = COCOeval(ours, ours.loadRes(results), "bbox")
        found.evaluate()
        found.accumulate()
        found.summarize()
    tables = found.eval["precision"][:, :, :, 0, 2].reshape(-1, len(truth["categories"])).T
    return found.stats, np.array([np.ascontiguousarray(table)[table > -1].mean() for table in tables])


def timed(way: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = way()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
