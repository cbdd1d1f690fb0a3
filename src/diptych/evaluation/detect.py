"""Judge detection: COCO's average precision, and whether an expression finds the one thing that it refers to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.data import masks
from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Predictions, Values, number
from diptych.evaluation.metrics.detection import average_precision
from diptych.evaluation.metrics.detection_intervals import average_precision_intervals, match_detections
from diptych.evaluation.metrics.intervals import mean_interval
from diptych.evaluation.metrics.referring import box_iou
from diptych.tasks.detect import detect
from diptych.types import Detection, InputError, Object, Sample

Corners = tuple[float, float, float, float]


def evaluate_detect(
    model: Any,
    dataset: Dataset,
    *,
    batch_size: int = 16,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """Look for every class of the dataset in every picture, and for every expression that refers to one object.

    "detect/ap", "ap50", "ap75" and "ap[CLASS]" are COCO's, with intervals over pictures. "detect/referring@0.5" is the
    share of expressions whose surest box meets the true one with an IoU of at least one half. Crowds are not to be
    found, and what is found in them does not count; stuff is left out.

    Raises:
        InputError: the model cannot detect, or no sample has objects with boxes and a readable picture.
    """
    samples = dataset.take(range(len(dataset)), fields={"objects", "regions"})
    rows = [row for row, sample in enumerate(samples) if any(_countable(thing) for thing in sample.objects)]
    if not rows:
        raise InputError(f"{dataset.name}: objects: no sample has one with a box")
    names = sorted({thing.name for row in rows for thing in samples[row].objects if _countable(thing)})
    found = detect(model, dataset.select(rows), names, batch_size=batch_size, device=device, progress=progress)
    if not found.kept:
        raise InputError(f"{dataset.name}: images: none of {len(rows)} could be read")
    kept = [rows[i] for i in found.kept]
    truth = coco_truth([samples[row] for row in kept], names)
    results = coco_results(range(1, len(kept) + 1), found.found, names)
    rng = np.random.default_rng(seed)
    score = average_precision(truth, results)
    estimates = {
        f"detect/{name}": estimate
        for name, estimate in average_precision_intervals(match_detections(truth, results), rng).items()
    }
    overlaps, places, cases = _refer(model, dataset, samples, kept, batch_size, device)
    values = {}
    if overlaps:
        value = Values.of([row for row, _ in places], [unit for _, unit in places], np.array(overlaps) >= 0.5)
        values["detect/referring@0.5"] = value
        estimates["detect/referring@0.5"] = mean_interval(value.numbers, rng, groups=value.rows)
    if not cases:
        cases = [_case(row, samples[row], some) for row, some in zip(kept, found.found)]
    ids = dataset.select(kept).ids
    return Judged(
        "detect",
        estimates,
        values,
        cases,
        list(found.rejected),
        {"sample without a box": len(samples) - len(rows)},
        Predictions("detections_results.json", coco_results([number(id) for id in ids], found.found, names)),
        [f"average recall with 100 detections a picture: {score.ar_100:.3f}"],
    )


def coco_truth(samples: Sequence[Sample], names: Sequence[str]) -> dict[str, Any]:
    """Boxes and masks in COCO's format; pictures and categories are numbered from 1 in the order given."""
    place = {name: i for i, name in enumerate(names, 1)}
    annotations: list[dict[str, Any]] = []
    for image, sample in enumerate(samples, 1):
        for thing in sample.objects:
            if thing.name in place and thing.box is not None and thing.kind != "stuff":
                x0, y0, x1, y1 = thing.box
                one: dict[str, Any] = {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": place[thing.name],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": int(thing.kind == "crowd"),
                    "area": (x1 - x0) * (y1 - y0),
                }
                if thing.mask is not None:
                    one |= {"area": masks.area(thing.mask)}
                annotations.append(one)
    return {
        "images": [{"id": image} for image in range(1, len(samples) + 1)],
        "categories": [{"id": i, "name": name} for name, i in place.items()],
        "annotations": annotations,
    }


def coco_results(
    images: Sequence[int | str], found: Sequence[Sequence[Detection]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Detections in the format of COCO's server; classes are numbered from 1 in the order of `names`."""
    place = {name: i for i, name in enumerate(names, 1)}
    return [
        {
            "image_id": image,
            "category_id": place[one.name],
            "bbox": [one.box[0], one.box[1], one.box[2] - one.box[0], one.box[3] - one.box[1]],
            "score": one.score,
        }
        for image, some in zip(images, found)
        for one in some
        if one.name in place
    ]


def _countable(thing: Object) -> bool:
    return thing.box is not None and thing.kind == "thing"


def _refer(
    model: Any, dataset: Dataset, samples: Sequence[Sample], rows: Sequence[int], batch_size: int, device: str
) -> tuple[list[float], list[tuple[int, int]], list[Case]]:
    """Of each expression that refers to one box: its IoU with the surest detection, its place, and the case."""
    asked = [(row, unit, phrase, box) for row in rows for unit, (phrase, box) in enumerate(_expressions(samples[row]))]
    overlaps, places, cases = [], [], []
    by_phrase: dict[str, list[tuple[int, int, Corners]]] = {}
    for row, unit, phrase, box in asked:
        by_phrase.setdefault(phrase, []).append((row, unit, box))
    for phrase, some in by_phrase.items():
        found = detect(
            model, dataset.select([row for row, _, _ in some]), [phrase], batch_size=batch_size, device=device
        )
        for i, boxes in zip(found.kept, found.found):
            row, unit, box = some[i]
            best = max(boxes, key=lambda one: one.score, default=None)
            overlap = 0.0 if best is None else float(box_iou([best.box], [box])[0])
            overlaps.append(overlap)
            places.append((row, unit))
            cases.append(Case(row, overlap, phrase, _box_words(best and best.box), _box_words(box)))
    return overlaps, places, cases


def _expressions(sample: Sample) -> list[tuple[str, Corners]]:
    """Expressions that refer to one object of the sample; one that stands for several is left out."""
    times = Counter(region.phrase for region in sample.regions)
    return [
        (region.phrase, region.box)
        for region in sample.regions
        if region.box is not None and region.object is not None and times[region.phrase] == 1
    ]


def _case(row: int, sample: Sample, found: Sequence[Detection]) -> Case:
    """The share of the picture's things that some detection of their class meets with an IoU of one half."""
    there = [thing for thing in sample.objects if _countable(thing)]
    met = 0
    for thing in there:
        boxes = np.array([one.box for one in found if one.name == thing.name]).reshape(-1, 4)
        met += bool((box_iou(boxes, np.tile(np.array(thing.box), (len(boxes), 1))) >= 0.5).any())
    said = ", ".join(f"{number} {name}" for name, number in Counter(one.name for one in found).items()) or "nothing"
    truth = ", ".join(f"{number} {name}" for name, number in Counter(one.name for one in there).items())
    return Case(row, met / len(there), "what is there?", said, truth)


def _box_words(box: Corners | None) -> str:
    return "nothing" if box is None else "box {:.0f}, {:.0f} to {:.0f}, {:.0f}".format(*box)
