"""Reading a picture of the world back into its things, so that a picture that was drawn by a model can be judged.

Analysis by synthesis: the ground is found by drawing empty scenes, things are guessed from the colours of pixels, and
what they are is decided by drawing the guesses and comparing them with the picture. Only pixels are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import pi
from typing import Any

import numpy as np

from diptych.data.scenes.fitting import compare, drawn, find_ground, fit_all, loss, shrink
from diptych.data.scenes.render import render
from diptych.data.scenes.segment import Guess, evidence, guesses
from diptych.data.scenes.view import View
from diptych.data.scenes.world import ATTRIBUTES, MATERIALS, SHAPES, SIZES, STYLES, Scene, Thing
from diptych.types import InputError

Array = np.ndarray[Any, Any]

LARGEST = 128  # pictures are read at no more than this many pixels a side
GUESSED_AT = 64  # pixels a side where things are guessed
LEAST_GAIN = 12.0  # nats that a guess must explain
LEAST_LOSS = 1.5  # a thing stays if the picture without it would be worse by so many wrong pixels
TURNS = (0.2, 0.2 + pi / 8, 0.2 + pi / 4, 0.2 + 3 * pi / 8)  # of cubes, which look the same after a quarter


@dataclass(frozen=True, slots=True)
class Seen:
    """A thing that is seen in a picture.

    Attributes:
        shape, color, material, size: as in `world.VALUES`.
        x, y: where it stands on the ground, in world units.
        box: x0, y0, x1, y1 in pixels; of what is seen of it.
        confidence: share of its pixels that look as such a thing would, 0..1.
    """

    shape: str
    color: str
    material: str
    size: str
    x: float
    y: float
    box: tuple[float, float, float, float]
    confidence: float


def parse(image: Array, style: str = "photo") -> list[Seen]:
    """The things in a picture of the world, the nearest first.

    Args:
        image: uint8 [S, S, 3], S at least 32.
        style: how it was drawn, of `STYLES`.

    Raises:
        InputError: a picture of another kind, or a style that is not known.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError("parse: expected a picture as a uint8 array of shape [S, S, 3]")
    if image.shape[0] != image.shape[1] or len(image) < 32:
        raise InputError(f"parse: expected a square picture of at least 32 pixels: {image.shape[1]} x {image.shape[0]}")
    if style not in STYLES:
        raise InputError(f"parse: no style '{style}'; there are {', '.join(STYLES)}")
    small = shrink(image, min(len(image), LARGEST))
    return _seen(parse_scene(small, style), small, len(image) / len(small))


def parse_scene(image: Array, style: str) -> Scene:
    """The scene whose picture comes closest to `image`, uint8 [S, S, 3]."""
    target = image.astype(np.float32)
    scene = find_ground(image, style)
    scene = _add(scene, image, target, LEAST_GAIN)
    scene = fit_all(scene, target, 3)
    scene = _add(scene, image, target, LEAST_GAIN)
    scene = _decide(scene, target, [_variants(thing, scene) for thing in scene.things])
    return fit_all(scene, target, 1)


def _add(scene: Scene, image: Array, target: Array, least: float) -> Scene:
    """The scene with things where the picture differs from it."""
    size = min(len(image), GUESSED_AT)
    bare = shrink(render(scene, len(image)).image, size)
    found = guesses(evidence(shrink(image, size), bare, scene.style), scene, least)
    if not found:
        return scene
    old = [[thing] for thing in scene.things]
    scene = replace(scene, things=(*scene.things, *(guess.things[0] for guess in found)))
    return _decide(scene, target, [*old, *map(_options, found)], 2 * 12.0)


def _options(guess: Guess) -> list[Thing]:
    return [
        replace(thing, turn=turn) for thing in guess.things for turn in (TURNS if thing.shape == "cube" else TURNS[:1])
    ]


def _decide(scene: Scene, target: Array, options: Sequence[Sequence[Thing]], tolerance: float = 12.0) -> Scene:
    """The scene with the best option of each thing; without those that explain nothing."""
    if not scene.things:
        return scene
    best = [ranked[0][1] for ranked in compare(scene, target, options, tolerance=tolerance)]
    scene = replace(scene, things=tuple(thing for thing in best if thing is not None))
    while scene.things:
        here = float(loss(drawn([scene], len(target))[0] - target).sum())
        fewer = [replace(scene, things=scene.things[:i] + scene.things[i + 1 :]) for i in range(len(scene.things))]
        without = loss(drawn(fewer, len(target)) - target).sum(axis=(1, 2))
        least = int(without.argmin())
        if without[least] > here + LEAST_LOSS:
            break
        scene = fewer[least]
    return scene


def _variants(thing: Thing, scene: Scene) -> list[Thing]:
    """The thing, and what else might look like it: other shapes, materials and sizes in the same place."""
    found = [thing]
    for size in SIZES:
        at = thing if size == thing.size else _same_place(thing, size, View(scene.camera))
        for shape in SHAPES:
            for material in MATERIALS:
                turns = TURNS if shape == "cube" != thing.shape else (thing.turn,)
                found += [replace(at, shape=shape, material=material, size=size, turn=turn) for turn in turns]
    return found


def _same_place(thing: Thing, size: str, view: View) -> Thing:
    """A thing of that size whose centre is seen where this one's is."""
    (px, py, pz), low, high = view.position, thing.height / 2, SIZES[size] / 2
    part = (pz - high) / (pz - low)
    return replace(thing, size=size, x=px + part * (thing.x - px), y=py + part * (thing.y - py))


def _seen(scene: Scene, image: Array, scale: float) -> list[Seen]:
    drawing = render(scene, len(image))
    wrong = loss(drawing.image.astype(np.float32) - image)
    view = View(scene.camera)
    seen = []
    for i, thing in enumerate(scene.things):
        rows, columns = np.nonzero(drawing.ids == i)
        if len(rows):
            box = (columns.min() * scale, rows.min() * scale, (columns.max() + 1) * scale, (rows.max() + 1) * scale)
            sure = 1 - float(wrong[rows, columns].mean())
            depth = view.project(thing.x, thing.y, 0.0)[2]
            one = Seen(thing.shape, thing.color, thing.material, thing.size, thing.x, thing.y, box, sure)
            seen.append((depth, one))
    return [one for _, one in sorted(seen, key=lambda pair: pair[0])]
