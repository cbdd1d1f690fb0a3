"""Which concepts a text speaks of: the entries of a list that stand in it as whole words.

Xu et al., "Demystifying CLIP Data" (MetaCLIP, 2023), section 3.1: an entry matches a text if `" " + entry + " "` is a
substring of `" " + text + " "`. Put in words, that is: the entry's words stand in the text one after the other. So it
is enough to walk from each word of the text down a tree of the entries' words, which takes the same time for a hundred
entries and for a million. All texts take each step together, as whole arrays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diptych.types import InputError

PUNCTUATION = ',.;:?!`"()[]{}'
"""Signs that `normalise` makes words of their own. Hyphens and apostrophes stay in their words."""

_AT_ONCE = 1 << 15  # texts that are matched together; bounds memory to some 100 MB
_WRAPPED = r"([" + "".join(f"\\{sign}" for sign in PUNCTUATION) + r"])"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Knuth's multiplicative hashing

Ints = np.ndarray[Any, np.dtype[Any]]


class Matches(NamedTuple):
    """The entries of N texts: those of text i are `entry_ids[row_offsets[i]:row_offsets[i + 1]]`, rising, each once.

    row_offsets: int64, N + 1. entry_ids: int32.
    """

    row_offsets: Ints
    entry_ids: Ints


def normalise(texts: Sequence[str] | Any) -> Any:
    """Texts as they are compared, an Arrow array: NFC, lower case, each of `PUNCTUATION` a word, single spaces.

    So "Red car" is found in "a red  car, parked" and not in "red, car": a sign keeps the words beside it apart.

    Deviation: MetaCLIP spaces out , . ; : ? ! and the backtick only, and keeps case and runs of spaces.

    Raises:
        InputError: something is not a text.
    """
    lower = pc.utf8_lower(pc.utf8_normalize(_array(texts), form="NFC"))
    spaced = pc.replace_substring_regex(lower, _WRAPPED, r" \1 ")
    return pc.binary_join(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(spaced)), " ")


def read_entries(path: str | Path) -> list[str]:
    """A list of entries from a file: a JSON list of texts (as MetaCLIP's `metadata.json`), or one entry a line.

    Raises:
        InputError: the file cannot be read, or holds no entry.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        entries = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as a list of entries: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise InputError(f"{path}: expected a JSON list of texts")
    entries = [entry for entry in entries if entry.strip()]
    if not entries:
        raise InputError(f"{path}: expected at least one entry")
    return entries


class ConceptMatcher:
    """Finds entries in texts. Building it takes a few seconds for a million entries; threads may share one.

    Args:
        entries: E texts of one or more words. Of entries that are equal once normalised only the first is ever
            reported; one without a word never is.
        literal: compare texts and entries as they stand, words being what lies between single spaces. That is exactly
            the paper's substring test. Otherwise both pass through `normalise` first.

    Raises:
        InputError: something among the entries is not a text.
    """

    def __init__(self, entries: Sequence[str] | Any, *, literal: bool = False) -> None:
        self._prepare = _array if literal else normalise
        lists = pc.split_pattern(pc.fill_null(self._prepare(entries), ""), " ")
        encoded = lists.values.dictionary_encode()
        self._words = {word: number for number, word in enumerate(encoded.dictionary.to_pylist())}
        self._entries = max(len(lists), 1)
        word, starts = encoded.indices.to_numpy(), lists.offsets.to_numpy()
        lengths = np.diff(starts)
        empty = self._words.get("", -1)
        alive = np.flatnonzero((lengths > 1) | (word[np.minimum(starts[:-1], len(word) - 1)] != empty))
        # The tree: node w < W is the first word w; node W + i is where edge i leads, whose key is (node, next word).
        width = np.int64(max(len(self._words), 1))
        node = word[starts[alive]].astype(np.int64)
        ends: list[tuple[Ints, Ints]] = []
        keys: list[Ints] = [np.empty(0, np.int64)]
        nodes, depth = int(width), 1
        while len(alive):
            done = lengths[alive] == depth
            ends.append((node[done], alive[done]))
            alive, node = alive[~done], node[~done]
            edges, child = np.unique(node * width + word[starts[alive] + depth], return_inverse=True)
            keys.append(edges)
            node = nodes + child
            nodes, depth = nodes + len(edges), depth + 1
        self._width = width
        self._edges = _Table(np.concatenate(keys))
        self._entry_at = np.full(nodes, -1, np.int32)
        for at, entry in ends:
            self._entry_at[at[::-1]] = entry[::-1]  # the first of equal entries stays
        self._goes_on = np.zeros(nodes, bool)
        self._goes_on[np.concatenate(keys) // width] = True

    def match(self, texts: Sequence[str] | Any) -> Matches:
        """The entries of each text, a list of texts or an Arrow array of N. None is a text without words.

        Raises:
            InputError: something is not a text.
        """
        parts = [self._match(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
        counts = np.concatenate([np.zeros(1, np.int64), *(counts for counts, _ in parts)])
        found = np.concatenate([np.empty(0, np.int32), *(entries for _, entries in parts)])
        return Matches(np.cumsum(counts), found)

    def _match(self, texts: Any) -> tuple[Ints, Ints]:
        """How many entries each text has, and the entries."""
        lists = pc.split_pattern(pc.fill_null(self._prepare(texts), ""), " ")
        starts = lists.offsets.to_numpy().astype(np.int64)
        encoded = lists.values.dictionary_encode()
        known = np.array([self._words.get(word, -1) for word in encoded.dictionary.to_pylist()], np.int64)
        word = known[encoded.indices.to_numpy()] if len(known) else known
        # Each word of each text starts a walk; step by step, fewer of them are still on a path of the tree.
        row = np.repeat(np.arange(len(lists)), np.diff(starts))
        at = np.flatnonzero(word >= 0)
        node, end = word[at], starts[1:][row[at]]
        hits = [np.empty(0, np.int64)]
        depth = 1
        while len(at):
            entry = self._entry_at[node]
            ended = np.flatnonzero(entry >= 0)
            hits.append(row[at[ended]] * self._entries + entry[ended])
            on = np.flatnonzero(self._goes_on[node] & (at + depth < end))
            at, node, end = at[on], node[on], end[on]
            following = word[at + depth]
            edge = self._edges.find(node * self._width + following)
            on = np.flatnonzero((edge >= 0) & (following >= 0))
            at, node, end = at[on], edge[on] + self._width, end[on]
            depth += 1
        found = np.sort(np.concatenate(hits))
        found = found[np.diff(found, prepend=-1) != 0]  # an entry that stands twice in a text counts once
        rows, entries = np.divmod(found, self._entries)
        return np.bincount(rows, minlength=len(lists)), entries.astype(np.int32)


class _Table:
    """A hash table from distinct numbers to their positions, asked for whole arrays at a time."""

    def __init__(self, keys: Ints) -> None:
        bits = max(1, (2 * len(keys)).bit_length())  # more buckets than keys: few hold more than one
        self._shift = np.uint64(64 - bits)
        bucket = self._bucket(keys)
        self._order = np.argsort(bucket, kind="stable")
        self._keys = np.append(keys[self._order], -1)  # one more, so that an empty last bucket can be looked into
        self._start = np.zeros((1 << bits) + 1, np.int64)
        np.cumsum(np.bincount(bucket, minlength=1 << bits), out=self._start[1:])

    def find(self, keys: Ints) -> Ints:
        """The position of each key among those of the table, or -1."""
        found = np.full(len(keys), -1, np.int64)
        bucket = self._bucket(keys)
        place, end = self._start[bucket], self._start[bucket + 1]
        left = np.flatnonzero(place < end)
        while len(left):
            here = place[left]
            same = self._keys[here] == keys[left]
            found[left[same]] = self._order[here[same]]
            place[left] += 1
            left = left[~same & (here + 1 < end[left])]
        return found

    def _bucket(self, keys: Ints) -> Ints:
        hashed: Ints = (keys.astype(np.uint64) * _MULTIPLIER) >> self._shift
        return hashed.astype(np.int64)


def _array(texts: Sequence[str] | Any) -> Any:
    """Texts as one Arrow array of strings."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    try:
        made = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
        return made if pa.types.is_string(made.type) else made.cast(pa.string())
    except (pa.ArrowException, UnicodeError, TypeError, ValueError) as error:
        raise InputError(f"texts: expected a list of texts in valid Unicode: {error}") from None
