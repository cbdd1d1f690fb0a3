"""Judge detection: COCO's average precision, and whether an expression finds the one thing that it refers to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.capabilities import ProposesRegions
from diptych.data import masks
from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Predictions, Values, none_left, number
from diptych.evaluation.metrics.detection import average_precision
from diptych.evaluation.metrics.detection_intervals import average_precision_intervals, match_detections
from diptych.evaluation.metrics.intervals import share_interval
from diptych.evaluation.metrics.referring import box_iou
from diptych.types import Detection, InputError, Object, Rejected, Sample

HIT = 0.5  # IoU from which a box meets another
NO_NUMBER = "box or score is no number"
PROPOSED = 20  # boxes of a picture, the surest, among which each thing is looked for
SHOWN = 10  # detections of a picture, the surest, that a person is shown

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
    share of expressions whose surest box meets the true one with an IoU of at least one half. As in COCO, a picture
    without objects is one in which there is nothing to be found; crowds need not be found, and what is found in them
    does not count; stuff is left out. "detect/recall@20", of a model that proposes regions, is the share of things that
    one of 20 boxes of their picture meets, whatever they are. A model of fixed classes (`names`) is asked for no
    expressions but those. Chance is not defined.

    Raises:
        InputError: the model cannot detect, no sample has objects with boxes, or no picture can be read.
    """
    from diptych.tasks.detect import detect  # loads torch, which judging what others said does not need

    samples = dataset.take(range(len(dataset)), fields={"objects", "regions"})
    names = class_names(samples)
    if not names:
        raise InputError(f"{dataset.name}: objects: no sample has one with a box")
    detected = detect(model, dataset, names, batch_size=batch_size, device=device, progress=progress)
    rejected, kept, found = list(detected.rejected), list[int](), list[Sequence[Detection]]()
    for row, some in zip(detected.kept, detected.found):
        if _finite(some):
            kept.append(row)
            found.append(some)
        else:
            rejected.append(Rejected(samples[row].id, NO_NUMBER))
    if not any(_countable(thing) for row in kept for thing in samples[row].objects):
        raise none_left(dataset.name, "pictures with boxes", len(samples), rejected)
    truth = coco_truth([samples[row] for row in kept], names)
    results = coco_results(range(1, len(kept) + 1), found, names)
    rng = np.random.default_rng(seed)
    matches = replace(match_detections(truth, results), images=np.array(kept))  # rows, to compare with other models
    estimates = {f"detect/{name}": estimate for name, estimate in average_precision_intervals(matches, rng).items()}
    values = {}
    cases, lost = _refer(model, dataset, samples, kept, batch_size, device)
    if cases:
        hits = [case.score >= HIT for case, _ in cases]
        value = Values.of([case.row for case, _ in cases], [unit for _, unit in cases], hits)
        values["detect/referring@0.5"] = value
        estimates["detect/referring@0.5"] = share_interval(value.numbers, rng, value.rows)
    if isinstance(model, ProposesRegions):
        value = _proposed(model, dataset, samples, kept, batch_size, device)
        values[f"detect/recall@{PROPOSED}"] = value
        estimates[f"detect/recall@{PROPOSED}"] = share_interval(value.numbers, rng, value.rows)
    pictures = [_case(row, samples[row], some) for row, some in zip(kept, found)]
    score = average_precision(truth, results)
    ids = [number(id) for id in dataset.select(kept).ids]
    return Judged(
        "detect",
        estimates,
        values,
        [case for case, _ in cases] + [case for case in pictures if case is not None],
        rejected + lost,
        {},
        Predictions("detections_results.json", coco_results(ids, found, names)),
        [
            f"average recall with 100 detections a picture: {score.ar_100:.3f}",
            f"category_id in the predictions: {', '.join(f'{i} {name}' for i, name in enumerate(names, 1))}",
        ],
        matches,
    )


def class_names(samples: Sequence[Sample]) -> list[str]:
    """The classes that are to be found, in alphabetical order: `category_id` counts them from 1."""
    return sorted({thing.name for sample in samples for thing in sample.objects if _countable(thing)})


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
            "bbox": [*map(float, one.box[:2]), *(max(0.0, float(one.box[i + 2] - one.box[i])) for i in (0, 1))],
            "score": float(one.score),
        }
        for image, some in zip(images, found)
        for one in some
        if one.name in place
    ]


def _countable(thing: Object) -> bool:
    return thing.box is not None and thing.kind == "thing"


def _there(sample: Sample) -> list[tuple[str, Corners]]:
    """Class and box of each thing that is to be found."""
    return [(thing.name, thing.box) for thing in sample.objects if thing.box is not None and _countable(thing)]


def _finite(found: Sequence[Detection]) -> bool:
    return all(np.isfinite([one.score, *one.box]).all() for one in found)


def _proposed(
    model: Any, dataset: Dataset, samples: Sequence[Sample], rows: Sequence[int], batch_size: int, device: str
) -> Values:
    """Of each thing whether one of the boxes that the model proposes meets it."""
    from diptych.tasks.detect import propose

    found = propose(model, dataset.select(rows), PROPOSED, batch_size=batch_size, device=device)
    met = [
        (rows[i], unit, any(box_iou([one.box], [box])[0] >= HIT for one in boxes))
        for i, boxes in zip(found.kept, found.found)
        for unit, (_, box) in enumerate(_there(samples[rows[i]]))
    ]
    return Values.of(*zip(*met))


def _refer(
    model: Any, dataset: Dataset, samples: Sequence[Sample], rows: Sequence[int], batch_size: int, device: str
) -> tuple[list[tuple[Case, int]], list[Rejected]]:
    """Of each expression that refers to one box: its IoU with the surest detection, and its number in the sample.

    And the expressions that the model gave nothing for, or no numbers.
    """
    from diptych.tasks.detect import detect

    by_phrase: dict[str, list[tuple[int, int, Corners]]] = {}
    for row in rows:
        for unit, (phrase, box) in enumerate(_expressions(samples[row])):
            if phrase not in getattr(model, "names", (phrase,)):
                continue
            by_phrase.setdefault(phrase, []).append((row, unit, box))
    cases, rejected = [], list[Rejected]()
    for phrase, some in by_phrase.items():
        pictures = dataset.select([row for row, _, _ in some])
        found = detect(model, pictures, [phrase], batch_size=batch_size, device=device)
        rejected += found.rejected
        for i, boxes in zip(found.kept, found.found):
            row, unit, box = some[i]
            if not _finite(boxes):
                rejected.append(Rejected(samples[row].id, NO_NUMBER))
                continue
            best = max(boxes, key=lambda one: one.score, default=None)
            overlap = 0.0 if best is None else float(box_iou([best.box], [box])[0])
            said, sure = ("nothing", None) if best is None else ("the box “found”", best.score)
            things = [Object("true", box)] if best is None else [Object("found", best.box), Object("true", box)]
            cases.append((Case(row, overlap, phrase, said, "", sure, things), unit))
    return sorted(cases, key=lambda case: (case[0].row, case[1])), rejected


def _expressions(sample: Sample) -> list[tuple[str, Corners]]:
    """Expressions that refer to one object of the sample; one that stands for several is left out."""
    times = Counter(region.phrase for region in sample.regions)
    return [
        (region.phrase, region.box)
        for region in sample.regions
        if region.box is not None and region.object is not None and times[region.phrase] == 1
    ]


def _case(row: int, sample: Sample, found: Sequence[Detection]) -> Case | None:
    """The share of the picture's things that some detection of their class meets; None where there are none."""
    there = _there(sample)
    if not there:
        return None
    found = sorted(found, key=lambda one: -one.score)[:SHOWN]
    met = sum(any(one.name == name and box_iou([one.box], [box])[0] >= HIT for one in found) for name, box in there)
    said, truth = (
        ", ".join(f"{times} {name}" for name, times in Counter(some).most_common()) or "nothing"
        for some in ([one.name for one in found], [name for name, _ in there])
    )
    return Case(row, met / len(there), "all classes", said, truth, None, [Object(one.name, one.box) for one in found])
