"""How sure a number is: percentile bootstrap over samples, and paired comparison of two models on the same samples.

Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979). Values that belong to one sample (five captions of
one picture) are not independent: `groups` names the sample of each value, and whole samples are drawn. One resample
costs O(samples); memory is bounded whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.types import Estimate, InputError

RESAMPLES = 2000
TAIL = 0.025  # on each side of a 95 % interval
_DRAWS_AT_ONCE = 1 << 20  # random numbers held in memory at a time

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Difference(NamedTuple):
    """`first - second` on the same samples, and the two-sided p-value of "there is no difference"."""

    estimate: Estimate
    p: float


def mean_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    chance: float | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean with its 95 % bootstrap interval.

    If all values are 0, or all are 1, every resample is the same and the bootstrap would claim certainty; the exact
    binomial bound over the samples (Clopper and Pearson, 1934) stands in for it then.

    Args:
        values: Q numbers, e.g. 1 for a hit and 0 for a miss.
        groups: Q sample names or numbers; values of the same sample are drawn together. Default: each is its own.
    """
    numbers, members = _checked(values, groups)
    low, high = _mean_bounds(numbers, members, rng, resamples)
    samples = int(members.max()) + 1
    if np.all(numbers == 1.0):
        low = TAIL ** (1 / samples)
    elif np.all(numbers == 0.0):
        high = 1 - TAIL ** (1 / samples)
    return Estimate(float(numbers.mean()), low, high, len(numbers), chance)


def median_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    chance: float | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The median (of an even number: the mean of the two middle values) with its 95 % bootstrap interval.

    Arguments as in `mean_interval`.
    """
    numbers, members = _checked(values, groups)
    order = np.argsort(numbers, kind="stable")
    ordered, member_of = numbers[order], members[order]
    samples = int(members.max()) + 1
    medians = []
    for drawn in _draws(samples, samples, rng, resamples):
        for row in drawn:
            seen = np.cumsum(np.bincount(row, minlength=samples)[member_of])  # copies of each value and all below it
            middle = np.searchsorted(seen, [(seen[-1] - 1) // 2, seen[-1] // 2], side="right")
            medians.append(ordered[middle].mean())
    low, high = _percentiles(np.array(medians))
    return Estimate(float(np.median(numbers)), low, high, len(numbers), chance)


def class_mean_interval(
    hits: ArrayLike,
    classes: ArrayLike,
    rng: np.random.Generator,
    *,
    chance: float | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean over classes of each class's share of hits (balanced accuracy), with its 95 % bootstrap interval.

    Args:
        hits: Q values, 0 or 1.
        classes: Q class names or numbers. A class without samples, in the data or in a resample, does not count.
    """
    numbers, members = _checked(hits, classes)
    if not np.isin(numbers, (0.0, 1.0)).all():
        raise InputError("hits: expected 0 or 1 for every sample")
    table = np.bincount(members * 2 + numbers.astype(np.int64), minlength=2 * (int(members.max()) + 1))

    def balanced(tables: Ints) -> Floats:
        misses_and_hits = tables.reshape(len(tables), -1, 2)
        sizes = misses_and_hits.sum(axis=2)
        accuracy = misses_and_hits[:, :, 1] / np.maximum(sizes, 1)
        result: Floats = accuracy.sum(axis=1) / (sizes > 0).sum(axis=1)
        return result

    # To draw samples with replacement is to draw their (class, hit) cells from one multinomial: same law, fewer draws.
    low, high = _percentiles(balanced(rng.multinomial(len(numbers), table / len(numbers), size=resamples)))
    return Estimate(float(balanced(table[None])[0]), low, high, len(numbers), chance)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
) -> Difference:
    """The mean of `first - second` with its bootstrap interval, and the p-value of a sign-flip test.

    If neither model is better, the sign of each sample's difference is a fair coin (Fisher's randomisation test): p is
    the share of tosses, the observed one among them, whose mean is as far from 0. It is at least 1 / (resamples + 1).

    Args:
        first, second: Q numbers of the same Q samples, in the same order.
        groups: as in `mean_interval`.
    """
    one, members = _checked(first, groups)
    two, _ = _checked(second, groups)
    if one.shape != two.shape:
        raise InputError(f"paired difference: {len(one)} values against {len(two)}; expected the same samples")
    gaps = one - two
    low, high = _mean_bounds(gaps, members, rng, resamples)
    sums = np.bincount(members, weights=gaps)
    sums = sums[sums != 0]  # a coin for a zero changes nothing
    flips = np.concatenate([(2 * coins - 1) @ sums for coins in _draws(2, len(sums), rng, resamples)])
    as_far = np.abs(flips) >= abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    return Difference(
        Estimate(float(gaps.mean()), low, high, len(gaps), 0.0), float((1 + as_far.sum()) / (resamples + 1))
    )


def _checked(values: ArrayLike, groups: ArrayLike | None) -> tuple[Floats, Ints]:
    """Values as float64, and for each the number of its sample: 0, 1, ... without holes."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0 or not np.isfinite(numbers).all():
        raise InputError(f"values: expected a row of one or more finite numbers, got shape {numbers.shape}")
    if groups is None:
        return numbers, np.arange(numbers.size)
    names = np.asarray(groups)
    if names.shape != numbers.shape:
        raise InputError(f"groups: expected one per value, {numbers.size}, got shape {names.shape}")
    return numbers, np.unique(names, return_inverse=True)[1].astype(np.int64)


def _mean_bounds(numbers: Floats, members: Ints, rng: np.random.Generator, resamples: int) -> tuple[float, float]:
    sums = np.bincount(members, weights=numbers)
    sizes = np.bincount(members).astype(np.float64)
    means = [sums[i].sum(axis=1) / sizes[i].sum(axis=1) for i in _draws(len(sums), len(sums), rng, resamples)]
    return _percentiles(np.concatenate(means))


def _draws(below: int, width: int, rng: np.random.Generator, rows: int) -> Iterator[Ints]:
    """Random integers in [0, below): `rows` rows of `width`, a bounded number of rows at a time."""
    step = max(1, _DRAWS_AT_ONCE // max(width, 1))
    for start in range(0, rows, step):
        yield rng.integers(0, below, size=(min(step, rows - start), width))


def _percentiles(drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, [TAIL, 1 - TAIL])
    return float(low), float(high)
