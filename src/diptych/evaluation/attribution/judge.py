"""Whether the maps of words are right: the pointing game, and what happens when the place is blanked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diptych.data import masks
from diptych.data.scenes.words import SYNONYMS
from diptych.data.store import Dataset, image_source
from diptych.evaluation.attribution.maps import (
    CELLS,
    How,
    Text,
    best_window,
    by_attention,
    by_gradient,
    check,
    enlarged,
    log_prob,
    read,
)
from diptych.evaluation.metrics.intervals import mean_interval
from diptych.tasks.caption import caption
from diptych.tasks.running import ready
from diptych.types import Estimate, InputError, Rejected, Sample

BLANKED = 0.3  # side of the square that is blanked, in sides of the picture
ELSEWHERE = 4  # random squares that it is compared with
_VALUE = {word: value for value, words in SYNONYMS.items() for word in words if value}


@dataclass(frozen=True)
class Attributed:
    """What `evaluate_attribution` found.

    Attributes:
        estimates: "attribution/pointing", the share of words whose map is highest on a thing that the word names
            (chance: the share of the picture that these things fill); "attribution/drop_top" and
            "attribution/drop_random", by how many nats ln p(word) falls where the best square, or a random one of the
            same size, is blanked; "attribution/drop_gap", their difference (chance 0).
        words: how many words were judged.
        rejected: pictures without a caption, and captions without a word for a thing.
    """

    estimates: dict[str, Estimate]
    words: int
    rejected: list[Rejected]


def evaluate_attribution(
    model: Any,
    dataset: Dataset,
    how: How = "gradient",
    *,
    seed: int = 0,
    batch_size: int = 16,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Attributed:
    """Judge the maps of the words that a model writes itself, on square pictures whose objects have masks.

    Judged are words that name an object or an attribute of one ("ball", "red"; in any of the words of the generated
    world). The pointing game (Zhang et al. 2018, section 4.2) has no margin here: a map points at its highest pixel
    after bilinear enlargement. The deletion test blanks a square of 0.3 sides with the picture's mean colour and reads
    the same caption again; the random square is one of four, anywhere.

    Raises `InputError` as `attribute` does, and for data without a word that could be judged.
    """
    check(model, how)
    found = caption(model, dataset, batch_size=batch_size, device=device)
    rejected, rng = list(found.rejected), np.random.default_rng(seed)
    rows: list[tuple[int, float, float, float, float]] = []  # row, hit, share of the picture, drop, drop elsewhere
    with ready(model, device) as place:
        for done, (row, reply) in enumerate(zip(found.kept, found.replies), 1):
            sample = dataset.take([row], fields=("images", "objects"))[0]
            judged = _judge(model, sample, reply.text, how, rng, place)
            if not judged:
                rejected.append(Rejected(sample.id, "no word for a thing", reply.text))
            rows += [(row, *numbers) for numbers in judged]
            if progress is not None:
                progress(done, len(found.kept))
    if not rows:
        raise InputError(f"{dataset.name}: no word of a caption names an object with a mask")
    table = np.array(rows, dtype=np.float64)
    groups, hit, area, top, random = table.T

    def mean(values: NDArray[np.float64], chance: float | None = None, largest: float | None = None) -> Estimate:
        rng = np.random.default_rng(seed)
        return mean_interval(values, rng, groups=groups.astype(int), chance=chance, largest=largest)

    estimates = {
        "attribution/pointing": mean(hit, float(area.mean()), largest=1.0),
        "attribution/drop_top": mean(top),
        "attribution/drop_random": mean(random),
        "attribution/drop_gap": mean(top - random, 0.0),
    }
    return Attributed(estimates, len(rows), rejected)


def _judge(
    model: Any, sample: Sample, said: str, how: How, rng: np.random.Generator, device: torch.device
) -> list[tuple[float, float, float, float]]:
    """(hit, share of the picture, drop, drop elsewhere) for each word that names something."""
    if not any(letter.isalnum() for letter in said):
        return []
    text = read(model, image_source(sample), said, device)
    wanted = [(i, mask) for i, word in enumerate(text.words) if (mask := named(sample, word)) is not None]
    if not wanted:
        return []
    maps = by_attention(model, text) if how == "attention" else by_gradient(model, text, CELLS)
    size, judged = text.pixels.shape[2], []
    for i, mask in wanted:
        large = enlarged(maps[i], *mask.shape)
        hit = bool(mask.flat[int(large.argmax())])
        side = round(BLANKED * size)
        squares = [best_window(enlarged(maps[i], size, size), side)]
        squares += [(int(y), int(x)) for y, x in rng.integers(0, size - side + 1, (ELSEWHERE, 2))]
        top, *elsewhere = _drops(model, text, i, squares, side)
        judged.append((float(hit), float(mask.mean()), top, float(np.mean(elsewhere))))
    return judged


def _drops(model: Any, text: Text, word: int, squares: list[tuple[int, int]], side: int) -> list[float]:
    """By how much ln p(word) falls when each of these squares has the picture's mean colour."""
    before, colour = log_prob(model, text, word), text.pixels.mean(dim=(2, 3), keepdim=True)
    drops = []
    for top, left in squares:
        blanked = text.pixels.clone()
        blanked[:, :, top : top + side, left : left + side] = colour
        drops.append(before - log_prob(model, text, word, blanked))
    return drops


def named(sample: Sample, word: str) -> NDArray[np.bool_] | None:
    """The pixels of all objects whose class or attribute the word is; None where it names none with a mask."""
    word = word.lower()
    names = {word, word.removesuffix("s"), _VALUE.get(word, word), _VALUE.get(word.removesuffix("s"), word)}
    found = [thing for thing in sample.objects if names & {thing.name, *thing.attributes} and thing.mask is not None]
    if not found:
        return None
    union: NDArray[np.bool_] = np.any([masks.decode(thing.mask) for thing in found if thing.mask is not None], axis=0)
    return union if union.any() else None
