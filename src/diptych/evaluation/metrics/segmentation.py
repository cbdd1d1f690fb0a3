"""Segmentation: the confusion of pixels, mean IoU, IoU of masks, and panoptic quality.

Everything that is counted adds up over pictures, so that `intervals.bootstrap_of_sums` gives intervals from the counts
of each picture: `iou_counts` with `iou_of_sums`, `panoptic_counts` with `pq_of_sums`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from hotcoco import metrics
from numpy.typing import ArrayLike, NDArray

from diptych.types import InputError

IGNORE = 255  # the label of pixels that nobody judged

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LabelMap = NDArray[np.integer[Any]]


def confusion(predicted: LabelMap, truth: LabelMap, classes: int, ignore: int = IGNORE) -> Ints:
    """K x K counts of pixels, summable over pictures; the row is the true class, the column the predicted one.

    Args:
        predicted: H x W class numbers in [0, K).
        truth: H x W; pixels labelled `ignore` do not count, whatever was predicted there.

    Raises:
        InputError: sizes differ, or a label is neither a class nor `ignore`.
    """
    guesses, labels = np.asarray(predicted), np.asarray(truth)
    if guesses.shape != labels.shape:
        raise InputError(f"label maps: expected one size, got {guesses.shape} predicted and {labels.shape} true")
    for name, values in (("predicted", guesses), ("true", labels)):
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"label maps: expected whole numbers, got {values.dtype} as {name} labels")
    if guesses.size == 0:
        return np.zeros((classes, classes), dtype=np.int64)
    # Pixels may be counted in any order: column by column where they lie so, as decoded COCO masks do.
    order: Literal["F", "C"] = "F" if labels.flags.f_contiguous and guesses.flags.f_contiguous else "C"
    try:
        counts = metrics.pixel_confusion(labels.ravel(order), guesses.ravel(order), classes, ignore_index=ignore)
    except ValueError as wrong:
        raise InputError(f"label maps: {wrong}") from wrong
    return np.asarray(counts).astype(np.int64)


def iou_per_class(confusion: Ints) -> Floats:
    """K values: right pixels over the union of true and predicted ones; NaN for a class that is in neither."""
    right, union = iou_counts(confusion).reshape(2, -1)
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def mean_iou(confusion: Ints) -> float:
    """The mean IoU over classes that are in the truth or in the prediction; NaN if there is none.

    Sum the confusion over all pictures first: that is the mIoU of PASCAL VOC, Cityscapes and ADE20K.
    """
    return float(iou_of_sums(iou_counts(confusion)[None])[0])


def iou_counts(confusion: Ints) -> Ints:
    """2K counts of one picture: right pixels of each class, then the union of true and predicted ones."""
    right = np.diag(confusion)
    return np.concatenate([right, confusion.sum(axis=0) + confusion.sum(axis=1) - right])


def iou_of_sums(counts: Floats | Ints) -> Floats:
    """R mean IoUs of R x 2K sums of `iou_counts`."""
    right, union = np.split(np.asarray(counts, dtype=np.float64), 2, axis=1)
    return _mean_where(right / np.maximum(union, 1), union > 0)


def mask_iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """N values from 0 to 1: the intersection over the union of each pair of masks; two empty masks agree: 1.

    Args:
        a, b: N x H x W, boolean.
    """
    one, two = np.asarray(a), np.asarray(b)
    if one.ndim != 3 or one.shape != two.shape or one.dtype != np.bool_ or two.dtype != np.bool_:
        raise InputError(
            f"masks: expected boolean N x H x W twice, got {one.dtype} {one.shape} and {two.dtype} {two.shape}"
        )
    both, either = (np.count_nonzero(m, axis=(1, 2)) for m in (one & two, one | two))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


# ---------------------------------------------------------------- panoptic quality


class Segments(NamedTuple):
    """A panoptic segmentation of one picture.

    Attributes:
        ids: H x W; the segment of each pixel, 0 for none (void).
        classes: the class number of each segment.
        crowds: segments of the truth that hold a group that was not told apart; they are neither found nor missed.
    """

    ids: LabelMap
    classes: Mapping[int, int]
    crowds: Collection[int] = ()


class PanopticQuality(NamedTuple):
    """PQ = SQ x RQ for each class, and their means over the classes that occur in the truth or the prediction.

    Attributes:
        pq, sq, rq: panoptic, segmentation and recognition quality; NaN if no class occurs.
        per_class: K x 3; pq, sq, rq of each class, NaN for one that does not occur.
    """

    pq: float
    sq: float
    rq: float
    per_class: Floats


def panoptic_counts(predicted: Segments, truth: Segments, classes: int) -> Floats:
    """4K sums of one picture: IoU of matched segments, matched, wrong and missed segments of each class.

    Two segments of one class match if their IoU is above 0.5, which can hold of one partner only. Void pixels of the
    truth count neither for nor against; an unmatched prediction that lies for more than half in void or in a crowd of
    its class is left out (Kirillov et al., "Panoptic Segmentation", 2019, section 4).

    Deviation: several crowds of one class in one picture are taken together; the authors' program keeps the last one.

    Raises:
        InputError: sizes differ, a segment has no class, or a class no number in [0, K).
    """
    if np.shape(predicted.ids) != np.shape(truth.ids):
        raise InputError(f"panoptic: expected one size, got {np.shape(predicted.ids)} and {np.shape(truth.ids)}")
    guess, guess_class = _compact(predicted, classes, "predicted")
    label, label_class = _compact(truth, classes, "true")
    shared = np.bincount(label * len(guess_class) + guess, minlength=len(label_class) * len(guess_class))
    shared = shared.reshape(len(label_class), len(guess_class))  # row 0 and column 0 are void
    crowd = np.isin([0, *truth.classes], list(truth.crowds))

    size_true, size_guess = shared.sum(axis=1), shared.sum(axis=0)
    union = size_true[:, None] + size_guess - shared - shared[0]  # void under a prediction does not count
    iou = shared / np.maximum(union, 1)
    match = (iou > 0.5) & (label_class[:, None] == guess_class) & ~crowd[:, None]
    match[0] = match[:, 0] = False
    rows, cols = np.nonzero(match)
    same_crowd = (label_class[:, None] == guess_class) & crowd[:, None]
    excused = shared[0] + (shared * same_crowd).sum(axis=0)
    wrong = ~match.any(axis=0) & (size_guess > 0) & (2 * excused <= size_guess)
    missed = ~match.any(axis=1) & (size_true > 0) & ~crowd
    wrong[0] = missed[0] = False

    def tally(of: Ints, weights: Floats | None = None) -> Floats:
        return np.bincount(of, weights=weights, minlength=classes).astype(np.float64)

    found = label_class[rows]
    return np.concatenate(
        [tally(found, iou[rows, cols]), tally(found), tally(guess_class[wrong]), tally(label_class[missed])]
    )


def panoptic_quality(counts: Floats, only: ArrayLike | None = None) -> PanopticQuality:
    """PQ, SQ and RQ from 4K sums of `panoptic_counts` over all pictures (Kirillov et al. 2019, equations 1 and 2).

    Args:
        only: K booleans; the classes that count for the means: the things, or the stuff. Default: all.
    """
    iou, right, wrong, missed = np.asarray(counts, dtype=np.float64).reshape(4, -1)
    occurs = right + wrong + missed > 0
    sq = iou / np.maximum(right, 1)
    rq = right / np.where(occurs, right + wrong / 2 + missed / 2, 1)
    table = np.stack([sq * rq, sq, rq], axis=1)
    chosen = occurs if only is None else occurs & np.asarray(only, dtype=np.bool_)
    pq, sq_mean, rq_mean = (float(_mean_where(column[None], chosen[None])[0]) for column in table.T)
    return PanopticQuality(pq, sq_mean, rq_mean, np.where(occurs[:, None], table, np.nan))


def pq_of_sums(counts: Floats) -> Floats:
    """R panoptic qualities of R x 4K sums of `panoptic_counts`."""
    iou, right, wrong, missed = np.split(np.asarray(counts, dtype=np.float64), 4, axis=1)
    parts = right + wrong / 2 + missed / 2
    return _mean_where(iou / np.where(parts > 0, parts, 1), parts > 0)


def _compact(segments: Segments, classes: int, name: str) -> tuple[Ints, Ints]:
    """The picture's pixels as positions in the list of segments (0 is void), and the class of each position."""
    ids = np.asarray(segments.ids)
    listed = np.array(list(segments.classes), dtype=np.int64)
    numbers = np.array([-1, *segments.classes.values()], dtype=np.int64)
    if not np.issubdtype(ids.dtype, np.integer) or (ids.size and ids.min() < 0) or (listed <= 0).any():
        raise InputError(f"panoptic: expected whole numbers from 0 on as {name} segments, and 0 for void")
    if (numbers[1:] < 0).any() or (numbers >= classes).any():
        raise InputError(f"panoptic: expected classes from 0 to {classes - 1} for {name} segments")
    place = np.zeros(max(int(ids.max(initial=0)), int(listed.max(initial=0))) + 1, dtype=np.int64)
    place[listed] = np.arange(1, len(listed) + 1)
    flat = place[ids.ravel()]
    if np.count_nonzero(flat) < np.count_nonzero(ids):
        unknown = np.unique(ids[(flat == 0).reshape(ids.shape) & (ids != 0)])
        raise InputError(f"panoptic: {name} segment {unknown[0]} has no class ({len(unknown)} such segments)")
    return flat, numbers


def _mean_where(values: Floats, there: NDArray[np.bool_]) -> Floats:
    """R; the mean of each row over the entries that are there; NaN where none is."""
    count = there.sum(axis=1)
    total = np.where(there, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
