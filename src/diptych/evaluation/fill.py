"""Judge whether hidden words are guessed: names of things in the picture and their attributes, one at a time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities import MASK
from diptych.data.scenes.words import SYNONYMS
from diptych.data.scenes.world import VALUES
from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Values, none_left
from diptych.evaluation.metrics.intervals import share_interval
from diptych.types import InputError, Sample

_WORD = re.compile(r"[^\W\d_]+")
MEANING = {word: value for value, words in SYNONYMS.items() for word in words if value}
"""Word of the generated world -> what it means: "ball" -> "sphere"."""

_KIND = {value: kind for kind, values in VALUES.items() for value in values}


class Hidden(NamedTuple):
    """A word of a caption that names a thing of the sample or an attribute of one.

    Attributes:
        text: the caption with `MASK` in its place.
        kind: "color", "shape", "size", "material" of the generated world's words, else "thing" or "attribute".
    """

    row: int
    unit: int
    text: str
    word: str
    kind: str


def evaluate_fill(
    model: Any,
    dataset: Dataset,
    *,
    batch_size: int = 64,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """The share of hidden words that are guessed; a synonym of the generated world's words is right too.

    Each word of a caption that names an object of its sample, or an attribute of one, is hidden alone. Chance is what
    the commonest word of each kind reaches.

    Raises:
        InputError: the model cannot guess, or no caption names an object of a sample with a readable picture.
    """
    from diptych.tasks.fill import fill

    samples = dataset.take(range(len(dataset)), fields={"captions", "objects"})
    asked = [one for row, sample in enumerate(samples) for one in hidden_of(row, sample)]
    if not asked:
        raise InputError(f"{dataset.name}: captions, objects: no caption names an object of its sample")
    found = fill(
        model,
        dataset.select([one.row for one in asked]),
        [one.text for one in asked],
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    if not found.kept:
        raise none_left(dataset.name, "hidden words", len(asked), found.rejected)
    kept = [asked[i] for i in found.kept]
    said = [words[0] for words in found.words]
    right = np.array([_means(word) == _means(one.word) for one, word in zip(kept, said)], float)
    kinds = np.array([one.kind for one in kept], object)
    rows, units = np.array([one.row for one in kept]), np.array([one.unit for one in kept])
    blind = _blind(kept)
    chosen = {"fill/right": np.arange(len(kept))}
    chosen |= {f"fill/right[{kind}]": np.flatnonzero(kinds == kind) for kind in sorted(set(kinds))}
    values = {name: Values(rows[some], units[some], right[some]) for name, some in chosen.items()}
    rng = np.random.default_rng(seed)
    estimates = {
        name: share_interval(v.numbers, rng, v.rows, chance=float(blind[chosen[name]].mean()))
        for name, v in values.items()
    }
    cases = [Case(one.row, hit, one.text, word, one.word) for one, word, hit in zip(kept, said, right.tolist())]
    judged = {one.row for one in asked}
    skipped = {"caption that names no object": sum(row not in judged for row in range(len(samples)))}
    return Judged("fill", estimates, values, cases, list(found.rejected), skipped)


def hidden_of(row: int, sample: Sample) -> list[Hidden]:
    """Every word of its captions that names a thing or an attribute, hidden alone."""
    names = {thing.name.lower() for thing in sample.objects}
    attributes = {value.lower() for thing in sample.objects for value in thing.attributes}
    found: list[Hidden] = []
    for caption in sample.captions:
        for match in _WORD.finditer(caption):
            word = match[0].lower()
            means = next((one for one in (_means(word), word.removesuffix("s")) if one in names | attributes), None)
            if means is not None:
                kind = _KIND.get(means, "thing" if means in names else "attribute")
                text = caption[: match.start()] + MASK + caption[match.end() :]
                found.append(Hidden(row, len(found), text, word, kind))
    return found


def _means(word: str) -> str:
    word = word.lower().strip()
    single = word.removesuffix("s")
    return MEANING.get(word) or MEANING.get(single) or word


def _blind(asked: list[Hidden]) -> NDArray[np.float64]:
    """Whether the commonest word of its kind is right, for each."""
    counts: dict[str, Counter[str]] = {}
    for one in asked:
        counts.setdefault(one.kind, Counter())[_means(one.word)] += 1
    commonest = {kind: counter.most_common(1)[0][0] for kind, counter in counts.items()}
    return np.array([_means(one.word) == commonest[one.kind] for one in asked], float)
