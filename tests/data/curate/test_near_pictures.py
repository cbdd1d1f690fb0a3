"""Near-duplicates found by sorting are those that a loop over all pictures finds, in crowds as well."""

import time

import numpy as np
import pyarrow as pa
import pytest

from diptych.data.curate import near
from diptych.data.curate.duplicates import find_duplicates
from diptych.data.curate.leakage import Fingerprints, nearest

Array = np.ndarray


def one_by_one(bits: Array, thumbnails: Array, order: Array, difference: float) -> list[int]:
    """What each picture repeats, by comparing it with every one kept before it."""
    owners, kept = np.arange(len(bits)), np.empty(0, np.int64)
    for index in order:
        close = np.sort(kept[np.bitwise_count(bits[kept] ^ bits[index]) <= 3])
        apart = np.abs(thumbnails[close].astype(np.int16) - thumbnails[index]).mean(axis=1)
        if len(close) and apart.min() <= difference:
            owners[index] = close[apart.argmin()]
        else:
            kept = np.append(kept, index)
    return owners.tolist()


def scattered(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Families of likenesses: some bits and grey values of a few pictures are changed, around the limits."""
    parents = rng.integers(0, max(count // 6, 1), count)
    bits = rng.integers(0, 1 << 63, count, dtype=np.uint64)[parents]
    for _ in range(4):
        flip = np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64)
        bits ^= np.where(rng.random(count) < 0.4, flip, np.uint64(0))
    thumbnails = rng.integers(0, 256, (count, 192))[parents] + rng.integers(-4, 5, (count, 192))
    return bits, thumbnails.clip(0, 255).astype(np.uint8)


def crowded(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Few hashes, thumbnails of few grey values: nearly all are candidates of each other, with many ties."""
    bits = rng.choice(np.array([0, 1, 3, 0xFFFF, 1 << 40, 0xF0F0], np.uint64), count)
    levels = rng.integers(0, 8, (count, 1)) + rng.integers(0, 2, (count, 192)) * (rng.random((count, 1)) < 0.5)
    return bits, (levels * rng.choice([1, 3], (count, 1))).astype(np.uint8)


def table(bits: Array, thumbnails: Array) -> pa.Table:
    digests = [i.to_bytes(16, "big") for i in range(len(bits))]
    return pa.table(
        {
            "digest": pa.array(digests, pa.binary(16)),
            "bits": pa.array(bits),
            "thumbnail": pa.array(list(map(bytes, thumbnails)), pa.binary(192)),
        }
    )


@pytest.mark.parametrize("most_pairs", [near._MOST_PAIRS, 40])
@pytest.mark.parametrize("make", [scattered, crowded])
def test_the_same_as_one_by_one(make, most_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the pictures are divided down to a few, and when candidates are filtered a few at a time."""
    monkeypatch.setattr(near, "_MOST_PAIRS", most_pairs)
    if most_pairs == 40:
        monkeypatch.setattr(near, "_AT_ONCE", 7)
        monkeypatch.setattr(near, "_COMPARED", 3)
        monkeypatch.setattr(near, "_MOST_ROWS", 50)
    repeats = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        bits, thumbnails = make(rng, int(rng.integers(1, 150)))
        order = rng.permutation(len(bits))
        for difference in (0.0, 0.5, 2.0, 3.0, 255.0):
            wanted = one_by_one(bits, thumbnails, order, difference)
            assert find_duplicates(table(bits, thumbnails), difference, order).tolist() == wanted
            repeats += sum(owner != i for i, owner in enumerate(wanted))
    assert repeats > 500


def test_the_limits_belong_to_it() -> None:
    """Three bits and exactly the difference are near; a fourth bit or one grey value more is not."""
    thumbnails = np.full((4, 192), 100, np.uint8)
    thumbnails[1] += 2
    thumbnails[2] += 2
    thumbnails[2, 0] += 1
    bits = np.array([0, 0b111, 0b111, 0b1111 << 20], np.uint64)
    owners = near.greedy_owners(near.looks_of(bits, thumbnails), np.array([0, 1]), 2.0)
    assert owners.tolist() == [0, 0]
    assert near.greedy_owners(near.looks_of(bits, thumbnails), np.array([0, 2, 3]), 2.0).tolist() == [0, 2, 3]


def test_the_nearest_of_another_set() -> None:
    rng = np.random.default_rng(5)
    found = 0
    for make in (scattered, crowded):
        bits, thumbnails = make(rng, 300)
        seen, asked = (
            Fingerprints(np.arange(150), (), (), bits[half], thumbnails[half], 0)
            for half in (slice(0, 150), slice(150, 300))
        )
        places, apart = nearest(seen, asked, 2.0)
        for i in range(150):
            differences = np.abs(seen.thumbnails.astype(np.int16) - asked.thumbnails[i]).mean(axis=1)
            differences[np.bitwise_count(seen.bits ^ asked.bits[i]) > 3] = np.inf
            best = int(differences.argmin()) if differences.min() <= 2.0 else -1
            assert places[i] == best and apart[i] == (differences[best] if best >= 0 else np.inf)
            found += best >= 0
    assert found > 50


def test_a_crowd_costs_no_more_than_its_size() -> None:
    """60,000 nearly blank pictures of one hash, of ten brightnesses; a loop over all pairs would take minutes."""
    rng = np.random.default_rng(0)
    shades = rng.integers(0, 10, 60_000)
    thumbnails = (20 * shades[:, None] + 10 + rng.integers(0, 2, (60_000, 192))).astype(np.uint8)
    started = time.process_time()
    owners = near.greedy_owners(near.looks_of(np.zeros(60_000, np.uint64), thumbnails), np.arange(60_000), 2.0)
    assert time.process_time() - started < 10
    assert sorted(set(owners.tolist())) == sorted(np.unique(shades, return_index=True)[1].tolist())
