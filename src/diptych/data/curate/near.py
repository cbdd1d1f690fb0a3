"""Near-duplicates among millions of pictures: hashes at most 3 of 64 bits apart, thumbnails that hardly differ.

No candidate is missed, and all are found by sorting. Hashes that differ in at most 3 bits agree in one of four bands of
16 bits, which run diagonally, so that a white border fills no band. And as thumbnails differ by S in sum, neither their
totals nor their tilts (upper half less lower half) differ by more than S. So for each band the pictures are sorted by
(band, tilt in steps, total), and what may be near to a picture stands in three short stretches.

Time: some sorts, and a constant for each candidate among the pictures kept before it. Any number of copies of one
picture is cheap, for they are compared with the first alone. What grows with the square is a crowd of pictures that
agree in a band, total and tilt and are yet so far apart that all are kept. Memory: some 600 bytes a picture besides
the thumbnails, whatever the crowds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from diptych.data.curate.steps import Array

THUMBNAIL = 8 * 8 * 3
_BANDS = 4
MAX_BITS = _BANDS - 1
_AT_ONCE = 1 << 18  # candidate pairs that are filtered together
_COMPARED = 1 << 13  # pairs whose thumbnails are compared together
_MOST_PAIRS = 1 << 24  # candidate pairs up to which pictures are compared without dividing them
_MOST_ROWS = 1 << 20


class Looks(NamedTuple):
    """What N pictures are compared by.

    Attributes:
        bits: difference hashes with their bits in the order of the bands, uint64 N.
        thumbnails: uint8 N x 192.
        quarters: of each channel the sum over each quarter of the thumbnail, int16 N x 12. Two pictures differ at
            least as much in their thumbnails as in these.
        totals: sums of the thumbnails, int64 N, 0 to 48,960.
        tilts: upper half less lower half, int64 N, from 0 on.
    """

    bits: Array
    thumbnails: Array
    quarters: Array
    totals: Array
    tilts: Array


def looks_of(bits: Array, thumbnails: Array) -> Looks:
    """From difference hashes (uint64 N) and thumbnails (uint8 N x 192)."""
    rows, columns = np.divmod(np.arange(64), 8)
    by_band = np.argsort((rows + columns) % _BANDS, kind="stable")
    turned = np.empty_like(bits)
    for start in range(0, len(bits), _AT_ONCE):
        apart = np.unpackbits(bits[start : start + _AT_ONCE, None].view(np.uint8), axis=1)
        turned[start : start + _AT_ONCE] = np.packbits(apart.take(by_band, axis=1), axis=1).view(np.uint64)[:, 0]
    parts = thumbnails.reshape(-1, 2, 4, 2, 4, 3)
    quarters = parts.sum(axis=(2, 4), dtype=np.int16).reshape(-1, 12)
    upper, lower = (half.sum(axis=1, dtype=np.int64) for half in np.split(quarters, 2, axis=1))
    return Looks(turned, thumbnails, quarters, upper + lower, upper - lower + THUMBNAIL // 2 * 255)


def greedy_owners(looks: Looks, order: Array, difference: float) -> Array:
    """For each picture in `order` the one that it repeats, or itself: a picture is compared with those kept before it.

    Of several kept ones that are near it repeats that with the nearest thumbnail, and of equally near ones the first by
    its index.

    Args:
        order: indices into `looks`, each once.
        difference: that thumbnails may have, mean over pixels and channels, 0 to 255.
    """
    kept = _kept(looks, order, difference)
    place = np.empty(len(looks.bits), np.int64)
    place[order] = np.arange(len(order))
    keepers, others = order[kept], order[~kept]
    best = np.full(len(others), np.iinfo(np.int64).max)
    for one, other, apart in near_pairs(looks, keepers, looks, others, difference):
        earlier = place[keepers[other]] < place[others[one]]
        np.minimum.at(best, one[earlier], (apart[earlier] << 40) | keepers[other[earlier]])
    owners = order.copy()
    owners[~kept] = best & ((1 << 40) - 1)
    return owners


def _kept(looks: Looks, order: Array, difference: float) -> Array:
    """Which pictures in `order` are near to none that is kept before them: booleans."""
    windows = _windows(looks, order, looks, order, _reach(difference)) if len(order) <= _MOST_ROWS else None
    if windows is None or sum(int(window.sizes.sum()) for window in windows) > _MOST_PAIRS:
        # What the first half keeps drops most of a crowd in the second, before its members are compared with each other
        first, second = np.split(order, [len(order) // 2])
        left = _kept(looks, first, difference)
        right = np.ones(len(second), bool)
        for one, _, _ in near_pairs(looks, first[left], looks, second, difference):
            right[one] = False
        right[right] = _kept(looks, second[right], difference)
        return np.concatenate([left, right])
    found = [(one, other) for one, other, _ in _near(looks, order, looks, order, windows, difference, True)]
    kept = [True] * len(order)
    if found:
        later, earlier = (np.concatenate(part) for part in zip(*found))
        by_place = np.argsort(later, kind="stable")
        for one, other in zip(later[by_place].tolist(), earlier[by_place].tolist()):
            if kept[other]:  # all pairs of `other` with earlier ones have been seen: this is final
                kept[one] = False
    return np.array(kept, bool)


def near_pairs(
    seen: Looks, of_seen: Array, asked: Looks, of_asked: Array, difference: float
) -> Iterator[tuple[Array, Array, Array]]:
    """All near pairs of two sets, each once, in parts: (places in `of_asked`, in `of_seen`, S of the thumbnails)."""
    for start in range(0, len(of_asked), _MOST_ROWS):
        part = of_asked[start : start + _MOST_ROWS]
        windows = _windows(seen, of_seen, asked, part, _reach(difference))
        for one, other, apart in _near(seen, of_seen, asked, part, windows, difference):
            yield one + start, other, apart


def _reach(difference: float) -> int:
    return int(difference * THUMBNAIL) + 1


class _Window(NamedTuple):
    """Candidates by one band: asked[i] may be near seen[begin[i]:begin[i] + sizes[i]], both places in sorted order."""

    band: int
    asked: Array
    seen: Array
    begin: Array
    sizes: Array


def _windows(seen: Looks, of_seen: Array, asked: Looks, of_asked: Array, reach: int) -> list[_Window]:
    """Where the candidates stand: in each band in the own step of tilts and in those below and above it."""
    windows = []
    for band in range(_BANDS):
        keys = _keys(seen, of_seen, band, reach) + seen.totals[of_seen]
        by_key = np.argsort(keys)
        keys = keys[by_key]
        own = _keys(asked, of_asked, band, reach)
        by_own = np.argsort(own + asked.totals[of_asked])  # what is sought in order is found in the processor's cache
        own, total = own[by_own], asked.totals[of_asked][by_own]
        low, high = np.maximum(total - reach, 0), np.minimum(total + reach, 0xFFFF)
        for step in (-1, 0, 1):
            begin = np.searchsorted(keys, own + (step << 16) + low, "left")
            end = np.searchsorted(keys, own + (step << 16) + high, "right")
            some = end > begin
            windows.append(_Window(band, by_own[some], by_key, begin[some], (end - begin)[some]))
    return windows


def _keys(looks: Looks, rows: Array, band: int, reach: int) -> Array:
    """The band's 16 bits, then 16 bits for the step of the tilt, then room for the total."""
    value = (looks.bits[rows] >> np.uint64(16 * band)) & np.uint64(0xFFFF)
    return (value.astype(np.int64) << 32) | (looks.tilts[rows] // reach << 16)


def _near(
    seen: Looks,
    of_seen: Array,
    asked: Looks,
    of_asked: Array,
    windows: list[_Window],
    difference: float,
    earlier: bool = False,
) -> Iterator[tuple[Array, Array, Array]]:
    """The near pairs of the candidates; with `earlier` only those whose `other` stands before `one`."""
    for window in windows:
        for one, other in _listed(window):
            if earlier:
                before = other < one
                one, other = one[before], other[before]
            differing = asked.bits[of_asked[one]] ^ seen.bits[of_seen[other]]
            close = np.bitwise_count(differing) <= MAX_BITS
            for band in range(window.band):  # such pairs have come before
                close &= (differing >> np.uint64(16 * band)) & np.uint64(0xFFFF) != 0
            one, other = one[close], other[close]
            for start in range(0, len(one), _COMPARED):
                a, b = of_asked[one[start : start + _COMPARED]], of_seen[other[start : start + _COMPARED]]
                rough = np.abs(asked.quarters[a] - seen.quarters[b]).sum(axis=1, dtype=np.int64)
                alike = np.flatnonzero(rough / THUMBNAIL <= difference)
                x, y = asked.thumbnails[a[alike]], seen.thumbnails[b[alike]]
                apart = (np.maximum(x, y) - np.minimum(x, y)).sum(axis=1, dtype=np.int64)
                good = np.flatnonzero(apart / THUMBNAIL <= difference)
                yield one[start + alike[good]], other[start + alike[good]], apart[good]


def _listed(window: _Window) -> Iterator[tuple[Array, Array]]:
    """The candidate pairs (asked, seen), some at a time; one picture's are never divided."""
    ends = np.cumsum(window.sizes)
    total = int(ends[-1]) if len(ends) else 0
    cuts: Any = np.unique(np.searchsorted(ends, np.arange(0, total, _AT_ONCE), side="right")).tolist()
    for first, last in zip(cuts, [*cuts[1:], len(ends)]):
        sizes = window.sizes[first:last]
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        other = window.seen[np.repeat(window.begin[first:last], sizes) + within]
        yield np.repeat(window.asked[first:last], sizes), other
