"""How sure a number is: bootstrap intervals over samples, and paired comparison of two models on the same samples.

Intervals are BCa (Efron, "Better Bootstrap Confidence Intervals", 1987: the percentiles are moved for the bias and the
skew of the statistic), and their tails are widened as Student's t widens them (Hesterberg 2015, section 3.3). Plain
percentiles cover too little for skewed values and for few samples. Values that belong to one sample (five captions of
one picture) are not independent: `groups` names the sample of each value, and whole samples are drawn.

Coverage of the nominal 95 %, simulated (tests/evaluation/metrics/test_interval_coverage.py): 93 to 98 % from 50
samples on, for shares between 0.2 and 0.8, soft accuracies, values as skewed as an exponential, values in groups,
medians and paired hits; 93 to 99.5 % at 20 samples. Outside of that:

- shares within some 5 samples of 0 or 1 are covered by more, up to 99.9 %;
- values with a very heavy tail (log-normal, sigma 1) by less: 91 % at 20 samples, 92 at 50, 93 at 100 and at 1,000;
- means over classes by less where classes are small: 88 % at 2 samples a class, 93 at 5, 93.5 at 10 and 30;
- differences that are drawn, where fewer than ten samples differ at all, by less: 90 % at 5 such samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from diptych.types import Estimate, InputError

RESAMPLES = 2000
TAIL = 0.025  # on each side of a 95 % interval
ROUNDING = 1e-6  # a share so close to 0 or 1 is at this end: COCO's BLEU of perfect captions is 1 - 1e-10
_DRAWS_AT_ONCE = 1 << 20  # random numbers held in memory at a time
_BLOCKS = 100  # of samples, left out one after the other to learn how skewed a statistic is

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
    largest: float | None = 1.0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean with its 95 % bootstrap interval.

    If all values are alike, every resample is the same and the bootstrap would claim certainty. Then the ends are where
    the mean would be if as many samples had another value, the smallest or the largest there can be, as the exact
    binomial bound (Clopper and Pearson, 1934) allows.

    Args:
        values: Q numbers, e.g. 1 for a hit and 0 for a miss.
        groups: Q sample names or numbers; values of the same sample are drawn together. Default: each is its own.
        largest: values lie between 0 and this; None where there are no such bounds, and then nothing is known (NaN)
            of the interval if all values are alike.
    """
    numbers, members = _checked(values, groups)
    low, high = _mean_bounds(numbers, members, rng, resamples)
    samples = int(members.max()) + 1
    if np.all(numbers == numbers[0]):
        others = 1 - TAIL ** (1 / samples)  # the largest share of samples with another value that may have been missed
        value, most = float(numbers[0]), float("nan") if largest is None else largest
        high = value + others * (most - value)
        low = high if largest is None else value - others * value
    return Estimate(float(numbers.mean()), low, high, len(numbers), chance)


def median_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    chance: float | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The median (of an even number: the mean of the two middle values) with its 95 % percentile bootstrap interval.

    Plain percentiles: the median has no skew that leaving samples out could show. Arguments as in `mean_interval`.
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
    low, high = np.quantile(medians, [TAIL, 1 - TAIL])
    return Estimate(float(np.median(numbers)), float(low), float(high), len(numbers), chance)


def share(estimate: Estimate, samples: int | None = None) -> Estimate:
    """A number from 0 to 1 that is no mean (BLEU, mean IoU, AP), with an interval that is never certainty.

    Where all samples are perfect, or all worthless, every resample is the same. The exact binomial bound stands in for
    the bootstrap then, as in `mean_interval` and as if each sample were right or wrong as a whole. Where all resamples
    are the same in between, nothing is known of the interval, and its ends are NaN. No end lies beyond 0 or 1.

    Args:
        samples: how many samples the number rests on, if not `n`.
    """
    low, high = max(estimate.low, 0.0), min(estimate.high, 1.0)
    edge = TAIL ** (1 / (samples or estimate.n))
    if low > 1 - ROUNDING:
        low = edge
    elif high < ROUNDING:
        high = 1 - edge
    elif low == high:
        low = high = float("nan")
    return estimate._replace(low=low, high=high)


def share_interval(
    values: ArrayLike, rng: np.random.Generator, groups: ArrayLike, *, chance: float | None = None
) -> Estimate:
    """`mean_interval` of numbers from 0 to 1 in groups; of questions about one picture alone nothing is known: NaN."""
    return share(mean_interval(values, rng, groups=groups, chance=chance), len(np.unique(groups)))


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
    drawn = balanced(rng.multinomial(len(numbers), table / len(numbers), size=resamples))
    value = float(balanced(table[None])[0])
    low, high = np.quantile(drawn, [TAIL, 1 - TAIL])
    return share(Estimate(value, float(low), float(high), len(numbers), chance))


def bootstrap(
    statistic: Callable[[Ints], float],
    samples: int,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    chance: float | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Any number that is computed from samples (corpus BLEU, AUROC, ECE), with its 95 % bootstrap interval.

    `bootstrap_of_sums` is much faster where the number is computed from sums over the samples.

    Args:
        statistic: the number on the samples of the given positions, repetitions included. It is called about
            `resamples + 100` times. A resample for which it is NaN (AUROC without positives) does not count.
        samples: how many samples there are.
        groups: as in `mean_interval`.

    Raises:
        InputError: no sample, or the statistic of all samples, or of nearly all resamples, is not a finite number.
    """
    _, members = _checked(np.zeros(samples), groups)
    owners = int(members.max()) + 1
    order = np.argsort(members, kind="stable")
    of_group = np.split(order, np.cumsum(np.bincount(members))[:-1]) if groups is not None else None

    def at(drawn: Ints) -> float:
        return float(statistic(drawn if of_group is None else np.concatenate([of_group[g] for g in drawn])))

    value = at(np.arange(owners))
    drawn = np.array([at(row) for rows in _draws(owners, owners, rng, resamples) for row in rows])
    kept = left_out_weights(owners, rng) if owners > 1 else np.ones((1, 1))
    left_out = np.array([at(np.flatnonzero(row)) for row in kept])
    low, high = bca_bounds(value, drawn, left_out, owners)
    return Estimate(value, low, high, samples, chance)


def bootstrap_of_sums(
    statistic: Callable[[Floats], Floats],
    counts: ArrayLike,
    rng: np.random.Generator,
    *,
    chance: float | None = None,
    resamples: int = RESAMPLES,
) -> Estimate:
    """A number that is computed from sums over samples (mean IoU, panoptic quality, F1), with its bootstrap interval.

    The difference of two models is such a number too: put their counts side by side.

    Args:
        statistic: R x F sums to R numbers; it sees all resamples in one call.
        counts: N x F, what each sample adds to the sums.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise InputError(f"counts: expected a row of finite numbers for each sample, got shape {table.shape}")
    total = table.sum(axis=0, keepdims=True)
    value = float(statistic(total)[0])
    left_out = statistic(total - table) if len(table) > 1 else np.array([value])
    low, high = bca_bounds(value, statistic(_drawn_sums(table, rng, resamples)), left_out, len(table))
    return Estimate(value, low, high, len(table), chance)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    *,
    groups: ArrayLike | None = None,
    resamples: int = RESAMPLES,
) -> Difference:
    """The mean of `first - second` with its 95 % interval, and the p-value of a sign-flip test.

    The interval is the bootstrap's. Only for hits and misses, one per sample, it is that of Agresti and Min (2005): two
    models that agree on nearly every sample leave too little to draw from.

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
    sums = np.bincount(members, weights=gaps)
    if len(sums) == len(gaps) and np.isin(one, (0.0, 1.0)).all() and np.isin(two, (0.0, 1.0)).all():
        low, high = _paired_hits_bounds(gaps)
    else:
        low, high = _mean_bounds(gaps, members, rng, resamples)
    sums = sums[sums != 0]  # a coin for a zero changes nothing
    flips = np.concatenate([(2 * coins - 1) @ sums for coins in _draws(2, len(sums), rng, resamples)])
    as_far = np.abs(flips) >= abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    return Difference(
        Estimate(float(gaps.mean()), low, high, len(gaps), 0.0), float((1 + as_far.sum()) / (resamples + 1))
    )


def paired_difference_of_sums(
    statistic: Callable[[Floats], Floats],
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Difference:
    """`first - second` of a number that is computed from sums over samples (BLEU, mean IoU), with interval and p-value.

    The interval draws samples, the same for both models. p is Fisher's randomisation test: if neither model is better,
    a fair coin may swap what the two add for each sample; p is the share of tosses, the observed one among them, whose
    difference is as far from 0.

    Args:
        statistic: as in `bootstrap_of_sums`.
        first, second: N x F, what the same N samples add to the sums.
    """
    one, two = (np.asarray(counts, dtype=np.float64) for counts in (first, second))
    if one.shape != two.shape:
        raise InputError(
            f"paired difference: counts of shape {one.shape} against {two.shape}; expected the same samples"
        )

    def gap(sums: Floats) -> Floats:
        mine, yours = np.split(sums, 2, axis=1)
        return statistic(mine) - statistic(yours)

    estimate = bootstrap_of_sums(gap, np.hstack([one, two]), rng, chance=0.0, resamples=resamples)
    total = one.sum(axis=0) + two.sum(axis=0)
    mine = np.concatenate(
        [two.sum(axis=0) + coins.astype(np.float64) @ (one - two) for coins in _draws(2, len(one), rng, resamples)]
    )
    as_far = np.abs(gap(np.hstack([mine, total - mine]))) >= abs(estimate.value) - 1e-12
    return Difference(estimate, float((1 + as_far.sum()) / (resamples + 1)))


def resampled_weights(samples: int, rng: np.random.Generator, resamples: int) -> Iterator[Ints]:
    """How often each sample is drawn in each resample: R x N in all, a bounded number of rows at a time."""
    for drawn in _draws(samples, samples, rng, resamples):
        cells = drawn + np.arange(len(drawn))[:, None] * samples
        yield np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape)


def left_out_weights(samples: int, rng: np.random.Generator) -> Ints:
    """B x N; 0 for the samples of one of up to 100 random blocks, 1 for the others."""
    blocks = np.arange(samples) % min(samples, _BLOCKS)
    left_out = np.arange(min(samples, _BLOCKS))[:, None] == rng.permutation(blocks)
    return np.where(left_out, 0, 1)


def bca_bounds(value: float, drawn: Floats, left_out: Floats, samples: int) -> tuple[float, float]:
    """The 95 % interval of `value`: BCa, with tails as wide as Student's t has them.

    Some numbers are biased: on few samples ECE and average precision come out too high, and on resamples higher still.
    The resamples are then moved back to `value`: the interval tells where the number lies on other samples of this
    size, its bias included, and not where it would lie on endless ones.

    Args:
        drawn: the number on each resample; NaN does not count.
        left_out: the number with each sample, or each block of samples, left out.
        samples: how many samples there are.

    Raises:
        InputError: `value` or nearly all of `drawn` is not a finite number.
    """
    drawn, left_out = drawn[np.isfinite(drawn)], left_out[np.isfinite(left_out)]
    if not np.isfinite(value) or len(drawn) < 2:
        raise InputError("interval: the statistic is not a finite number, for all samples or for every resample")
    shift = drawn.mean() - value
    if abs(shift) > 3 * drawn.std() / np.sqrt(len(drawn)):  # more than chance: the number is biased
        drawn = drawn - shift
    same = np.abs(drawn - value) <= 1e-12 * max(abs(value), float(np.abs(drawn).max()))  # but for rounding
    drawn = np.where(same, value, drawn)
    below = np.mean(np.where(same, 0.5, drawn < value))
    bias = ndtri(np.clip(below, 1 / (len(drawn) + 1), len(drawn) / (len(drawn) + 1)))
    gaps = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = np.sum(gaps**2)
    skew = np.sum(gaps**3) / (6 * spread**1.5) if spread > 0 else 0.0
    reach = np.sqrt(samples / (samples - 1)) * stdtrit(samples - 1, 1 - TAIL) if samples > 1 else -ndtri(TAIL)
    moved = bias + np.array([-reach, reach])
    low, high = np.quantile(drawn, ndtr(bias + moved / np.maximum(1 - skew * moved, 0.1)))
    return float(low), float(high)


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
    table = np.stack([np.bincount(members, weights=numbers), np.bincount(members) * 1.0], axis=1)  # sum and size
    drawn = _drawn_sums(table, rng, resamples)
    left_out = table.sum(axis=0) - table if len(table) > 1 else table
    value = numbers.sum() / len(numbers)
    return bca_bounds(value, drawn[:, 0] / drawn[:, 1], left_out[:, 0] / left_out[:, 1], len(table))


def _paired_hits_bounds(gaps: Floats) -> tuple[float, float]:
    """Agresti and Min 2005: the normal interval after half a sample more of each outcome of the two models."""
    samples, won = len(gaps) + 2, gaps.sum()
    middle = won / samples
    reach = -ndtri(TAIL) * np.sqrt(np.abs(gaps).sum() + 1 - won**2 / samples) / samples
    return float(max(middle - reach, -1.0)), float(min(middle + reach, 1.0))


def _drawn_sums(table: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """R x F; the sums of as many rows of the N x F table as it has, drawn with replacement."""
    if table.shape[1] <= 2:
        # Hits and misses, or a few scores, are few different rows: draw how often each comes. Same law, fewer draws.
        kinds, copies = np.unique(table, axis=0, return_counts=True)
        if 8 * len(kinds) < len(table):
            sums: Floats = rng.multinomial(len(table), copies / len(table), size=resamples) @ kinds
            return sums
    return np.concatenate([times.astype(np.float64) @ table for times in resampled_weights(len(table), rng, resamples)])


def _draws(below: int, width: int, rng: np.random.Generator, rows: int) -> Iterator[Ints]:
    """Random integers in [0, below): `rows` rows of `width`, a bounded number of rows at a time."""
    step = max(1, _DRAWS_AT_ONCE // max(width, 1))
    for start in range(0, rows, step):
        yield rng.integers(0, below, size=(min(step, rows - start), width))
