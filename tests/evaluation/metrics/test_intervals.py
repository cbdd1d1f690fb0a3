"""Intervals cover what they promise, medians and groups are right, and paired comparison tells equal from different."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from diptych.evaluation.metrics.intervals import (
    bootstrap,
    bootstrap_of_sums,
    class_mean_interval,
    mean_interval,
    median_interval,
    paired_difference,
    paired_difference_of_sums,
    share,
)
from diptych.types import Estimate, InputError


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


def test_bounds_of_values_all_alike_are_on_their_scale() -> None:
    none, all_ten = (mean_interval(np.full(20, value), rng(), largest=10.0) for value in (0.0, 10.0))
    assert (none.low, none.high) == (0, pytest.approx(1.684, abs=1e-3))
    assert (all_ten.low, all_ten.high) == (pytest.approx(8.316, abs=1e-3), 10)
    ones = mean_interval(np.ones(20), rng(), largest=10.0)
    assert (ones.value, ones.low, ones.high) == (1, pytest.approx(0.8316, abs=1e-4), pytest.approx(2.5157, abs=1e-3))
    words = mean_interval(np.ones(20), rng(), largest=None)
    assert words.value == 1 and np.isnan([words.low, words.high]).all()
    assert not np.isnan(mean_interval([7.0, 8.0], rng(), largest=None).low)


@pytest.mark.parametrize("n", [20, 3])
def test_no_share_is_certain(n: int) -> None:
    perfect, none = (class_mean_interval(np.full(n, hit), np.arange(n) % 2, rng()) for hit in (1, 0))
    assert perfect[1:3] == (pytest.approx(0.025 ** (1 / n)), 1) and none[1:3] == (
        0,
        pytest.approx(1 - 0.025 ** (1 / n)),
    )
    assert share(Estimate(1 - 1e-10, 1 - 2e-10, 1 - 1e-11, 999), n).low == pytest.approx(0.025 ** (1 / n))
    assert np.isnan(share(Estimate(0.8, 0.8, 0.8, n))[1:3]).all()  # each resample is the same: nothing is known
    assert share(Estimate(0.02, -0.004, 1.01, n))[1:3] == (0, 1)
    assert share(Estimate(0.9, 0.7, 1.0, n))[1:3] == (0.7, 1.0)


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
    assert identical.p == 1.0 and identical.estimate.value == 0
    assert -0.0005 < identical.estimate.low < 0 < identical.estimate.high < 0.0005  # 5,000 agreements, not certainty


def test_paired_hits_by_hand() -> None:
    first, second = [1, 1, 1, 0, 0, 1, 1, 1], [1, 1, 0, 0, 1, 0, 0, 1]  # 3 won, 1 lost of 8
    found = paired_difference(first, second, rng()).estimate
    reach = 1.959964 * np.sqrt(3 + 1 + 1 - (3 - 1) ** 2 / 10) / 10
    assert found.value == 0.25 and (found.low, found.high) == pytest.approx((0.2 - reach, 0.2 + reach))
    drawn = paired_difference(np.tile(first, 50), np.tile(second, 50), rng(), groups=np.arange(400) // 2).estimate
    plain = paired_difference(np.tile(first, 50), np.tile(second, 50), rng()).estimate
    assert drawn.value == plain.value and drawn[1:3] != plain[1:3]  # values in groups are drawn


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


@pytest.mark.parametrize("skewed", [np.exp, np.square, np.sqrt])
def test_bounds_are_scipys_bca_but_for_the_wider_tails(skewed: np.ufunc) -> None:
    values = skewed(rng(1).exponential(size=400))
    ours = mean_interval(values, rng(2), resamples=20_000)
    drawn = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=rng(3)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((drawn.low, drawn.high), abs=0.03 * (drawn.high - drawn.low))
    any_statistic = bootstrap(lambda i: values[i].mean(), 400, rng(4), resamples=4000)
    assert (any_statistic.low, any_statistic.high) == pytest.approx(
        (ours.low, ours.high), abs=0.1 * (ours.high - ours.low)
    )
    of_sums = bootstrap_of_sums(
        lambda t: t[:, 0] / t[:, 1], np.stack([values, np.ones(400)], axis=1), rng(2), resamples=20_000
    )
    assert of_sums[:3] == pytest.approx(ours[:3]) and of_sums.n == 400


def test_few_samples_have_wider_tails() -> None:
    values = rng(5).standard_normal(8)
    ours = mean_interval(values, rng(6), resamples=20_000)
    drawn = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=rng(7)).confidence_interval
    wider = (ours.high - ours.low) / (drawn.high - drawn.low)
    assert 1.15 < wider < np.sqrt(8 / 7) * stats.t.ppf(0.975, 7) / stats.norm.ppf(0.975) + 0.05


def test_few_different_values_are_drawn_by_their_number() -> None:
    hits = rng(0).random(900) < 0.3
    few = mean_interval(hits, rng(1), resamples=8000)
    all_different = mean_interval(hits + rng(2).random(900) * 1e-9, rng(3), resamples=8000)
    assert few[:3] == pytest.approx(all_different[:3], abs=0.003)


def test_bootstrap_draws_whole_groups() -> None:
    values, owner = rng(1).random(120), np.arange(120) % 30
    alone = mean_interval(values, rng(2), groups=owner, resamples=4000)
    seen = []

    def mean(drawn: np.ndarray) -> float:
        seen.append(np.bincount(owner[drawn], minlength=30))
        return float(values[drawn].mean())

    found = bootstrap(mean, 120, rng(3), groups=owner, resamples=4000)
    assert found[:3] == pytest.approx(alone[:3], abs=0.006) and found.n == 120
    assert all((counts % 4 == 0).all() for counts in seen)


def test_resamples_without_a_number_do_not_count() -> None:
    rare = np.zeros(40)
    rare[:2] = 1

    def share_of_rare(drawn: np.ndarray) -> float:
        found = rare[drawn].sum()
        return float(found / 40) if found else float("nan")

    found = bootstrap(share_of_rare, 40, rng(1), resamples=300, chance=0.5)
    assert 0 < found.low <= found.value == 0.05 < found.high and found.chance == 0.5
    with pytest.raises(InputError, match="not a finite number"):
        bootstrap(lambda drawn: float("nan"), 10, rng(), resamples=10)
    with pytest.raises(InputError, match="one or more"):
        bootstrap(lambda drawn: 1.0, 0, rng())
    with pytest.raises(InputError, match="counts: expected a row"):
        bootstrap_of_sums(lambda sums: sums[:, 0], [1.0, 2.0], rng())


def test_two_models_side_by_side_share_their_resamples() -> None:
    pictures = rng(4).integers(100, 200, 200)
    hard = rng(5).random(200)
    first, second = np.floor(pictures * hard), np.floor(pictures * hard * 0.99)
    counts = np.stack([first, second, pictures], axis=1)
    found = bootstrap_of_sums(lambda sums: (sums[:, 0] - sums[:, 1]) / sums[:, 2], counts, rng(6))
    apart = [bootstrap_of_sums(lambda sums, c=c: sums[:, c] / sums[:, 2], counts, rng(7)) for c in (0, 1)]
    assert found.low > 0 and found.value == pytest.approx(apart[0].value - apart[1].value)
    assert found.high - found.low < 0.1 * (apart[0].high - apart[0].low)


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def test_a_difference_of_sums_is_one_of_means_where_all_samples_weigh_the_same() -> None:
    first, second = rng(1).random((2, 60))
    second -= 0.05
    counts = [np.stack([values, np.ones(60)], axis=1) for values in (first, second)]
    found = paired_difference_of_sums(ratio, *counts, rng(2), resamples=8000)
    plain = paired_difference(first, second, rng(3), resamples=8000)
    assert found.estimate[:3] == pytest.approx(plain.estimate[:3], abs=0.005) and found.estimate.n == 60
    assert found.p == pytest.approx(plain.p, abs=0.02) and 0.05 < found.p < 0.95
    assert paired_difference_of_sums(ratio, counts[0], counts[0], rng(2)).p == 1
    with pytest.raises(InputError, match="same samples"):
        paired_difference_of_sums(ratio, counts[0], counts[1][:9], rng())


def test_p_of_sums_is_uniform_between_equal_models() -> None:
    source, ps = rng(12), []
    for _ in range(200):
        sizes = source.integers(1, 30, 40)
        counts = [np.stack([source.binomial(sizes, 0.5), sizes], axis=1) for _ in range(2)]
        ps.append(paired_difference_of_sums(ratio, *counts, source, resamples=199).p)
    assert np.mean(np.array(ps) <= 0.05) <= 0.1 and np.mean(ps) == pytest.approx(0.5, abs=0.08)


def test_one_sample() -> None:
    one = mean_interval([0.3], rng())
    assert one[:3] == (0.3, pytest.approx(0.025 * 0.3), pytest.approx(0.3 + 0.975 * 0.7))  # it says next to nothing
    assert bootstrap(lambda drawn: 0.3, 1, rng(), resamples=20)[:3] == (0.3, 0.3, 0.3)
