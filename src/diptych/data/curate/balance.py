"""Balancing over concepts: what everybody photographs is thinned, what is rare is kept.

Xu et al., "Demystifying CLIP Data" (MetaCLIP, 2023), Algorithm 1, part 2: an entry that matches `count` examples draws
each of them with probability min(1, limit / count), and an example is kept if any of its entries draws it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from diptych.types import InputError

TAIL_SHARE = 0.06
"""Share of matches that are the tail's; MetaCLIP keeps it when it moves its limit to larger pools."""

_AT_ONCE = 1 << 17  # pairs that are drawn together: their numbers stay in the cache of a core
_ROW, _ENTRY = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

Array = np.ndarray[Any, np.dtype[Any]]


class Tail(NamedTuple):
    """How a limit divides the entries that match anything.

    Attributes:
        limit: examples that an entry may draw, on average.
        entries: that match anything.
        head: of these, entries with more matches than the limit; they are thinned.
        matches: (example, entry) pairs.
        share: part of the pairs whose entry is not of the head, 0 to 1.
        share_after: the same among the pairs that are drawn, on average.
    """

    limit: int
    entries: int
    head: int
    matches: int
    share: float
    share_after: float


def balance(
    row_offsets: Array,
    entry_ids: Array,
    limit: int,
    seed: int = 0,
    *,
    counts: Array | None = None,
    keys: Array | None = None,
) -> Array:
    """Which of N examples are kept: a boolean mask. One without entries is not.

    Each (example, entry) pair draws by a hash of (seed, key, entry) of its own, so the outcome for an example does not
    depend on where it stands or on what else there is, but for the counts.

    Args:
        row_offsets, entry_ids: the entries of each example, as `concepts.Matches` holds them, each entry once.
        limit: `t` of the paper, 1 or more; see `limit_for`.
        counts: matches of each entry in the whole pool, where this is a part of it; else they are counted here.
        keys: N whole numbers that name the examples; their positions if None.

    Raises:
        InputError: a limit below 1, or arrays that do not fit each other.
    """
    if limit < 1:
        raise InputError(f"limit: expected 1 or more examples for an entry, got {limit}")
    offsets = np.asarray(row_offsets, np.int64)
    rows = len(offsets) - 1
    if rows < 0 or offsets[0] != 0 or offsets[-1] != len(entry_ids):
        raise InputError("row_offsets: expected to begin with 0 and to end with the number of entry_ids")
    if keys is not None and len(keys) != rows:
        raise InputError(f"keys: expected one for each of {rows} examples, got {len(keys)}")
    bound = _bounds(entry_counts(entry_ids) if counts is None else np.asarray(counts), limit)
    if len(entry_ids) and int(np.max(entry_ids)) >= len(bound):
        raise InputError(f"counts: expected one for each entry, got {len(bound)}")
    start_of = _mixed(np.uint64(seed % (1 << 64)) + _ROW)
    keep = np.zeros(rows, bool)
    edges = np.unique(np.searchsorted(offsets, np.arange(0, len(entry_ids), _AT_ONCE), side="right") - 1).tolist()
    for first, last in zip(edges, [*edges[1:], rows]):
        begin, end = offsets[first], offsets[last]
        names = np.arange(first, last) if keys is None else np.asarray(keys[first:last])
        of_row = _mixed(names.astype(np.uint64) * _ROW + start_of)
        entry = np.asarray(entry_ids[begin:end])
        lengths = np.diff(offsets[first : last + 1])
        draw = _mixed(np.repeat(of_row, lengths) + entry.astype(np.uint64) * _ENTRY)
        drawn = draw <= bound[entry]
        some = np.flatnonzero(lengths)
        if len(some):
            keep[first + some] = np.logical_or.reduceat(drawn, offsets[first + some] - begin)
    return keep


def entry_counts(entry_ids: Array) -> Array:
    """How many examples each entry matches, int64, by entry number. Counts of parts of a pool may be added up."""
    size = int(np.max(entry_ids)) + 1 if len(entry_ids) else 0
    counts = np.zeros(size, np.int64)
    for start in range(0, len(entry_ids), 1 << 20):  # bincount makes a wide copy of what it counts
        counts += np.bincount(entry_ids[start : start + (1 << 20)], minlength=size)
    return counts


def tail(counts: Array, limit: int) -> Tail:
    """What `limit` does to a pool with these counts."""
    counts = np.asarray(counts)[np.asarray(counts) > 0]
    matches, below = int(counts.sum()), int(counts[counts <= limit].sum())
    after = int(np.minimum(counts, limit).sum())
    head = int((counts > limit).sum())
    return Tail(limit, len(counts), head, matches, below / max(matches, 1), below / max(after, 1))


def limit_for(counts: Array, share: float = TAIL_SHARE) -> int:
    """The least limit at which entries with at most so many matches hold `share` of all matches, 0 to 1.

    Section 3.3 of the paper: 20,000 for 400 million pairs leaves 6 % of the matches to the tail, and larger pools get
    the limit that leaves them the same share.

    Raises:
        InputError: a share outside (0, 1], or counts without a match.
    """
    counts = np.sort(np.asarray(counts)[np.asarray(counts) > 0])
    if not 0 < share <= 1 or not len(counts):
        raise InputError(f"tail share: expected a number above 0 and up to 1 and at least one match, got {share}")
    reached = np.searchsorted(np.cumsum(counts), share * counts.sum())
    return int(counts[min(int(reached), len(counts) - 1)])


def _bounds(counts: Array, limit: int) -> Array:
    """The largest hash, of 64 bits, with which each entry draws."""
    probability = np.minimum(1.0, limit / np.maximum(counts, 1))
    full = np.uint64((1 << 64) - 1)
    bound = np.where(probability < 1, probability, 0.0) * 2.0**64
    return np.where(probability < 1, bound.astype(np.uint64), full)


def _mixed(state: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the input moves all of the output."""
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * _MIX_1
        state = (state ^ (state >> np.uint64(27))) * _MIX_2
        return state ^ (state >> np.uint64(31))
