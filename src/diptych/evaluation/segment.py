"""Judge segmentation by phrases: intersection over union of classes, and of expressions that refer to one thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.data import masks
from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Values
from diptych.evaluation.metrics.intervals import bootstrap_of_sums, mean_interval
from diptych.evaluation.metrics.segmentation import confusion, iou_counts, iou_of_sums, mask_iou, mean_iou
from diptych.tasks.segment import segment
from diptych.types import InputError, Rejected, Sample

PICTURES_AT_ONCE = 4  # a score map of each phrase is held for each
BACKGROUND = 0.5  # a pixel belongs to no class if none is this likely


def evaluate_segment(
    model: Any,
    dataset: Dataset,
    *,
    batch_size: int = 16,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """Ask for every class of the dataset in every picture, and for every expression that refers to an object.

    A pixel gets the likeliest class, or none (class 0) if no class reaches one half. "segment/miou" is the mean over
    classes, the background among them, of pixels summed over all pictures; "segment/referring_iou" is the mean over
    expressions, "segment/referring@0.5" the share of those whose mask meets the true one with an IoU of one half.

    Raises:
        InputError: the model cannot segment, or no sample has objects with masks and a readable picture.
    """
    samples = dataset.take(range(len(dataset)), fields={"objects", "regions"})
    rows = [row for row, sample in enumerate(samples) if any(thing.mask for thing in sample.objects)]
    if not rows:
        raise InputError(f"{dataset.name}: objects: no sample has one with a mask")
    names = sorted({thing.name for row in rows for thing in samples[row].objects if thing.mask})
    tables, judged = [], []
    rejected: list[Rejected] = []
    cases, overlaps, places = [], [], []
    for start in range(0, len(rows), PICTURES_AT_ONCE):
        some = rows[start : start + PICTURES_AT_ONCE]
        pictures = dataset.take(some, fields={"images"})
        phrases = [[*names, *(phrase for phrase, _ in _referring(samples[row]))] for row in some]
        found = segment(
            model,
            [picture.images[0] for picture, texts in zip(pictures, phrases) for _ in texts],
            [text for texts in phrases for text in texts],
            batch_size=batch_size,
            device=device,
        )
        rejected += dict.fromkeys(found.rejected)  # once a picture and not once a phrase
        told = dict(zip(found.kept, found.masks))
        at = 0
        for row, texts in zip(some, phrases):
            mine = [told.get(at + i) for i in range(len(texts))]
            at += len(texts)
            if any(one is None for one in mine):
                continue
            whole = [one for one in mine if one is not None]
            tables.append(_classes(samples[row], names, whole[: len(names)]))
            judged.append(row)
            for unit, ((phrase, truth), one) in enumerate(zip(_referring(samples[row]), whole[len(names) :])):
                overlap = float(mask_iou((one >= BACKGROUND)[None], truth[None])[0])
                cases.append(Case(row, overlap, phrase, f"IoU {overlap:.2f}", "", None))
                overlaps.append(overlap)
                places.append((row, unit))
        if progress is not None:
            progress(min(start + PICTURES_AT_ONCE, len(rows)), len(rows))
    if not judged:
        raise InputError(f"{dataset.name}: images: none of {len(rows)} could be read")
    rng = np.random.default_rng(seed)
    estimates = {"segment/miou": bootstrap_of_sums(iou_of_sums, [iou_counts(table) for table in tables], rng)}
    values = {}
    if overlaps:
        numbers = np.array(overlaps)
        for name, some_values in (("referring_iou", numbers), ("referring@0.5", (numbers >= 0.5).astype(np.float64))):
            value = Values.of([row for row, _ in places], [unit for _, unit in places], some_values)
            values[f"segment/{name}"] = value
            estimates[f"segment/{name}"] = mean_interval(value.numbers, rng, groups=value.rows)
    if not cases:
        cases = [
            Case(row, float(mean_iou(table)), "all classes", f"mIoU {mean_iou(table):.2f}", "")
            for row, table in zip(judged, tables)
        ]
    skipped = {"sample without a mask": len(samples) - len(rows)}
    return Judged("segment", estimates, values, cases, rejected, skipped)


def _classes(sample: Sample, names: Sequence[str], scores: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
    """The picture's table of true and predicted classes; 0 is the background."""
    stacked = np.stack(scores)
    predicted = np.where(stacked.max(axis=0) >= BACKGROUND, stacked.argmax(axis=0) + 1, 0)
    truth = np.zeros(predicted.shape, np.int64)
    for thing in sample.objects:
        if thing.mask:
            truth[masks.decode(thing.mask).astype(bool)] = names.index(thing.name) + 1
    table: NDArray[np.int64] = confusion(predicted, truth, len(names) + 1)
    return table


def _referring(sample: Sample) -> list[tuple[str, NDArray[np.bool_]]]:
    """Expressions that refer to one object with a mask; one that stands for several objects is left out."""
    times = Counter(region.phrase for region in sample.regions)
    found = []
    for region in sample.regions:
        thing = sample.objects[region.object] if region.object is not None else None
        if thing is not None and thing.mask and times[region.phrase] == 1:
            found.append((region.phrase, masks.decode(thing.mask).astype(bool)))
    return found
