"""Judge segmentation by phrases: intersection over union of classes, and of expressions that refer to one thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.data import masks
from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Sums, Values, none_left
from diptych.evaluation.metrics.intervals import bootstrap_of_sums, share, share_interval
from diptych.evaluation.metrics.segmentation import confusion, iou_counts, iou_of_sums, mask_iou, mean_iou
from diptych.tasks.segment import segment
from diptych.types import InputError, Mask, Object, Rejected, Sample

PICTURES_AT_ONCE = 4  # a score map of each phrase is held for each
BACKGROUND = 0.5  # a pixel belongs to no class if none is this likely
HIT = 0.5  # IoU from which a mask meets another


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
    Chance is not defined.

    Raises:
        InputError: the model cannot segment, or no sample has objects with masks and a readable picture.
    """
    samples = dataset.take(range(len(dataset)), fields={"objects", "regions"})
    rows = [row for row, sample in enumerate(samples) if any(thing.mask for thing in sample.objects)]
    if not rows:
        raise InputError(f"{dataset.name}: objects: no sample has one with a mask")
    names = sorted({thing.name for row in rows for thing in samples[row].objects if thing.mask})
    tables: dict[int, NDArray[np.int64]] = {}
    rejected: list[Rejected] = []
    cases: list[tuple[Case, int]] = []
    for start in range(0, len(rows), PICTURES_AT_ONCE):
        some = rows[start : start + PICTURES_AT_ONCE]
        asked = [(row, phrase) for row in some for phrase in (*names, *(text for text, _ in _referring(samples[row])))]
        found = segment(
            model,
            dataset.select([row for row, _ in asked]),
            [phrase for _, phrase in asked],
            batch_size=batch_size,
            device=device,
        )
        rejected += dict.fromkeys(found.rejected)  # once a picture and not once a phrase
        scores: dict[int, list[NDArray[np.float32]]] = {row: [] for row in some}
        for i, score in zip(found.kept, found.masks):
            scores[asked[i][0]].append(score)
        wanted = Counter(row for row, _ in asked)
        for row in some:
            if len(scores[row]) < wanted[row]:
                continue
            if not all(np.isfinite(score).all() for score in scores[row]):
                rejected.append(Rejected(samples[row].id, "score is no number"))
                continue
            if any(thing.mask and _size(thing.mask) != scores[row][0].shape for thing in samples[row].objects):
                rejected.append(Rejected(samples[row].id, "mask of another size than the picture"))
                continue
            tables[row] = _classes(samples[row], names, scores[row][: len(names)])
            cases += _cases(row, samples[row], scores[row][len(names) :])
        if progress is not None:
            progress(min(start + PICTURES_AT_ONCE, len(rows)), len(rows))
    if not tables:
        raise none_left(dataset.name, "pictures", len(rows), rejected)
    rng = np.random.default_rng(seed)
    counts = np.array([iou_counts(table) for table in tables.values()], np.float64)
    estimates = {"segment/miou": share(bootstrap_of_sums(iou_of_sums, counts, rng))}
    values = {}
    if cases:
        overlaps = np.array([case.score for case, _ in cases])
        for name, numbers in (("referring_iou", overlaps), ("referring@0.5", overlaps >= HIT)):
            value = Values.of([case.row for case, _ in cases], [unit for _, unit in cases], numbers)
            values[f"segment/{name}"] = value
            estimates[f"segment/{name}"] = share_interval(value.numbers, rng, value.rows)
    pictures = [
        Case(row, float(mean_iou(table)), "all classes", _shares(table, 0, names), _shares(table, 1, names))
        for row, table in tables.items()
    ]
    skipped = {"sample without a mask": len(samples) - len(rows)}
    sums = {"segment/miou": Sums(np.array(list(tables)), counts, iou_of_sums)}
    return Judged("segment", estimates, values, [case for case, _ in cases] + pictures, rejected, skipped, sums=sums)


def _classes(sample: Sample, names: Sequence[str], scores: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
    """The picture's table of true and predicted classes; 0 is the background."""
    stacked = np.stack(scores)
    predicted = np.where(stacked.max(axis=0) >= BACKGROUND, stacked.argmax(axis=0) + 1, 0)
    truth = np.zeros(predicted.shape, np.int64)
    for thing in sample.objects:
        if thing.mask:
            truth[masks.decode(thing.mask)] = names.index(thing.name) + 1
    table: NDArray[np.int64] = confusion(predicted, truth, len(names) + 1, ignore=len(names) + 1)  # ignore none
    return table


def _shares(table: NDArray[np.int64], axis: int, names: Sequence[str]) -> str:
    """How many pixels each class has, predicted (axis 0) or true (1)."""
    sizes = zip(names, table.sum(axis=axis)[1:].tolist())
    return ", ".join(f"{size:,} {name}" for name, size in sizes if size) or "nothing"


def _cases(row: int, sample: Sample, scores: Sequence[NDArray[np.float32]]) -> list[tuple[Case, int]]:
    """Of each expression its IoU, and its number in the sample."""
    cases = []
    for unit, ((phrase, truth), score) in enumerate(zip(_referring(sample), scores)):
        inside = score >= BACKGROUND
        overlap = float(mask_iou(inside[None], masks.decode(truth)[None])[0])
        said, found = "nothing", masks.encode(inside)
        things = [Object("true", masks.box(truth))]
        if inside.any():
            said = f"the tinted pixels, {inside.sum():,}"
            things = [Object("found", None, found), *things]
        cases.append((Case(row, overlap, phrase, said, f"{masks.area(truth):,} pixels", None, things), unit))
    return cases


def _referring(sample: Sample) -> list[tuple[str, Mask]]:
    """Expressions that refer to one object with a mask; one that stands for several objects is left out."""
    times = Counter(region.phrase for region in sample.regions)
    found = []
    for region in sample.regions:
        mask = sample.objects[region.object].mask if region.object is not None else None
        if mask is not None and times[region.phrase] == 1:
            found.append((region.phrase, mask))
    return found


def _size(mask: Mask) -> tuple[int, int]:
    return mask.height, mask.width
