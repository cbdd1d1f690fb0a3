"""How sure an average precision is, and whether two detectors differ: bootstrap and randomisation over pictures.

Detections are matched with the truth once, by hotcoco. A resample then only gives weights to pictures: average
precision is computed from the weighted counts of right and wrong detections along the ranking, for many resamples at
once. It equals the COCO evaluation of the resampled pictures, but for the order of equal scores.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

from diptych.evaluation.metrics.detection import IouType, load
from diptych.evaluation.metrics.intervals import (
    Difference,
    bca_bounds,
    left_out_weights,
    resampled_weights,
    share,
)
from diptych.types import Estimate, InputError

RESAMPLES = 500
_IMAGES_AT_ONCE = 100  # whose matches are unpacked from hotcoco together
_CELLS_AT_ONCE = 1 << 22  # resamples x detections of one class
_RECALLS = np.linspace(0.0, 1.0, 101)
_THRESHOLDS = 10  # IoU 0.50, 0.55, ..., 0.95

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class ClassMatches(NamedTuple):
    """What became of D detections of one class, best score first.

    image: D; position of the picture. score: D. right, ignored: 10 x D; at each IoU threshold, whether it met a
    thing, and whether it does not count (it lies in a crowd). truths: N; how many things each picture has.
    """

    image: Ints
    score: Floats
    right: Bools
    ignored: Bools
    truths: Ints


@dataclass(frozen=True)
class Matches:
    """The matches of all classes over N pictures, `images` being their ids in rising order."""

    images: Ints
    classes: dict[str, ClassMatches]

    def average_precision(self, weights: NDArray[np.integer[Any]]) -> Floats:
        """R x 10 x K; AP at each IoU threshold and of each class for R x N weights; NaN for a class without truth."""
        parts = [_class_ap(found, weights) for found in self.classes.values()]
        return np.stack(parts, axis=2)

    def only(self, images: Ints) -> Matches:
        """The matches of these pictures alone; all of them are among `self.images`."""
        kept = np.isin(self.images, images)
        place = np.cumsum(kept) - 1
        classes = {}
        for name, found in self.classes.items():
            here = kept[found.image]
            classes[name] = ClassMatches(
                place[found.image[here]],
                found.score[here],
                found.right[:, here],
                found.ignored[:, here],
                found.truths[kept],
            )
        return Matches(self.images[kept], classes)


def match_detections(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], iou_type: IouType = "bbox"
) -> Matches:
    """Match detections with the truth as COCO does: things of all sizes, up to 100 detections a picture and class.

    Arguments and errors as in `average_precision`.
    """
    ours, found = load(truth, results, iou_type)
    images = sorted(image["id"] for image in truth["images"])
    place = {image: i for i, image in enumerate(images)}
    names = {category["id"]: str(category["name"]) for category in truth["categories"]}
    parts: dict[int, list[_Part]] = {key: [] for key in sorted(names)}
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        matched = COCOeval(ours, found, iou_type)
        params = matched.params
        params.img_ids = images[start : start + _IMAGES_AT_ONCE]
        params.area_rng, params.area_rng_lbl = [[0.0, 1e10]], ["all"]
        matched.evaluate()
        with _collector_off():
            for entry in matched.eval_imgs:
                if entry is not None:
                    parts[entry["category_id"]].append(_Part.of(place[entry["image_id"]], entry))
    return Matches(
        np.array(images, dtype=np.int64), {names[key]: _gather(rows, len(images)) for key, rows in parts.items()}
    )


def average_precision_intervals(
    matches: Matches, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """`ap`, `ap50`, `ap75` and `ap[CLASS]`, each with its 95 % interval over pictures; what has no truth is left out.

    A class that has no thing in a resample does not count there. n is the number of pictures.
    """
    if not any(found.truths.any() for found in matches.classes.values()):
        return {}
    count = len(matches.images)
    value = matches.average_precision(np.ones((1, count), dtype=np.int64))
    drawn = np.concatenate([matches.average_precision(w) for w in resampled_weights(count, rng, resamples)])
    left_out = matches.average_precision(left_out_weights(count, rng))
    kept = ~np.isnan(value[0, 0])
    value, drawn, left_out = (table[:, :, kept] for table in (value, drawn, left_out))
    there = {name: found.truths > 0 for name, found in matches.classes.items() if found.truths.any()}  # which pictures
    somewhere = np.logical_or.reduce(list(there.values()))
    columns: dict[str, tuple[Callable[[Floats], Floats], Bools]] = {
        "ap": (_over_classes, somewhere),
        "ap50": (lambda table: _over_classes(table[:, :1]), somewhere),
        "ap75": (lambda table: _over_classes(table[:, 5:6]), somewhere),
    }
    columns |= {f"ap[{name}]": (partial(_of_class, k), pictures) for k, (name, pictures) in enumerate(there.items())}
    estimates = {}
    for name, (column, pictures) in columns.items():
        low, high = bca_bounds(float(column(value)[0]), column(drawn), column(left_out), count)
        estimates[name] = share(Estimate(float(column(value)[0]), low, high, count), int(pictures.sum()))
    return estimates


def average_precision_difference(
    first: Matches, second: Matches, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> Difference:
    """AP of the first detector minus AP of the second on the same pictures, with interval and p-value.

    The interval draws pictures, the same for both. p is Fisher's randomisation test: if the detectors are alike, a fair
    coin may swap their detections on each picture; it is the share of tosses whose difference is as large.

    Raises:
        InputError: the two were not matched with the same truth.
    """
    same = np.array_equal(first.images, second.images) and first.classes.keys() == second.classes.keys()
    if not same or any(not np.array_equal(first.classes[c].truths, second.classes[c].truths) for c in first.classes):
        raise InputError("detections: the two models were judged on different truth, so they cannot be compared")
    count = len(first.images)

    def gap(weights: NDArray[np.integer[Any]]) -> Floats:
        return _over_classes(first.average_precision(weights)) - _over_classes(second.average_precision(weights))

    value = float(gap(np.ones((1, count), dtype=np.int64))[0])
    drawn = np.concatenate([gap(weights) for weights in resampled_weights(count, rng, resamples)])
    low, high = bca_bounds(value, drawn, gap(left_out_weights(count, rng)), count)
    both = _side_by_side(first, second)
    tosses = []
    for start in range(0, resamples, 100):
        coins = rng.integers(0, 2, size=(min(100, resamples - start), count))
        one, two = (both.average_precision(np.hstack([c, 1 - c])) for c in (coins, 1 - coins))
        tosses.append(_over_classes(one) - _over_classes(two))
    as_far = np.abs(np.concatenate(tosses)) >= abs(value) - 1e-12
    return Difference(Estimate(value, low, high, count, 0.0), float((1 + as_far.sum()) / (resamples + 1)))


@contextmanager
def _collector_off() -> Iterator[None]:
    """hotcoco unpacks matches into many small lists; looking for circles among them takes five times as long."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Part(NamedTuple):
    """The matches of one class on one picture."""

    image: int
    truths: int
    score: Floats
    right: Bools
    ignored: Bools

    @classmethod
    def of(cls, image: int, entry: Mapping[str, Any]) -> _Part:
        """From what COCO's program calls an evaluated image."""
        tables = (np.array(entry[name], dtype=np.bool_).reshape(_THRESHOLDS, -1) for name in ("dtMatched", "dtIgnore"))
        return cls(image, entry["gtIgnore"].count(0), np.array(entry["dtScores"], dtype=np.float64), *tables)


def _gather(parts: Sequence[_Part], images: int) -> ClassMatches:
    """One class: its detections of all pictures in the order of their scores."""
    truths = np.zeros(images, dtype=np.int64)
    truths[[part.image for part in parts]] = [part.truths for part in parts]
    empty = np.zeros((_THRESHOLDS, 0), dtype=np.bool_)
    score = np.concatenate([np.zeros(0), *(part.score for part in parts)])
    owner = np.repeat([part.image for part in parts], [len(part.score) for part in parts]).astype(np.int64)
    right = np.concatenate([empty, *(part.right for part in parts)], axis=1)
    ignored = np.concatenate([empty, *(part.ignored for part in parts)], axis=1)
    order = np.argsort(-score, kind="stable")
    return ClassMatches(owner[order], score[order], (right & ~ignored)[:, order], ignored[:, order], truths)


def _side_by_side(first: Matches, second: Matches) -> Matches:
    """Both detectors in one ranking; the second one's pictures follow the first one's.

    With weight c for a picture's first copy and 1 - c for its second, c is the coin that chooses the detector.
    """
    count, classes = len(first.images), {}
    for name, one in first.classes.items():
        two = second.classes[name]
        score = np.concatenate([one.score, two.score])
        order = np.argsort(-score, kind="stable")
        classes[name] = ClassMatches(
            np.concatenate([one.image, two.image + count])[order],
            score[order],
            np.concatenate([one.right, two.right], axis=1)[:, order],
            np.concatenate([one.ignored, two.ignored], axis=1)[:, order],
            np.concatenate([one.truths, two.truths]),
        )
    return Matches(np.concatenate([first.images, second.images]), classes)


def _class_ap(found: ClassMatches, weights: NDArray[np.integer[Any]]) -> Floats:
    """R x 10; AP of one class for each row of weights."""
    step = max(1, _CELLS_AT_ONCE // max(len(found.image), 1))
    return np.concatenate([_few_ap(found, weights[i : i + step]) for i in range(0, len(weights), step)])


def _few_ap(found: ClassMatches, weights: NDArray[np.integer[Any]]) -> Floats:
    things = weights @ found.truths
    times = weights[:, found.image].astype(np.int32)
    seen = np.cumsum(times, axis=1)
    # The smallest count of right detections whose recall, count / things, reaches each of the 101 recalls.
    some = np.maximum(things, 1)[:, None]
    needed = np.ceil(_RECALLS * some).astype(np.int64)
    needed -= (needed - 1) / some >= _RECALLS
    needed += needed / some < _RECALLS
    stride = int(some.max()) + 3
    shift = np.arange(len(weights))[:, None] * stride
    result = np.zeros((len(weights), _THRESHOLDS))
    for t in range(_THRESHOLDS):
        hits, out = np.flatnonzero(found.right[t]), np.flatnonzero(found.ignored[t])
        if not hits.size:
            continue
        right = np.cumsum(times[:, hits], axis=1)
        counted = seen[:, hits]
        if out.size:
            lost = np.pad(np.cumsum(times[:, out], axis=1), ((0, 0), (1, 0)))
            counted = counted - lost[:, np.searchsorted(out, hits)]
        precision = right / np.maximum(counted, 1)
        best = np.zeros((len(weights), hits.size + 1))  # the last column: recalls that are never reached
        best[:, :-1] = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        place = np.searchsorted((right + shift).ravel(), (needed + shift).ravel()).reshape(needed.shape)
        result[:, t] = np.take_along_axis(best, place - np.arange(len(weights))[:, None] * hits.size, axis=1).mean(
            axis=1
        )
    result[things == 0] = np.nan
    return result


def _of_class(k: int, table: Floats) -> Floats:
    mean: Floats = table[:, :, k].mean(axis=1)
    return mean


def _over_classes(table: Floats) -> Floats:
    """R; the mean over thresholds and over classes that have truth; NaN where none has."""
    there = ~np.isnan(table)
    total: Floats = np.where(there, table, 0.0).sum(axis=(1, 2))
    count = there.sum(axis=(1, 2))
    result: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result
