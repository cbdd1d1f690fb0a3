"""Simulation: how often do 95 % intervals hold the truth, how often does a comparison err, and what does it find?

The quick cases stand in the suite; `python -m pytest -m slow -s` on this file prints the tables of docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from diptych.evaluation.metrics.calibration import auroc, expected_calibration_error
from diptych.evaluation.metrics.intervals import (
    bootstrap,
    bootstrap_of_sums,
    class_mean_interval,
    mean_interval,
    median_interval,
    paired_difference,
)
from diptych.types import Estimate

Rng = np.random.Generator


class Case(NamedTuple):
    """An experiment that can be repeated: its samples come from a law whose number is known."""

    truth: float
    run: Callable[[Rng, int, int], Estimate]  # generator, samples, resamples


def share(p: float) -> Case:
    return Case(p, lambda rng, n, resamples: mean_interval(rng.random(n) < p, rng, resamples=resamples))


def of_captions(rng: Rng, n: int, resamples: int) -> Estimate:
    """One to seven captions of a picture, which are right or wrong nearly together: 0.8 on average."""
    sizes = rng.integers(1, 8, n)
    hits = rng.random(sizes.sum()) < np.repeat(rng.beta(1.6, 0.4, n), sizes)
    return mean_interval(hits, rng, groups=np.repeat(np.arange(n), sizes), resamples=resamples)


def vqa(rng: Rng, n: int, resamples: int) -> Estimate:
    """Soft accuracies as VQA has them: 0, 0.3, 0.6, 0.9 or 1."""
    values = rng.choice([0, 0.3, 0.6, 0.9, 1], n, p=[0.3, 0.1, 0.05, 0.05, 0.5])
    return mean_interval(values, rng, resamples=resamples)


def mean_of(draw: Callable[[Rng, int], np.ndarray], truth: float) -> Case:
    return Case(truth, lambda rng, n, resamples: mean_interval(draw(rng, n), rng, resamples=resamples))


def difference(rng: Rng, n: int, resamples: int) -> Estimate:
    first, second = two_models(rng, n, 0.02, agree=0.9)
    return paired_difference(first, second, rng, resamples=resamples).estimate


def ratio(rng: Rng, n: int, resamples: int) -> Estimate:
    """A mean IoU of three classes over pictures of different sizes; the truth is 0.6, 0.5 and 0.4."""
    union = rng.integers(50, 500, (n, 3))
    shares = rng.beta([6, 5, 4], [4, 5, 6], (n, 3))
    return bootstrap_of_sums(
        lambda sums: (sums[:, :3] / sums[:, 3:]).mean(axis=1),
        np.hstack([union * shares, union]),
        rng,
        resamples=resamples,
    )


def ranking(rng: Rng, n: int, resamples: int) -> Estimate:
    """AUROC of a score that is normal with means 0 and 1: Phi(1 / sqrt 2); a fifth of the samples is positive."""
    positive = rng.random(n) < 0.2
    positive[:2] = [True, False]
    scores = rng.standard_normal(n) + positive
    return bootstrap(lambda i: auroc(scores[i], positive[i]), n, rng, resamples=resamples)


def calibration(rng: Rng, n: int, resamples: int) -> Estimate:
    """ECE of a calibrated model: all of it is bias."""
    sure = rng.random(n)
    right = rng.random(n) < sure
    return bootstrap(lambda i: expected_calibration_error(sure[i], right[i], 10), n, rng, resamples=resamples)


def classes(rng: Rng, n: int, resamples: int) -> Estimate:
    """Ten classes, the rarest a tenth as frequent as the most frequent, 0.7 right in each."""
    kinds = np.concatenate([np.arange(10), rng.choice(10, n - 10, p=np.arange(1, 11) / 55)])
    return class_mean_interval(rng.random(n) < 0.7, kinds, rng, resamples=resamples)


def two_models(rng: Rng, n: int, gap: float, agree: float, level: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Hits of two models that give the same verdict on a share `agree` of the samples; the first is better by `gap`."""
    draw = rng.random(n)
    apart = 1 - agree
    only_first, only_second = draw < (apart + gap) / 2, (draw >= (apart + gap) / 2) & (draw < apart)
    both = (draw >= apart) & (rng.random(n) < level)
    return only_first | both, only_second | both


CASES = {
    "share 0.5": share(0.5),
    "share 0.8": share(0.8),
    "share 0.95": share(0.95),
    "soft VQA accuracy": Case(0.605, vqa),
    "exponential": mean_of(lambda rng, n: rng.exponential(size=n), 1.0),
    "log-normal": mean_of(lambda rng, n: rng.lognormal(size=n), float(np.exp(0.5))),
    "captions of pictures": Case(0.8, of_captions),
    "paired difference": Case(0.02, difference),
    "median": Case(
        float(np.log(2)), lambda rng, n, resamples: median_interval(rng.exponential(size=n), rng, resamples=resamples)
    ),
    "mean over classes": Case(0.7, classes),
    "ratio of sums": Case(0.5, ratio),
    "AUROC": Case(0.76025, ranking),
}


def coverage(case: Case, n: int, repeats: int, resamples: int, seed: int) -> tuple[float, float]:
    """Share of intervals that hold the truth, and their mean width."""
    rng = np.random.default_rng(seed)
    found = [case.run(rng, n, resamples) for _ in range(repeats)]
    return float(np.mean([e.low <= case.truth <= e.high for e in found])), float(
        np.mean([e.high - e.low for e in found])
    )


# 400 repeats give the share a standard error of 1.1 %: a true 95 % lies outside once in 200 cases.
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("log-normal", "median", "AUROC")])
def test_intervals_of_300_samples_cover_95_percent(name: str) -> None:
    assert 0.92 <= coverage(CASES[name], 300, 400, 300, seed=len(name))[0] <= 0.98


@pytest.mark.parametrize(("name", "n"), [("median", 151), ("AUROC", 150)])
def test_intervals_that_take_long_cover_about_95_percent(name: str, n: int) -> None:
    assert 0.91 <= coverage(CASES[name], n, 150, 200, seed=1)[0] <= 0.99


def test_intervals_of_50_samples_never_cover_much_less() -> None:
    for name in ("share 0.5", "share 0.8", "share 0.95", "exponential", "captions of pictures", "paired difference"):
        assert coverage(CASES[name], 50, 400, 300, seed=2)[0] >= 0.92, name


def test_the_interval_of_a_biased_number_is_about_its_value_at_this_size() -> None:
    rng = np.random.default_rng(3)
    found = [calibration(rng, 300, 200) for _ in range(60)]
    assert all(e.low < e.value < e.high for e in found)
    expected = np.mean([e.value for e in found])
    assert 0.04 < expected < 0.07  # of endless samples it would be 0
    assert np.mean([e.low <= expected <= e.high for e in found]) >= 0.88


def test_equal_models_are_called_equal() -> None:
    rng = np.random.default_rng(4)
    found = [paired_difference(*two_models(rng, 1000, 0.0, agree=0.9), rng, resamples=199) for _ in range(600)]
    by_p = np.mean([f.p <= 0.05 for f in found])
    by_interval = np.mean([not f.estimate.low <= 0 <= f.estimate.high for f in found])
    assert 0.025 <= by_p <= 0.075 and 0.025 <= by_interval <= 0.08


def test_two_points_are_found_among_5000_samples() -> None:
    """Models that agree on nine samples of ten: 98 to 100 % of comparisons see a difference of 2 points."""
    rng = np.random.default_rng(5)
    found = [paired_difference(*two_models(rng, 5000, 0.02, agree=0.9), rng, resamples=199) for _ in range(120)]
    assert np.mean([f.p <= 0.05 and f.estimate.low > 0 for f in found]) >= 0.95
    assert np.mean([f.estimate.value for f in found]) == pytest.approx(0.02, abs=0.0015)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_coverage_thoroughly(name: str) -> None:
    """Prints a row of the table; the standard error of a share is 0.5 % (1 % from 1,000 samples on and for AUROC)."""
    sizes = (20, 50, 100, 300, 1000)
    repeats = 500 if name == "AUROC" else 2000
    found = [coverage(CASES[name], n, repeats if n < 1000 else 500, 1000, seed=n)[0] for n in sizes]
    print(f"\n| {name} | " + " | ".join(f"{100 * share:.1f}" for share in found) + " |", flush=True)
    if name != "log-normal":
        assert min(found[2:]) >= 0.925 and max(found[3:]) <= 0.975


@pytest.mark.slow
def test_errors_and_power_of_comparisons_thoroughly() -> None:
    """Prints the table of p <= 0.05."""
    rng = np.random.default_rng(6)
    print("\n| n | models agree on | no difference | 1 point | 2 points | 4 points |\n|---|---|---|---|---|---|")
    for n in (300, 1000, 5000):
        for agree in (0.95, 0.9, 0.58):  # 0.58: two independent models that are right on 0.7 of the samples
            shares = []
            for gap in (0.0, 0.01, 0.02, 0.04):
                found = [paired_difference(*two_models(rng, n, gap, agree), rng, resamples=499).p for _ in range(400)]
                shares.append(float(np.mean(np.array(found) <= 0.05)))
            print(f"| {n} | {agree:.0%} | " + " | ".join(f"{100 * s:.1f} %" for s in shares) + " |", flush=True)
            assert shares[0] <= 0.08
