"""Calibration by hand, against brute force, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.evaluation.metrics.calibration import (
    auroc,
    best_threshold,
    brier_score,
    expected_calibration_error,
    reliability_curve,
    risk_coverage,
)
from diptych.evaluation.metrics.intervals import bootstrap
from diptych.types import InputError

few_levels = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=25)


def test_reliability_by_hand() -> None:
    curve = reliability_curve([0.0, 0.2, 0.25, 0.3, 0.9, 1.0], [0, 1, 0, 0, 1, 1], bins=4)
    assert curve.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.count.tolist() == [3, 1, 0, 2]  # 0 is in the first bin, and so is its upper edge 0.25
    np.testing.assert_allclose(curve.confidence, [0.15, 0.3, np.nan, 0.95])
    np.testing.assert_allclose(curve.accuracy, [1 / 3, 0, np.nan, 1])
    by_hand = (3 * (1 / 3 - 0.15) + 1 * 0.3 + 2 * 0.05) / 6
    assert expected_calibration_error([0.0, 0.2, 0.25, 0.3, 0.9, 1.0], [0, 1, 0, 0, 1, 1], bins=4) == pytest.approx(
        by_hand
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30), st.integers(1, 20))
def test_ece_against_a_loop_over_bins(samples: list[tuple[float, bool]], bins: int) -> None:
    sure, right = (np.array(column, dtype=float) for column in zip(*samples))
    slow = 0.0
    edges = np.linspace(0, 1, bins + 1)
    for b in range(bins):
        inside = (sure > edges[b]) & (sure <= edges[b + 1]) | (b == 0) & (sure == 0)
        if inside.any():
            slow += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert expected_calibration_error(sure, right, bins) == pytest.approx(slow, abs=1e-12)


def test_ece_of_known_models() -> None:
    rng = np.random.default_rng(0)
    sure = rng.random(200_000)
    right = rng.random(200_000) < sure
    assert expected_calibration_error(sure, right) < 0.006  # about 0.3 sqrt(15 / N) is noise
    assert expected_calibration_error(np.full(10, 0.7), np.ones(10)) == pytest.approx(0.3)
    assert expected_calibration_error(np.ones(10), np.ones(10)) == 0
    assert expected_calibration_error([0.6, 0.6], [0.5, 0.7]) == pytest.approx(0)  # soft accuracy
    low = bootstrap(lambda i: expected_calibration_error(sure[i], right[i] * 0.7), 3000, rng, resamples=200)
    assert low.low < low.value < low.high and low.high - low.low < 0.1


@pytest.mark.parametrize("bins", [5, 15])
def test_the_noise_of_ece_is_as_the_docstring_says(bins: int) -> None:
    rng = np.random.default_rng(1)
    sure = rng.random((300, 600))
    found = [expected_calibration_error(row, rng.random(600) < row, bins) for row in sure]
    assert np.mean(found) == pytest.approx(0.32 * np.sqrt(bins / 600), rel=0.15)


def test_brier() -> None:
    assert brier_score([0.5, 1.0, 0.2], [1, 1, 0]) == pytest.approx([0.25, 0, 0.04])


@settings(max_examples=80, deadline=None)
@given(few_levels)
def test_auroc_against_all_pairs(samples: list[tuple[int, bool]]) -> None:
    scores, positive = (np.array(column) for column in zip(*samples))
    above, below = scores[positive], scores[~positive]
    if not len(above) or not len(below):
        assert np.isnan(auroc(scores, positive))
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in above for b in below]
    assert auroc(scores, positive) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auroc_at_its_ends() -> None:
    assert auroc([1, 2, 3, 4], [0, 0, 1, 1]) == 1 and auroc([1, 2, 3, 4], [1, 1, 0, 0]) == 0
    assert auroc([7, 7, 7], [1, 0, 0]) == 0.5
    big = np.random.default_rng(0).random(200_000)
    assert auroc(big, np.arange(200_000) % 2) == pytest.approx(0.5, abs=0.01)


def test_risk_coverage_by_hand() -> None:
    curve = risk_coverage([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    assert curve.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert risk_coverage([3.0, 2.0], [1, 1]).area == 0
    same = risk_coverage(np.full(5, 0.4), [1, 0, 0, 1, 1])
    np.testing.assert_allclose(same.risk, 0.4)  # equal confidences: the order is a die's


@settings(max_examples=30, deadline=None)
@given(few_levels)
def test_risk_is_the_mean_over_orders_of_equal_confidences(samples: list[tuple[int, bool]]) -> None:
    sure, right = (np.array(column) for column in zip(*samples))
    rng = np.random.default_rng(0)
    risks = []
    for _ in range(400):
        order = np.lexsort([rng.random(len(sure)), -sure])
        risks.append(np.cumsum(~right[order]) / np.arange(1, len(sure) + 1))
    np.testing.assert_allclose(risk_coverage(sure, right).risk, np.mean(risks, axis=0), atol=0.13)


def test_threshold_by_hand() -> None:
    found = best_threshold([0.1, 0.4, 0.35, 0.8, 0.9], [0, 0, 1, 1, 1])
    assert found.value == 0.8 and found.answered == pytest.approx(2 / 3) and found.withheld == 1
    assert found.balanced_accuracy == pytest.approx(5 / 6)
    assert best_threshold([0.2, 0.2, 0.2], [1, 0, 0]) == (0.2, 0.5, 1, 0)  # nothing to tell by: answer always
    assert best_threshold([0.9, 0.1], [0, 1]).value == 0.1  # the wrong way round: answer always
    assert best_threshold([1, 2, 3, 4], [0, 1, 0, 1]).value == 2  # as good as 4, and answers more


@settings(max_examples=60, deadline=None)
@given(few_levels)
def test_threshold_against_trying_all(samples: list[tuple[int, bool]]) -> None:
    sure, yes = (np.array(column) for column in zip(*samples))
    if yes.all() or not yes.any():
        with pytest.raises(InputError, match="both kinds"):
            best_threshold(sure, yes)
        return
    tried = {t: ((sure[yes] >= t).mean() + (sure[~yes] < t).mean()) / 2 for t in sorted(set(sure.tolist()))}
    found = best_threshold(sure, yes)
    best = max(tried.values())
    assert found.balanced_accuracy == pytest.approx(best)
    assert found.value == next(t for t, value in tried.items() if value > best - 1e-9)


@pytest.mark.parametrize("metric", [expected_calibration_error, brier_score, risk_coverage, auroc, best_threshold])
def test_bad_numbers_are_named(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(InputError, match="number 1 is nan"):
        metric([0.5, np.nan], [1, 0])
    with pytest.raises(InputError, match="number 0 is nan"):
        metric([0.5, 0.4], [np.nan, 0])
    with pytest.raises(InputError, match="2 confidences against 3"):
        metric([0.5, 0.4], [1, 0, 1])
    with pytest.raises(InputError, match="one or more numbers"):
        metric([], [])
    with pytest.raises(InputError, match="0 (to|or) 1"):
        metric([0.5, 0.4], [2, 0])


def test_confidences_are_probabilities() -> None:
    with pytest.raises(InputError, match="confidence: number 1 is 1.5; expected numbers from 0 to 1"):
        expected_calibration_error([0.5, 1.5], [1, 0])
    with pytest.raises(InputError, match="bins: expected 1 or more"):
        expected_calibration_error([0.5], [1], bins=0)
