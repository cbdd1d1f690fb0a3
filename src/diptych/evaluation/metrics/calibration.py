"""Calibration: does a model know when it is right? And at which confidence should it keep silent?

`intervals.bootstrap(lambda i: expected_calibration_error(confidence[i], right[i]), n, rng)` gives an interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.types import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ReliabilityCurve:
    """Confidence against accuracy in B bins of equal width; NaN in an empty bin.

    Attributes:
        edges: B + 1, from 0 to 1; a bin holds its upper edge and not its lower one, but the first holds 0 too.
        confidence, accuracy: B means over the samples of each bin.
        count: B; how many samples.
    """

    edges: Floats
    confidence: Floats
    accuracy: Floats
    count: Ints


class RiskCoverage(NamedTuple):
    """The error among the answers if only the surest k of N are given, for k = 1, ..., N.

    Attributes:
        coverage: N; k / N.
        risk: N; the share of errors among those k; the expected one where equal confidences leave the choice open.
        area: the mean risk (AURC), from 0; lower is better.
    """

    coverage: Floats
    risk: Floats
    area: float


class Threshold(NamedTuple):
    """Answer where the confidence is at least `value`.

    Attributes:
        value: a confidence that occurs.
        balanced_accuracy: the mean of the next two; 0.5 is reached by answering always.
        answered: the share of the answerable (or right) that is answered.
        withheld: the share of the others that is not.
    """

    value: float
    balanced_accuracy: float
    answered: float
    withheld: float


def reliability_curve(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> ReliabilityCurve:
    """What accuracy each confidence comes with (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    Args:
        confidence: N probabilities in [0, 1].
        right: N; 1 or True for a right answer, 0 for a wrong one; shares between (soft VQA accuracy) count as they are.

    Raises:
        InputError: lengths differ, there is no sample, or a number is not in [0, 1].
    """
    sure, hits = _confidence(confidence), _hits(right)
    _same_length(sure, hits)
    if bins < 1:
        raise InputError(f"bins: expected 1 or more, got {bins}")
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    means = [
        np.where(count > 0, np.bincount(place, weights=values, minlength=bins) / np.maximum(count, 1), np.nan)
        for values in (sure, hits)
    ]
    return ReliabilityCurve(edges, means[0], means[1], count)


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """The mean distance of accuracy and confidence over bins, weighted by their samples (Guo et al. 2017, equation 3).

    From 0 to 1. It is biased: noise in the bins counts as error, so that a calibrated model whose confidences are
    spread over [0, 1] has an ECE of about 0.3 sqrt(bins / N), not 0. Arguments and errors as in `reliability_curve`.
    """
    curve = reliability_curve(confidence, right, bins)
    full = curve.count > 0
    gaps = np.abs(curve.accuracy - curve.confidence)[full]
    return float(gaps @ curve.count[full] / curve.count.sum())


def brier_score(confidence: ArrayLike, right: ArrayLike) -> Floats:
    """N values from 0 to 1, (confidence - right)^2; their mean is the Brier score (Brier 1950), lower is better."""
    sure, hits = _confidence(confidence), _hits(right)
    _same_length(sure, hits)
    result: Floats = (sure - hits) ** 2
    return result


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """The probability that a positive scores above a negative, ties counting half: Mann and Whitney's U over the pairs.

    From 0 to 1; 0.5 is chance. NaN if there is no positive or no negative.

    Args:
        scores: N finite numbers.
        positive: N; 1 or True for a positive, 0 for a negative.
    """
    values, yes = _finite("scores", scores), _truth("positive", positive)
    _same_length(values, yes)
    above, below = int(yes.sum()), int((~yes).sum())
    if not above or not below:
        return float("nan")
    _, level, size = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.cumsum(size) - (size - 1) / 2  # equal scores share the mean of their places
    rank_sum = float(rank[level[yes]].sum())
    return (rank_sum - above * (above + 1) / 2) / (above * below)


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> RiskCoverage:
    """The risk-coverage curve and its area (Geifman and El-Yaniv 2017; AURC in Geifman, Uziel and El-Yaniv 2019).

    Args:
        confidence: N finite numbers; any score that ranks will do.
        right: as in `reliability_curve`.
    """
    sure, hits = _finite("confidence", confidence), _hits(right)
    _same_length(sure, hits)
    _, level, size = np.unique(-sure, return_inverse=True, return_counts=True)
    # Equal confidences are answered in random order: each costs the mean error of its level.
    error = np.bincount(level, weights=1.0 - hits) / size
    answered = np.arange(1, len(sure) + 1)
    risk = np.cumsum(np.repeat(error, size)) / answered
    return RiskCoverage(answered / len(sure), risk, float(risk.mean()))


def best_threshold(confidence: ArrayLike, answerable: ArrayLike) -> Threshold:
    """The confidence from which on to answer, so that the answerable is answered and the rest is not.

    It maximises balanced accuracy: the mean of the share of answerable samples that are answered and the share of
    unanswerable ones that are not. Of thresholds that are equally good, the lowest: it answers most. Choose it on
    other samples than those it is judged on.

    Args:
        confidence: N finite numbers.
        answerable: N; 1 or True where an answer is wanted (the question can be answered, or the answer is right).

    Raises:
        InputError: lengths differ, a number is not finite, or one of the two kinds is absent.
    """
    sure, yes = _finite("confidence", confidence), _truth("answerable", answerable)
    _same_length(sure, yes)
    if yes.all() or not yes.any():
        raise InputError(f"answerable: expected both kinds, got {len(yes)} samples that are all {bool(yes[0])}")
    values, level = np.unique(sure, return_inverse=True)
    # Below each distinct confidence: what a threshold there withholds.
    kept_back = [np.cumsum(np.bincount(level[kind], minlength=len(values))) for kind in (yes, ~yes)]
    before = [np.concatenate([[0], counts[:-1]]) for counts in kept_back]
    answered, withheld = 1 - before[0] / yes.sum(), before[1] / (~yes).sum()
    # Whole numbers decide, so that rounding breaks no tie.
    gain = before[1] * int(yes.sum()) - before[0] * int((~yes).sum())
    best = int(np.argmax(gain))
    balanced = (answered[best] + withheld[best]) / 2
    return Threshold(float(values[best]), float(balanced), float(answered[best]), float(withheld[best]))


def _finite(name: str, values: ArrayLike) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise InputError(f"{name}: expected a row of one or more numbers, got shape {numbers.shape}")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise InputError(f"{name}: number {bad[0]} is {numbers[bad[0]]}; expected finite numbers")
    return numbers


def _shares(name: str, values: ArrayLike) -> Floats:
    numbers = _finite(name, values)
    bad = np.flatnonzero((numbers < 0) | (numbers > 1))
    if bad.size:
        raise InputError(f"{name}: number {bad[0]} is {numbers[bad[0]]}; expected numbers from 0 to 1")
    return numbers


def _confidence(values: ArrayLike) -> Floats:
    return _shares("confidence", values)


def _hits(values: ArrayLike) -> Floats:
    return _shares("right", values)


def _truth(name: str, values: ArrayLike) -> Bools:
    numbers = _finite(name, values)
    if not np.isin(numbers, (0.0, 1.0)).all():
        raise InputError(f"{name}: expected 0 or 1 for every sample")
    yes: Bools = numbers == 1.0
    return yes


def _same_length(one: NDArray[np.generic], two: NDArray[np.generic]) -> None:
    if len(one) != len(two):
        raise InputError(f"calibration: {len(one)} confidences against {len(two)} truths; expected one for each sample")
