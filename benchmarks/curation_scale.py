"""Curation at web scale: concept matching, balancing, near and semantic de-duplication, each beside a peer.

    python benchmarks/curation_scale.py                 # all four; needs 6 GB of memory and some minutes
    python benchmarks/curation_scale.py concepts --threads 1
    python benchmarks/curation_scale.py semantic --vectors 100000

- concepts: texts a second of CPU time against 500,000 entries, beside `pyahocorasick` (the dev extra) given the same
  entries with a space on either side, and beside the substring test itself on a few texts. All must agree.
- balance: seconds for 10 million rows, beside the loop of MetaCLIP's Algorithm 1 on a part of them.
- near: seconds to find near-duplicates among the hashes of a million pictures, of which a tenth are planted repeats, a
  third have a white border (so that their hashes crowd in a few bands) and a twentieth are blank; beside a loop with a
  dictionary of bands on the first of them, which grows with the square.
- semantic: seconds for a million vectors of which a tenth are planted repeats at cosines of 0.95 to 0.99, and how many
  of those are found, on vectors in topics of unequal size and on vectors without any structure, which is the hardest
  case; and both beside `usearch` (HNSW, two nearest neighbours) on a smaller set.

`--threads` bounds the threads of BLAS, of which only the semantic part makes use.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["concepts", "balance", "near", "semantic"])
    parser.add_argument("--texts", type=int, default=200_000)
    parser.add_argument("--entries", type=int, default=500_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--peer-pictures", type=int, default=100_000)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--peer-vectors", type=int, default=30_000)
    parser.add_argument("--threads", type=int)
    sizes = parser.parse_args()
    if sizes.threads:
        os.environ |= {name: str(sizes.threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    for part in sizes.parts:
        {"concepts": concepts, "balance": balancing, "near": near, "semantic": semantic}[part](sizes)


# ---------------------------------------------------------------- concepts


def concepts(sizes: argparse.Namespace) -> None:
    """Texts of 5 to 25 words; entries are words, pairs and phrases up to 6 words. Words are drawn by Zipf's law."""
    import ahocorasick
    import numpy as np

    from diptych.data.curate.concepts import ConceptMatcher, normalise

    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = list({"".join(rng.choice(letters, n)) for n in rng.integers(2, 11, 200_000)})
    rng.shuffle(words)
    law = np.cumsum(1 / (np.arange(len(words)) + 10))

    def phrases(count: int, least: int, most: int) -> list[str]:
        lengths = rng.integers(least, most + 1, count)
        drawn = np.searchsorted(law, rng.random(int(lengths.sum())) * law[-1])
        ends = np.cumsum(lengths)
        return [" ".join(words[i] for i in drawn[a:b]) for a, b in zip(ends - lengths, ends)]

    texts = phrases(sizes.texts, 5, 25)
    texts = [f"{text.capitalize()}." if i % 2 else text.replace(" ", ", ", 1) for i, text in enumerate(texts)]
    pool = [*words, *phrases(300_000, 2, 2), *phrases(200_000, 3, 6)]
    entries = list(dict.fromkeys(pool[i] for i in rng.permutation(len(pool))))[: sizes.entries]

    matcher, seconds = timed(lambda: ConceptMatcher(entries))
    print(f"concepts: {len(entries):,} entries, {len(texts):,} texts; built in {seconds:.1f} s")
    found, seconds = timed(lambda: matcher.match(texts))
    with_normalising = len(texts) / seconds
    print(
        f"  ours, normalising included {with_normalising:10,.0f} texts/s a core, {len(found[1]) / len(texts):.1f} each"
    )
    normal = normalise(texts).to_pylist()
    literal = ConceptMatcher(entries, literal=True)
    found, seconds = timed(lambda: literal.match(normal))
    ours = len(texts) / seconds
    print(f"  ours, on normalised texts  {ours:10,.0f} texts/s a core")

    automaton = ahocorasick.Automaton()
    for i, entry in enumerate(entries):
        automaton.add_word(f" {entry} ", i)
    _, seconds = timed(automaton.make_automaton)
    theirs, seconds = timed(lambda: [{i for _, i in automaton.iter(f" {text} ")} for text in normal])
    peer = len(texts) / seconds
    print(f"  pyahocorasick, the same    {peer:10,.0f} texts/s a core; ours is {ours / peer:.1f} times as fast")
    sets = [set(found[1][a:b].tolist()) for a, b in zip(found[0], found[0][1:])]
    agrees("pyahocorasick", sets == theirs)
    few = range(0, len(texts), max(1, len(texts) // 20))
    plain, seconds = timed(lambda: [{i for i, e in enumerate(entries) if f" {e} " in f" {normal[t]} "} for t in few])
    print(f"  the substring test         {len(few) / seconds:10,.0f} texts/s a core")
    agrees("the substring test", [sets[t] for t in few] == plain)


# ---------------------------------------------------------------- balancing


def balancing(sizes: argparse.Namespace) -> None:
    """3.5 entries a row on average, by Zipf's law over 500,000 entries."""
    import numpy as np

    from diptych.data.curate.balance import balance, entry_counts, limit_for, tail

    rng = np.random.default_rng(0)
    lengths = rng.poisson(3.5, sizes.rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    law = np.cumsum(1 / (np.arange(sizes.entries) + 5))
    entries = np.empty(int(offsets[-1]), np.int32)
    for start in range(0, len(entries), 1 << 20):
        part = entries[start : start + (1 << 20)]
        part[:] = np.searchsorted(law, rng.random(len(part)) * law[-1]).clip(0, sizes.entries - 1)
    entries = rng.permutation(sizes.entries).astype(np.int32)[entries]
    started = time.perf_counter()
    keep, cpu = timed(lambda: balance(offsets, entries, 500, seed=0))
    wall = time.perf_counter() - started
    print(f"balance: {sizes.rows:,} rows, {len(entries):,} pairs: {cpu:.2f} s of CPU, {wall:.2f} s")
    counts = entry_counts(entries)
    print(f"  {tail(counts, 500)}\n  {tail(counts, limit_for(counts))}")

    rows = min(sizes.rows, 200_000)
    chance = np.minimum(1, 500 / np.maximum(counts, 1))
    lists = [entries[a:b].tolist() for a, b in zip(offsets[:rows], offsets[1 : rows + 1])]
    p, draw = chance.tolist(), random.Random(0).random
    loop, seconds = timed(lambda: [any(draw() < p[entry] for entry in row) for row in lists])
    whole = seconds * sizes.rows / rows
    print(
        f"  the loop of Algorithm 1, drawing only: {whole:.1f} s for as many ({rows:,} measured), {whole / cpu:.1f} x"
    )
    log = np.log1p(-np.minimum(chance, 1 - 1e-16))
    expected = np.array([1 - np.exp(log[row].sum()) for row in lists])
    spread = np.sqrt((expected * (1 - expected)).sum())
    for name, kept in (("ours", keep[:rows]), ("the loop", np.array(loop))):
        sigma = (kept - expected).sum() / spread
        print(f"  {name} kept {kept.mean():.4f} of these, expected {expected.mean():.4f}: {sigma:+.1f} sigma")


# ---------------------------------------------------------------- near-duplicates


def near(sizes: argparse.Namespace) -> None:
    """Planted repeats differ by up to 3 bits of the hash and by 1 of 255 in each grey value."""
    import numpy as np

    from diptych.data.curate.near import greedy_owners, looks_of

    bits, thumbnails, repeats, sources = planted_pictures(sizes.pictures)
    order = np.arange(len(bits))
    started = time.perf_counter()
    owner, cpu = timed(lambda: greedy_owners(looks_of(bits, thumbnails), order, 2.0))
    wall = time.perf_counter() - started
    # a repeat may also go to another picture that is near, or come first itself
    together = (owner[repeats] != repeats) | (owner[sources] != sources)
    print(
        f"near: {len(bits):,} pictures in {wall:.1f} s, {cpu:.1f} s of CPU; found {together.mean():.2%} of "
        f"{len(repeats):,} planted, dropped {int((owner != order).sum()):,}"
    )
    few = min(sizes.peer_pictures, len(bits))
    ours, cpu = timed(lambda: greedy_owners(looks_of(bits[:few], thumbnails[:few]), order[:few], 2.0))
    theirs, seconds = timed(lambda: by_a_loop(bits[:few], thumbnails[:few], 2.0))
    agrees("the loop", ours.tolist() == theirs)
    print(f"  {few:,} of these: ours {cpu:.2f} s of CPU, the loop {seconds:.1f} s: {seconds / cpu:.0f} x")


def planted_pictures(rows: int) -> tuple[Any, Any, Any, Any]:
    """Difference hashes and thumbnails in random order, which are repeats, and of which.

    Pictures vary by large patches more than by small ones, as photographs do.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    base = rows * 9 // 10
    field = np.full((rows, 8, 8, 3), 128, np.float32)
    for side, spread in ((1, 40), (2, 30), (4, 20), (8, 10)):
        coarse = rng.standard_normal((base, side, side, 3), dtype=np.float32) * spread
        field[:base] += coarse.repeat(8 // side, axis=1).repeat(8 // side, axis=2)
    thumbnails = field.clip(0, 255).astype(np.uint8)
    del field
    bordered = thumbnails[: base // 3]
    bordered[:, [0, 7]] = 255
    bordered[:, :, [0, 7]] = 255
    thumbnails[base // 3 : base // 3 + base // 20] = rng.integers(0, 256, (base // 20, 1, 1, 1), np.uint8)
    source = rng.permutation(base)[: rows - base]
    grey = thumbnails.mean(axis=3, dtype=np.float32)
    bits = np.packbits(grey > np.roll(grey, 1, axis=2), axis=(-1)).reshape(rows, 8).view(">u8")[:, 0].astype(np.uint64)
    bits[base:] = bits[source]
    for _ in range(3):
        flip = np.uint64(1) << rng.integers(0, 64, rows - base, dtype=np.uint64)
        bits[base:] ^= np.where(rng.random(rows - base) < 0.5, flip, np.uint64(0))
    noise = rng.integers(-1, 2, (rows - base, 8, 8, 3), np.int8)
    thumbnails[base:] = (thumbnails[source].astype(np.int16) + noise).clip(0, 255)
    order = rng.permutation(rows)
    place = np.empty(rows, np.int64)
    place[order] = np.arange(rows)
    return bits[order], thumbnails.reshape(rows, 192)[order], place[base:], place[source]


def by_a_loop(bits: Any, thumbnails: Any, difference: float) -> list[int]:
    """Each picture looks up those kept before it by the four bands of its hash."""
    import numpy as np

    owners, hashes = list(range(len(bits))), bits.tolist()
    buckets: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for index, own in enumerate(hashes):
        keys = [(band, own >> 16 * band & 0xFFFF) for band in range(4)]
        close = sorted({i for key in keys for i in buckets[key] if (hashes[i] ^ own).bit_count() <= 3})
        if close:
            apart = np.abs(thumbnails[close].astype(np.int16) - thumbnails[index]).mean(axis=1)
            if apart.min() <= difference:
                owners[index] = close[int(apart.argmin())]
                continue
        for key in keys:
            buckets[key].append(index)
    return owners


# ---------------------------------------------------------------- semantic de-duplication


def semantic(sizes: argparse.Namespace) -> None:
    """Planted repeats in vectors with and without structure."""
    import numpy as np

    from diptych.data.curate.semantic import semantic_duplicates

    for kind in ("topics", "no structure"):
        vectors, repeats, sources = planted(sizes.vectors, sizes.dims, kind == "topics")
        started = time.perf_counter()
        owner, cpu = timed(partial(semantic_duplicates, vectors, threshold=0.945))
        wall = time.perf_counter() - started
        dropped = int((owner != np.arange(len(owner))).sum())
        print(
            f"semantic, {kind}: {len(vectors):,} x {sizes.dims} in {wall:.1f} s, {cpu:.1f} s of CPU; found "
            f"{np.mean(owner[repeats] == owner[sources]):.2%} of {len(repeats):,} planted, dropped {dropped:,}"
        )
        del vectors
    beside_usearch(sizes)


def beside_usearch(sizes: argparse.Namespace) -> None:
    """The same by asking an HNSW graph for neighbours, on fewer vectors."""
    import numpy as np
    from usearch.index import Index

    from diptych.data.curate.semantic import semantic_duplicates

    vectors, repeats, sources = planted(sizes.peer_vectors, sizes.dims, True)

    def by_graph() -> Any:
        index = Index(ndim=sizes.dims, metric="ip", dtype="bf16", connectivity=16, expansion_add=128)
        index.add(np.arange(len(vectors)), vectors)
        return index.search(vectors, 2)

    owner, ours = timed(lambda: semantic_duplicates(vectors, threshold=0.945))
    found, theirs = timed(by_graph)
    hit = (found.keys[repeats] == sources[:, None]).any(axis=1) & (1 - found.distances[repeats, 1] >= 0.945 - 0.01)
    print(
        f"  {len(vectors):,} of topics: ours {ours:.1f} s of CPU, {np.mean(owner[repeats] == owner[sources]):.2%}; "
        f"usearch {theirs:.1f} s, {hit.mean():.2%}; ours is {theirs / ours:.1f} times as fast"
    )


def planted(rows: int, dims: int, topics: bool) -> tuple[Any, Any, Any]:
    """Vectors in random order, which of them are repeats, and of which."""
    import numpy as np

    rng = np.random.default_rng(0)
    base = rows * 9 // 10
    vectors = rng.standard_normal((rows, dims), dtype=np.float32)
    unit(vectors[:base])
    if topics:
        centres = rng.standard_normal((3000, dims), dtype=np.float32)
        law = 1 / (np.arange(3000) + 5)
        vectors[:base] *= 1.2
        vectors[:base] += unit(centres)[rng.choice(3000, base, p=law / law.sum())]
        unit(vectors[:base])
    source = rng.permutation(base)[: rows - base]
    cosine = rng.uniform(0.95, 0.99, (rows - base, 1)).astype(np.float32)
    noise = vectors[base:]
    noise -= (noise * vectors[source]).sum(axis=1, keepdims=True) * vectors[source]
    vectors[base:] = cosine * vectors[source] + np.sqrt(1 - cosine**2) * unit(noise)
    order = rng.permutation(rows)
    place = np.empty(rows, np.int64)
    place[order] = np.arange(rows)
    return vectors[order], place[base:], place[source]


def unit(rows: Any) -> Any:
    import numpy as np

    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


# ---------------------------------------------------------------- both


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the seconds of CPU time, which a busy neighbour does not lengthen by much."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def agrees(name: str, good: bool) -> None:
    if not good:
        raise SystemExit(f"ours and {name} disagree")


if __name__ == "__main__":
    main()
