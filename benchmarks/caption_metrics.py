"""BLEU, ROUGE-L and CIDEr-D of as many images as COCO's validation set has, beside pycocoevalcap, in one run.

    python benchmarks/caption_metrics.py                    # 40,504 images with 5 references: minutes, the peer's
    python benchmarks/caption_metrics.py --images 4000

The captions are made from a seed: words by Zipf's law, some shared by the captions of an image, capitals, punctuation,
numbers, contractions and quotes as people write them. Both sides score the same tokens, made by Diptych: the peer's
tokenizer is a Java program. Prints seconds, ratios and the largest difference, and fails if it exceeds 1e-6. With numba
(`pip install "diptych[fast]"`) the ways with and without it are both timed; compiling, or loading what was compiled
before, is done first on a few images and timed on its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from diptych.evaluation.metrics import compiled, tokenizer
from diptych.evaluation.metrics.captions import score_captions

VOCABULARY, PER_IMAGE, CANDIDATE = 12_000, 5, 0
METRICS = {"bleu": Bleu(4), "rouge_l": Rouge(), "cider_d": Cider()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40_504)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-peer", action="store_true")
    options = parser.parse_args()

    raw = captions(options.images * (PER_IMAGE + 1), options.seed)
    print(f"{options.images} images, {PER_IMAGE} references each, for example {raw[0]!r}")
    own, others = dealt(raw)
    found = compiled.kernels(compiled.WORTHWHILE) is not None
    if found:
        print(f"numba: loaded or compiled in {warm(own, others):.2f} s, not counted below")
    tokenizer.tokens_of.cache_clear()
    _, seconds = timed(lambda: score_captions(own, others))
    print(f"all three from raw strings, tokenization included: {seconds:.2f} s")
    tokenizer.tokens_of.cache_clear()
    flat, seconds = timed(lambda: tokenizer.tokenize(raw))
    print(f"{'tokenize':22s}{seconds:8.2f} s  {len(flat)} captions, {sum(map(len, map(str.split, flat)))} tokens")
    candidates, references = dealt(flat)
    for metric, peer in METRICS.items():
        compare(metric, peer, candidates, references, found, options.skip_peer)


def compare(
    metric: str,
    peer: Bleu | Rouge | Cider,
    candidates: list[str],
    references: list[list[str]],
    found: bool,
    skip_peer: bool,
) -> None:
    ways = {f"{metric} numpy": sys.maxsize} | ({f"{metric} numba": 0} if found and metric != "rouge_l" else {})
    results = {}
    for name, compiled.WORTHWHILE in ways.items():
        results[name] = timed(lambda: score_captions(candidates, references, metrics=(metric,), tokenized=True))
        print(f"{name:22s}{results[name][1]:8.2f} s")
    if skip_peer:
        return
    truth, written = dict(enumerate(references)), {place: [text] for place, text in enumerate(candidates)}
    arguments = {"verbose": 0} if metric == "bleu" else {}
    (values, each), seconds = timed(lambda: peer.compute_score(truth, written, **arguments))
    print(f"{metric + ' pycocoevalcap':22s}{seconds:8.2f} s")
    for name, (scores, ours) in results.items():
        gaps = [np.ptp([score.value, value]) for score, value in zip(scores.values(), np.atleast_1d(values))]
        gaps += [np.abs(score.each - one).max() for score, one in zip(scores.values(), np.atleast_2d(each))]
        print(f"{name:22s}{seconds / ours:8.1f} times as fast, largest difference {max(gaps):.1e}")
        if max(gaps) > 1e-6:
            raise SystemExit("the two disagree")


def warm(candidates: list[str], references: list[list[str]]) -> float:
    """Compile, or load what was compiled before: seconds."""
    worthwhile, compiled.WORTHWHILE = compiled.WORTHWHILE, 0
    _, seconds = timed(lambda: score_captions(candidates[:9], references[:9], tokenized=True))
    compiled.WORTHWHILE = worthwhile
    return seconds


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def dealt(flat: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Of the captions of each image, one is the candidate."""
    images = [flat[start : start + PER_IMAGE + 1] for start in range(0, len(flat), PER_IMAGE + 1)]
    return [texts[CANDIDATE] for texts in images], [list(texts[CANDIDATE + 1 :]) for texts in images]


def captions(count: int, seed: int) -> list[str]:
    """Made-up captions: some 10 words each; of those of an image, half stem from 12 words that its captions share."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array(words(rng), dtype=object)
    law = 1 / np.arange(3, VOCABULARY + 3)
    sizes = np.clip(rng.normal(10.5, 2.5, count).round().astype(int), 5, 45)
    drawn = rng.choice(VOCABULARY, sizes.sum(), p=law / law.sum())
    topics = rng.choice(VOCABULARY, (count // (PER_IMAGE + 1), 12), p=law / law.sum())
    image = np.repeat(np.arange(count) // (PER_IMAGE + 1), sizes)
    shared = topics[image, rng.integers(0, 12, len(drawn))]
    chosen = vocabulary[np.where(rng.random(len(drawn)) < 0.5, shared, drawn)].tolist()
    dice = rng.random((count, 3)).tolist()
    ends = np.cumsum(sizes).tolist()
    return [written(chosen[end - size : end], *throws) for end, size, throws in zip(ends, sizes.tolist(), dice)]


def written(drawn: list[str], first: float, middle: float, last: float) -> str:
    """As people write: a capital, a full stop, now and then a comma, a number, a quote, a contraction, a hyphen."""
    drawn[0] = drawn[0].capitalize() if first < 0.8 else drawn[0].upper() if first < 0.82 else drawn[0]
    marks = ["{},", "{}'s", "isn't {}", "({})", '"{}"', "two-{}", "{} - 3.5", "{}/2", "1,000 {}", "{}..."]
    if middle < 0.3:
        drawn[2] = marks[int(middle * 1000) % len(marks)].format(drawn[2])
    return " ".join(drawn) + ("." if last < 0.65 else " ." if last < 0.7 else "!" if last < 0.71 else "")


def words(rng: np.random.Generator) -> list[str]:
    """Different words of one to four syllables, short ones first; the very first are those of English."""
    common = [
        "a",
        "on",
        "the",
        "of",
        "in",
        "with",
        "and",
        "is",
        "man",
        "to",
        "an",
        "two",
        "at",
        "people",
        "are",
        "next",
    ]
    found = dict.fromkeys(common)
    heads, tails = list("bcdfghklmnprstvw") + ["st", "tr", "sh"], ["a", "e", "i", "o", "u", "an", "er", "ing"]
    while len(found) < VOCABULARY:
        syllables = 1 + len(found) * 3 // VOCABULARY + int(rng.integers(0, 2))
        found["".join(map("".join, zip(rng.choice(heads, syllables), rng.choice(tails, syllables))))] = None
    return list(found)


if __name__ == "__main__":
    main()
