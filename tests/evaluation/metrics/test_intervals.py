"""Intervals cover what they promise, medians and groups are right, and paired comparison tells equal from different."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.evaluation.metrics.intervals import (
    class_mean_interval,
    mean_interval,
    median_interval,
    paired_difference,
)
from diptych.types import InputError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_values_are_plain_and_seeded() -> None:
    values = [1, 0, 0, 1, 1]
    estimate = mean_interval(values, rng(3), chance=0.2)
    assert estimate.value == 0.6 and estimate.n == 5 and estimate.chance == 0.2
    assert estimate.low < 0.6 < estimate.high
    assert estimate == mean_interval(values, rng(3), chance=0.2)
    assert median_interval([4, 1, 3, 2], rng()).value == 2.5


def test_values_of_one_sample_are_drawn_together() -> None:
    source = rng(9)
    hits = np.repeat(source.random(200) < 0.5, 5)  # five captions of a picture that are right or wrong together
    owner = np.repeat(np.arange(200), 5)
    alone, together = mean_interval(hits, rng(1)), mean_interval(hits, rng(1), groups=owner)
    assert together.value == alone.value and together.n == 1000
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(5), rel=0.1)
    ranks = np.repeat(source.exponential(size=200), 5)
    alone, together = median_interval(ranks, rng(1)), median_interval(ranks, rng(1), groups=owner)
    assert together.value == alone.value
    assert together.high - together.low > 1.6 * (alone.high - alone.low)


def test_median_of_resamples_equals_sorting_them() -> None:
    values, owner = rng(2).integers(0, 30, 41).astype(float), rng(3).integers(0, 9, 41)
    estimate = median_interval(values, rng(4), groups=owner, resamples=300)
    names = np.unique(owner)
    medians = [
        np.median(np.concatenate([values[owner == names[i]] for i in row]))
        for row in rng(4).integers(0, len(names), size=(300, len(names)))
    ]
    assert (estimate.low, estimate.high) == tuple(np.quantile(medians, [0.025, 0.975]))


def test_all_right_is_not_certainty() -> None:
    right, wrong = mean_interval(np.ones(20), rng()), mean_interval(np.zeros(20), rng())
    assert right.value == right.high == 1 and right.low == pytest.approx(0.8316, abs=1e-4)  # 0.025 ** (1 / 20)
    assert wrong.value == wrong.low == 0 and wrong.high == pytest.approx(0.1684, abs=1e-4)


def test_class_mean_by_hand_and_its_interval_against_drawing_samples() -> None:
    hits = np.array([1, 1, 1, 1, 0, 0, 1, 0])
    classes = np.array([5, 5, 5, 5, 5, 5, 2, 2])
    assert class_mean_interval(hits, classes, rng()).value == pytest.approx((4 / 6 + 1 / 2) / 2)
    hits, classes = rng(1).integers(0, 2, 60), rng(2).integers(0, 3, 60)
    estimate = class_mean_interval(hits, classes, rng(3), resamples=4000)
    drawn = []
    for row in rng(4).integers(0, 60, size=(4000, 60)):
        drawn.append(np.mean([hits[row][classes[row] == c].mean() for c in np.unique(classes[row])]))
    assert (estimate.low, estimate.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)


def test_a_planted_difference_is_found_and_equal_models_are_equal() -> None:
    source = rng(5)
    hard = source.random(5000)
    base, better, same = hard < 0.50, hard < 0.52, source.permutation(hard) < 0.50
    found = paired_difference(better, base, rng(6))
    assert found.estimate.low > 0 and found.p < 0.001
    assert found.estimate.value == pytest.approx(np.mean(better) - np.mean(base))
    none = paired_difference(same, base, rng(6))
    assert none.estimate.low < 0 < none.estimate.high and none.p > 0.05
    identical = paired_difference(base, base, rng(6))
    assert identical.p == 1.0 and identical.estimate[:3] == (0.0, 0.0, 0.0)


def test_p_is_uniform_between_equal_models() -> None:
    source = rng(10)
    ps = [paired_difference(source.random(80), source.random(80), source, resamples=199).p for _ in range(400)]
    assert 0.02 <= np.mean(np.array(ps) <= 0.05) <= 0.08
    assert np.mean(ps) == pytest.approx(0.5, abs=0.06)


def test_p_of_three_samples_by_hand() -> None:
    # Signs of (3, 1, 1): |sum| is 5 for 2 of the 8 tosses.
    assert paired_difference([3, 1, 1], [0, 0, 0], rng(11), resamples=20_000).p == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(("values", "groups"), [([], None), ([1.0, np.nan], None), ([1.0, 2.0], [1])])
def test_bad_values_are_refused(values: list[float], groups: list[int] | None) -> None:
    with pytest.raises(InputError, match="expected"):
        mean_interval(values, rng(), groups=groups)


def test_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="same samples"):
        paired_difference([1.0], [1.0, 2.0], rng())
