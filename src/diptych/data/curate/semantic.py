"""Semantic de-duplication: of pictures (or texts) whose embeddings are nearly the same, one is kept.

Abbas et al., "SemDeDup: Data-efficient learning at web-scale through semantic deduplication" (2023): k-means divides
the vectors, and only those of one cluster are compared with each other. That misses pairs that a border runs through,
so a vector also visits the clusters whose centres are almost as near as its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from diptych.types import InputError

ALL_PAIRS = 8192  # up to so many vectors everything is compared with everything
ROUNDS = 6  # of k-means
SAMPLE = 40  # vectors a centre that k-means learns from
LARGE = 4  # a cluster of so many times the mean size is divided again
BORDER = 2.0  # standard deviations, see `_margin`
VISITS = 12  # clusters that a vector visits at most
_BLOCK = 1024  # vectors that are compared at once

Array = np.ndarray[Any, np.dtype[Any]]


class _Clusters(NamedTuple):
    """Each vector's own cluster, and the pairs (vector, other cluster near enough to visit)."""

    home: Array
    visitor: Array
    visited: Array


def semantic_duplicates(
    vectors: Array,
    *,
    threshold: float = 0.95,
    clusters: int | None = None,
    priority: Array | None = None,
    seed: int = 0,
) -> Array:
    """For each of N vectors the kept one that it repeats, or its own index: int64, N.

    Vectors are taken in order of `priority`. In its own cluster one is dropped if a vector kept before it has a cosine
    of `threshold` or more with it; the first such is its owner. What the clusters kept is then compared across their
    borders in the same order. What repeats a vector that falls there goes with it, to the same owner, and may be a
    little less similar to that. With one cluster this is the plain greedy rule.

    Given the clusters, the order of the rows decides nothing but which of equal priorities comes first; where k-means
    begins, and so where borders run, does depend on it.

    Deviation: SemDeDup keeps what is farthest from its cluster's centre, drops what is near anything before it, kept or
    not, and does not look across borders.

    Args:
        vectors: float32, N x D, of length 1; may be mapped from disk.
        threshold: cosine from which two vectors repeat each other, in (0, 1].
        clusters: of k-means; by default 1 up to 8,192 vectors, then 1.5 times the root of N.
        priority: N numbers; larger is kept rather. Row 0 comes first if None.
        seed: decides what k-means begins with.

    Raises:
        InputError: vectors that are not a matrix of rows of length 1, or arguments out of range.
    """
    rows = _checked(vectors)
    if not 0 < threshold <= 1:
        raise InputError(f"threshold: expected a cosine above 0 and up to 1, got {threshold}")
    if clusters is None:
        clusters = 1 if rows <= ALL_PAIRS else round(1.5 * rows**0.5)
    if not 1 <= clusters <= max(rows, 1):
        raise InputError(f"clusters: expected 1 to {rows}, got {clusters}")
    rank = _ranks(priority, rows)
    owner = np.arange(rows)
    if clusters == 1:
        _dedupe_cluster(vectors, np.argsort(rank), threshold, owner)
        return owner
    centres = _centres(vectors, clusters, np.random.default_rng(seed))
    near = _assign(vectors, centres, _margin(threshold, vectors.shape[1]))
    order = np.lexsort((rank, near.home))  # by cluster, and in each in order of priority
    bounds = np.searchsorted(near.home[order], np.arange(len(centres) + 1))
    for first, last in zip(bounds, bounds[1:]):
        _dedupe_cluster(vectors, order[first:last], threshold, owner)
    pairs = _border_pairs(vectors, near, order, bounds, owner, threshold)
    return _dedupe_borders(owner, pairs, rank)


def _dedupe_cluster(vectors: Array, members: Array, threshold: float, owner: Array) -> None:
    """Fill in the owners of one cluster's members, which come in order of priority."""
    kept_rows = np.empty(0, np.int64)
    kept = np.empty((0, vectors.shape[1]), np.float32)
    size = 0
    for start in range(0, len(members), _BLOCK):
        block_rows = members[start : start + _BLOCK]
        block = vectors[block_rows]
        first = np.full(len(block), -1)
        for at in range(0, size, 8 * _BLOCK):  # against what is kept so far, a bounded part at a time
            open_ = np.flatnonzero(first < 0)
            near = _first_near(block[open_] @ kept[at : min(at + 8 * _BLOCK, size)].T, threshold)
            first[open_[near >= 0]] = at + near[near >= 0]
        owner[block_rows[first >= 0]] = kept_rows[first[first >= 0]]
        left, left_rows = block[first < 0], block_rows[first < 0]
        stays = np.ones(len(left), bool)
        later, earlier = np.nonzero(np.tril(left @ left.T >= threshold, -1))
        for j, i in zip(later.tolist(), earlier.tolist()):  # rising in both: the first that is kept owns
            if stays[i] and stays[j]:
                stays[j] = False
                owner[left_rows[j]] = left_rows[i]
        added = int(stays.sum())
        if size + added > len(kept):  # room grows by doubling, but not beyond what the cluster can need
            room = min(max(2 * len(kept), size + added), size + added + len(members) - start)
            kept = np.concatenate([kept[:size], np.empty((room - size, kept.shape[1]), np.float32)])
        kept[size : size + added] = left[stays]
        kept_rows = np.concatenate([kept_rows, left_rows[stays]])
        size += added


def _first_near(similarity: Array, threshold: float) -> Array:
    """For each row of a block of similarities the first column that reaches the threshold, or -1."""
    found = np.full(len(similarity), -1)
    hit = np.flatnonzero(similarity.max(axis=1, initial=-2) >= threshold)
    found[hit] = (similarity[hit] >= threshold).argmax(axis=1)
    return found


def _border_pairs(
    vectors: Array, near: _Clusters, order: Array, bounds: Array, owner: Array, threshold: float
) -> tuple[Array, Array]:
    """Pairs of kept vectors in different clusters, one of which visits the other's, that repeat each other."""
    stays = owner == np.arange(len(owner))
    visiting = np.flatnonzero(stays[near.visitor])
    visiting = visiting[np.argsort(near.visited[visiting], kind="stable")]
    starts = np.searchsorted(near.visited[visiting], np.arange(len(bounds)))
    ones, others = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for cluster in np.flatnonzero(np.diff(starts)).tolist():
        at_home = order[bounds[cluster] : bounds[cluster + 1]]
        at_home = at_home[stays[at_home]]
        guests = near.visitor[visiting[starts[cluster] : starts[cluster + 1]]]
        for start in range(0, len(at_home), 8 * _BLOCK):
            hosts = at_home[start : start + 8 * _BLOCK]
            held = vectors[hosts]
            for at in range(0, len(guests), 4 * _BLOCK):
                part = guests[at : at + 4 * _BLOCK]
                similarity = vectors[part] @ held.T
                hit = np.flatnonzero(similarity.max(axis=1) >= threshold)
                guest, host = np.nonzero(similarity[hit] >= threshold)
                ones.append(part[hit[guest]])
                others.append(hosts[host])
    return np.concatenate(ones), np.concatenate(others)


def _dedupe_borders(owner: Array, pairs: tuple[Array, Array], rank: Array) -> Array:
    """The owners after the greedy rule has been applied to the pairs across borders."""
    one, other = pairs
    swap = rank[one] < rank[other]
    later, earlier = np.where(swap, other, one), np.where(swap, one, other)
    order = np.lexsort((rank[earlier], rank[later]))
    across = np.arange(len(owner))
    for j, i in zip(later[order].tolist(), earlier[order].tolist()):
        if across[i] == i and across[j] == j:
            across[j] = i
    return across[owner]


# ---------------------------------------------------------------- k-means


def _centres(vectors: Array, clusters: int, rng: np.random.Generator) -> Array:
    """Centres of length 1 by spherical k-means on a sample. Clusters that come out large are divided in their turn."""
    rows = len(vectors)
    sample = vectors[np.sort(rng.choice(rows, min(rows, SAMPLE * clusters), replace=False))]
    centres, home = _k_means(sample, clusters, rng)
    sizes = np.bincount(home, minlength=clusters)
    most = LARGE * len(sample) / clusters
    parts = [centres[sizes <= most]]
    for large in np.flatnonzero(sizes > most).tolist():
        inside = sample[home == large]
        parts.append(_k_means(inside, round(len(inside) * clusters / len(sample)), rng)[0])
    return np.concatenate(parts)


def _k_means(sample: Array, clusters: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Centres and each sample's own. A centre that loses all its vectors begins anew at one drawn at random."""
    centres = sample[rng.choice(len(sample), clusters, replace=False)]
    home = np.zeros(len(sample), np.int64)
    for _ in range(ROUNDS):
        for start, block in _blocks(sample, len(centres)):
            home[start : start + len(block)] = (block @ centres.T).argmax(axis=1)
        order = np.argsort(home, kind="stable")
        present, starts = np.unique(home[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0)
        centres = sample[rng.choice(len(sample), clusters, replace=False)]
        centres[present] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return centres, home


def _assign(vectors: Array, centres: Array, margin: float) -> _Clusters:
    """The nearest centre of each vector, and the others within `margin` of it in cosine, `VISITS` at most."""
    home = np.empty(len(vectors), np.int64)
    visitors, visited = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start, block in _blocks(vectors, len(centres)):
        similarity = block @ centres.T
        best = similarity.argmax(axis=1)
        each = np.arange(len(block))
        near = np.flatnonzero(similarity >= similarity[each, best][:, None] - margin)  # far quicker than nonzero
        row, centre = np.divmod(near, len(centres))
        others = centre != best[row]
        row, centre = row[others], centre[others]
        order = np.lexsort((-similarity[row, centre], row))
        row, centre = row[order], centre[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        home[start : start + len(block)] = best
        visitors.append(start + row[place < VISITS])
        visited.append(centre[place < VISITS])
    return _Clusters(home, np.concatenate(visitors), np.concatenate(visited))


def _margin(threshold: float, dims: int) -> float:
    """How much nearer its own centre may be to a vector than a centre that it visits.

    y with cosine t to x is t x + sqrt(1 - t^2) n, where n is some direction at right angles to x. For a random one its
    cosine with a centre has the standard deviation 1 / sqrt(D), so the places of centres in y's order of nearness
    differ from those in x's by that much times sqrt(1 - t^2).
    """
    return float(BORDER * np.sqrt(max(1 - threshold**2, 0.0) / dims))


def _blocks(vectors: Array, columns: int) -> Iterator[tuple[int, Array]]:
    """The rows in parts, each with its start, so that a product with `columns` centres stays below 64 MB."""
    step = max(256, (1 << 24) // max(columns, 1))
    for start in range(0, len(vectors), step):
        yield start, vectors[start : start + step]


# ---------------------------------------------------------------- input


def _checked(vectors: Array) -> int:
    """The number of rows. Raises `InputError` where they are not float32 vectors of length 1."""
    if vectors.ndim != 2 or vectors.dtype != np.float32 or (len(vectors) and not vectors.shape[1]):
        raise InputError(f"vectors: expected float32, N x D, got {vectors.dtype} of shape {vectors.shape}")
    for start, block in _blocks(vectors, vectors.shape[1]):
        lengths = np.einsum("nd,nd->n", block, block)
        bad = np.flatnonzero(~(np.abs(lengths - 1) < 1e-2))  # so written, NaN is bad too
        if len(bad):
            raise InputError(
                f"vectors: expected rows of length 1; row {start + bad[0]} has {lengths[bad[0]] ** 0.5:.3g}"
            )
    return len(vectors)


def _ranks(priority: Array | None, rows: int) -> Array:
    """Each row's place in the order in which rows are taken."""
    if priority is None:
        return np.arange(rows)
    values = np.asarray(priority, np.float64)
    if values.shape != (rows,) or np.isnan(values).any():
        raise InputError(f"priority: expected {rows} numbers, one a vector, got shape {values.shape}")
    rank = np.empty(rows, np.int64)
    rank[np.argsort(-values, kind="stable")] = np.arange(rows)
    return rank
