"""Ids that stay unique among any number, in some 40 bytes each."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left

import numpy as np

_LEAST_MERGE = 1 << 16


class UniqueIds:
    """Gives each id that is already taken a number.

    Of an id only 64 bits of a hash are kept: in one sorted array, and the newest eighth in a set. Two ids of one hash
    do no harm: the later counts as taken and gets "#2", which is as good a name; among ten million ids that happens
    with a probability of 3 in a million.
    """

    def __init__(self) -> None:
        self._sorted = array("Q")
        self._new: set[int] = set()

    def free(self, id: str) -> str:
        """`id`, or if it is taken `id` with "#2", "#3", ...; what is returned is taken from now on."""
        found, key = id, _hash(id)
        if self._taken(key):
            # The last number is not kept: it is found by doubling and halving, since those below it are taken
            low, high = 1, 2
            while self._taken(_hash(f"{id}#{high}")):
                low, high = high, 2 * high
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self._taken(_hash(f"{id}#{middle}")) else (low, middle)
            found = f"{id}#{high}"
            key = _hash(found)
        self._new.add(key)
        if len(self._new) >= max(_LEAST_MERGE, len(self._sorted) // 8):
            self._merge()
        return found

    def _taken(self, key: int) -> bool:
        if key in self._new:
            return True
        at = bisect_left(self._sorted, key)
        return at < len(self._sorted) and self._sorted[at] == key

    def _merge(self) -> None:
        both = np.concatenate([np.frombuffer(self._sorted, np.uint64), np.fromiter(self._new, np.uint64)])
        both.sort()
        self._sorted = array("Q", both.tobytes())
        self._new.clear()


def _hash(id: str) -> int:
    """Of the id as it is written: what is not Unicode is mended with "?"."""
    return int.from_bytes(hashlib.blake2b(id.encode("utf-8", "replace"), digest_size=8).digest(), "little")
