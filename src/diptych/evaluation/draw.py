"""Judge drawn pictures: do they fit their text in a dual encoder's eyes, and are the right things in them?"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.capabilities import DualEncoder
from diptych.data.scenes.parser import parse
from diptych.data.scenes.sample import from_json
from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Values, largest
from diptych.evaluation.metrics.embeddings import caption_retrieves_image, clip_score
from diptych.evaluation.metrics.intervals import mean_interval
from diptych.evaluation.metrics.tuples import tuple_f1
from diptych.tasks.draw import draw
from diptych.tasks.embed import embed_images, embed_texts
from diptych.types import InputError

Tuples = set[tuple[str, ...]]


def evaluate_draw(
    model: Any,
    dataset: Dataset,
    *,
    judge: Any = None,
    batch_size: int = 16,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """Draw a picture for the longest caption of every sample.

    On `scenes` the drawn picture is read back by the parser: "draw/things_f1" compares what is in it (each thing with
    its size, colour, material and shape) with what is in the scene. With a judge, "draw/clip_score" is CLIPScore of
    picture and caption, and "draw/finds_own_caption" whether the caption finds its drawing among all. Chance is what
    the same drawings reach when they are dealt out anew.

    Args:
        judge: a dual encoder.

    Raises:
        InputError: the model cannot draw, fewer than two samples have captions, or there is nothing to judge by.
    """
    samples = dataset.take(range(len(dataset)), fields={"captions", "texts"})
    rows = [row for row, sample in enumerate(samples) if sample.captions]
    if len(rows) < 2:
        raise InputError(f"{dataset.name}: captions: expected two or more samples with one")
    known = all("scene" in samples[row].texts for row in rows)
    if judge is None and not known:
        raise InputError(f"{dataset.name}: expected scenes, whose drawings are read back, or a dual encoder as judge")
    texts = [max(samples[row].captions, key=len) for row in rows]
    pictures = draw(model, texts, seed, batch_size=batch_size, device=device, progress=progress)
    rng = np.random.default_rng(seed)
    cycle = rng.permutation(len(rows))
    dealt = np.empty(len(rows), np.int64)
    dealt[cycle] = np.roll(cycle, 1)

    each: dict[str, tuple[NDArray[np.float64], float]] = {}
    said, truth = [""] * len(rows), [""] * len(rows)
    if known:
        scenes = [from_json(samples[row].texts["scene"]) for row in rows]
        there = [_things(scene.things) for scene in scenes]
        seen = [_things(parse(picture, scene.style)) for picture, scene in zip(pictures, scenes)]
        by_chance = tuple_f1([seen[i] for i in dealt.tolist()], there)
        each["draw/things_f1"] = (tuple_f1(seen, there).each, float(by_chance.each.mean()))
        said, truth = ([_in_words(things) for things in some] for some in (seen, there))
    if judge is not None:
        if not isinstance(judge, DualEncoder):
            raise InputError("judge: expected a dual encoder, with a space for both pictures and texts")
        images = embed_images(judge, pictures, batch_size=batch_size, device=device)
        vectors = embed_texts(judge, texts, batch_size=batch_size, device=device)
        each["draw/clip_score"] = (clip_score(images, vectors), float(clip_score(images[dealt], vectors).mean()))
        each["draw/finds_own_caption"] = (caption_retrieves_image(images, vectors), 1 / len(rows))
    estimates = {
        name: mean_interval(numbers, rng, chance=chance, largest=largest(name))
        for name, (numbers, chance) in each.items()
    }
    values = {name: Values.of(rows, [0] * len(rows), numbers) for name, (numbers, _) in each.items()}
    first = next(iter(each.values()))[0]
    cases = [
        Case(row, score, text, what, own, drawn=_png(picture))
        for row, score, text, what, own, picture in zip(rows, first.tolist(), texts, said, truth, pictures)
    ]
    return Judged("draw", estimates, values, cases, [], {"sample without a caption": len(samples) - len(rows)})


def _things(things: Any) -> Tuples:
    """Things with all their attributes; of several that are alike, the second is told from the first by a number."""
    found: Tuples = set()
    for thing in things:
        one: tuple[str, ...] = (thing.size, thing.color, thing.material, thing.shape)
        while one in found:
            one = (*one, "again")
        found.add(one)
    return found


def _in_words(things: Tuples) -> str:
    return ", ".join(sorted(" ".join(one) for one in things)) or "nothing"


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
