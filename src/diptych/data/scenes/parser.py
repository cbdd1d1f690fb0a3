"""Reading a picture of the world back into its things, so that a picture that was drawn by a model can be judged.

Analysis by synthesis: the ground is found by drawing empty scenes, things are guessed from the colours of pixels, and
what they are is decided by drawing the guesses and comparing them with the picture. Only pixels are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi
from typing import Any

import numpy as np

from diptych.data.scenes.fitting import SOFT, TOLERANCE, compare, find_grounds, fit_all, loss, reduced, shrink
from diptych.data.scenes.render import render
from diptych.data.scenes.segment import Guess, evidence, guesses
from diptych.data.scenes.view import View
from diptych.data.scenes.windows import Stage, Window
from diptych.data.scenes.world import MATERIALS, SHAPES, SIZES, STYLES, Scene, Thing
from diptych.types import InputError

Array = np.ndarray[Any, Any]

LARGEST = 128  # pictures are read at no more than this many pixels a side, sketches excepted
FITTED_AT = 48  # pixels a side where camera and things are first fitted together
WRONG = 0.1  # loss of a pixel that is not explained
REPEATS = 2  # of guessing and deciding, at most
LEAST_WRONG = 4.0  # pixels, of GUESSED_AT a side, that suggest that something is missing
GUESSED_AT = 64  # pixels a side where things are guessed
LEAST_GAIN = 12.0  # nats that a guess must explain
LEAST_LOSS = 1.0  # a thing stays if the picture without it would have so many more wrong pixels,
LEAST_SHARE = 0.25  # and this share of those in which it is seen
LEAST_SEEN = 0.25  # of a thing's outline; of what the world makes, two fifths are seen or more,
LEAST_AREA = 10 / 96**2  # and 16 pixels of 96 x 96
GROUNDS = 3  # that are tried
EXPLAINED = 0.05  # loss of a pixel, on average, with which the first ground is taken
SURE = 0.2  # loss about a thing, for each of its pixels, with which its attributes are not questioned
ROUGH, ROUGHEST = 5.0, 40.0  # tolerance beside the median difference of the ground, and the most, in grey levels
COARSE = 24.0  # grey levels that a first guess may be off
TURNS = tuple(i * pi / 8 for i in range(4))  # of cubes, which look the same after a quarter

HERE = ((0.0, 0.0),)
AROUND = (*HERE, (-0.25, 0.0), (0.25, 0.0), (0.0, -0.25), (0.0, 0.25))  # where a larger thing may stand in truth


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
    small = reduced(image, LARGEST, style)
    return _seen(parse_scene(small, style), small, len(image) / len(small))


def parse_scene(image: Array, style: str) -> Scene:
    """The scene whose picture comes closest to `image`, uint8 [S, S, 3].

    Where the likeliest ground leaves much unexplained, the next ones are tried too.
    """
    target = image.astype(np.float32)
    grounds = find_grounds(image, style)[:GROUNDS]
    first = fit_all(grounds[0], target, 2)
    tolerance = _roughness(first, target)
    best, least = first, float("inf")
    for i, ground in enumerate(grounds):
        scene = _read(fit_all(ground, target, 2) if i else first, image, tolerance)
        value = _total(scene, target, tolerance)
        if value < least:
            best, least = scene, value
        if least < EXPLAINED + 2 * _slack(tolerance):
            break
    return best


def _roughness(ground: Scene, target: Array) -> float:
    """The tolerance that suits the picture, in grey levels: more where even the ground is not as it would be drawn."""
    apart = np.sqrt(((render(ground, len(target)).image - target) ** 2).mean(axis=-1))
    return float(np.clip(ROUGH * np.median(apart), TOLERANCE, ROUGHEST))


def _slack(tolerance: float) -> float:
    """Loss of half of the ground's pixels where a rough picture has raised the tolerance."""
    return 1 / (1 + ROUGH**2) if tolerance > TOLERANCE else 0.0


def _read(ground: Scene, image: Array, tolerance: float) -> Scene:
    """The scene with this ground that comes closest to the picture.

    What is found first decides where the camera is taken to be, and that in turn what is found: so it goes round until
    nothing changes.
    """
    target = image.astype(np.float32)
    scene = _add(ground, reduced(image, GUESSED_AT, ground.style), tolerance)
    small = reduced(image, FITTED_AT, ground.style).astype(np.float32)
    scene = fit_all(scene, small, 3, max(COARSE, tolerance), SOFT if ground.style == "sketch" else 1)
    scene = fit_all(scene, target, 3, tolerance)
    for _ in range(REPEATS):
        names = _names(scene)
        scene = _decided(_add(scene, image, tolerance), target, tolerance)
        if _names(scene) == names:
            break
    fewer = _without_pieces(scene, target, tolerance)
    if len(fewer.things) < len(scene.things):
        other = _decided(_add(_decided(fewer, target, tolerance, AROUND), image, tolerance), target, tolerance)
        if _total(other, target, tolerance) < _total(scene, target, tolerance):
            scene = other
    return scene


def _total(scene: Scene, target: Array, tolerance: float) -> float:
    return float(loss(render(scene, len(target)).image - target, tolerance).mean())


def _decided(scene: Scene, target: Array, tolerance: float, shifts: Sequence[tuple[float, float]] = HERE) -> Scene:
    """The scene with what else might look like its doubtful things where that comes closer, fitted to the picture."""
    doubtful = _doubtful(scene, target, tolerance)
    if any(doubtful):
        some = [_variants(thing, scene, shifts) if doubt else [thing] for thing, doubt in zip(scene.things, doubtful)]
        scene = _decide(scene, target, some, tolerance)
    return _without_idle(fit_all(scene, target, 2, tolerance), target, tolerance)


def _names(scene: Scene) -> list[str]:
    return sorted(thing.name for thing in scene.things)


def _doubtful(scene: Scene, target: Array, tolerance: float) -> list[bool]:
    """Things about which the picture is not as it would be."""
    stage = Stage(scene, len(target))
    regions = [stage.region([thing]) for thing in scene.things]
    drawings = stage.draw([(scene.things, region) for region in regions])
    return [
        not loss(picture - target[region], tolerance).sum() < (SURE + 4 * _slack(tolerance)) * (ids == i).sum()
        for i, ((picture, ids), region) in enumerate(zip(drawings, regions))
    ]


def _without_pieces(scene: Scene, target: Array, tolerance: float) -> Scene:
    """Without things beside larger ones of the same colour, if one of both is doubtful: they may be pieces of one."""
    stage, doubtful = Stage(scene, len(target)), _doubtful(scene, target, tolerance)
    regions = [stage.region([thing]) for thing in scene.things]
    area = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in regions]
    pieces = {
        i
        for i, thing in enumerate(scene.things)
        for k, other in enumerate(scene.things)
        if area[k] > area[i]
        and thing.color == other.color
        and (doubtful[i] or doubtful[k])
        and _meet(regions[i], regions[k])
    }
    return replace(scene, things=tuple(thing for i, thing in enumerate(scene.things) if i not in pieces))


def _meet(a: Window, b: Window) -> bool:
    return all(p.start < q.stop and q.start < p.stop for p, q in zip(a, b))


def _add(scene: Scene, image: Array, tolerance: float) -> Scene:
    """The scene with things where the picture differs from it."""
    size = min(len(image), GUESSED_AT)
    small, bare = shrink(image, size), shrink(render(scene, len(image)).image, size)
    wrong = loss(small.astype(np.float32) - bare, tolerance)
    if wrong.sum() < LEAST_WRONG:
        return scene
    values = evidence(small, bare, scene.style, len(image) if scene.style == "sketch" else size)
    if scene.things:  # what is there is explained, well or badly: more is looked for only where it is badly
        values = np.where(wrong.reshape(-1, 1) > WRONG, values, np.minimum(values, 0))
    found = guesses(values, scene, LEAST_GAIN)
    if not found:
        return scene
    options = [*([thing] for thing in scene.things), *map(_options, found)]
    scene = replace(scene, things=(*scene.things, *(guess.things[0] for guess in found)))
    return _decide(scene, image.astype(np.float32), options, max(COARSE, tolerance))


def _options(guess: Guess) -> list[Thing]:
    return [
        replace(thing, turn=turn) for thing in guess.things for turn in (TURNS if thing.shape == "cube" else TURNS[:1])
    ]


def _decide(scene: Scene, target: Array, options: Sequence[Sequence[Thing]], tolerance: float) -> Scene:
    """The scene with the best option of each thing; without those that explain nothing."""
    best = [ranked[0][1] for ranked in compare(scene, target, options, (4, 2, 1), tolerance)]
    return _without_idle(replace(scene, things=tuple(best)), target, tolerance)


def _without_idle(scene: Scene, target: Array, tolerance: float) -> Scene:
    """Without things that cannot be there or explain too little of the picture, one by one, the idlest first."""
    size = len(target)
    while scene.things:
        stage, things = Stage(scene, size), scene.things
        regions = [stage.region([thing]) for thing in things]
        fewer = [things[:i] + things[i + 1 :] for i in range(len(things))]
        sets = [(things,) * len(things), fewer, [(thing,) for thing in things]]
        drawings = stage.draw([(some, region) for kind in sets for some, region in zip(kind, regions)])
        full, less, alone = (drawings[k * len(things) : (k + 1) * len(things)] for k in range(3))
        seen = np.array([(ids == i).sum() for i, (_, ids) in enumerate(full)])
        outline = np.array([(ids == 0).sum() for _, ids in alone])
        gain = np.array(
            [
                float((loss(b - target[r], tolerance) - loss(a - target[r], tolerance)).sum())
                for (a, _), (b, _), r in zip(full, less, regions)
            ]
        )
        worth = gain - LEAST_LOSS - LEAST_SHARE * seen
        hidden = (seen < LEAST_SEEN * outline) | (seen < LEAST_AREA * size**2)
        worth[hidden | _clashing(things, gain)] -= size**2
        least = int(worth.argmin())
        if worth[least] > 0:
            break
        scene = replace(scene, things=fewer[least])
    return scene


def _clashing(things: Sequence[Thing], gain: Array) -> Array:
    """Things that stand inside another one that explains more of the picture, as booleans."""
    return np.array(
        [
            any(
                gain[j] > gain[i] and (a.x - b.x) ** 2 + (a.y - b.y) ** 2 < (0.45 * (a.height + b.height)) ** 2
                for j, b in enumerate(things)
                if j != i
            )
            for i, a in enumerate(things)
        ]
    )


def _variants(thing: Thing, scene: Scene, shifts: Sequence[tuple[float, float]]) -> list[Thing]:
    """The thing, and what else might look like it: of another shape, material or size in its place, or shifted."""
    found = [thing]
    for material in MATERIALS:
        for shape in SHAPES:
            turns = TURNS if shape == "cube" else (thing.turn,)
            found += [replace(thing, shape=shape, material=material, turn=turn) for turn in turns]
        for size in SIZES:
            if size != thing.size:
                found.append(replace(_same_place(thing, size, View(scene.camera)), material=material))
    return [replace(one, x=one.x + x, y=one.y + y) for x, y in shifts for one in found]


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
            box = tuple((np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * scale).tolist())
            sure = 1 - float(wrong[rows, columns].mean())
            depth = view.project(thing.x, thing.y, 0.0)[2]
            one = Seen(thing.shape, thing.color, thing.material, thing.size, thing.x, thing.y, box, sure)
            seen.append((depth, one))
    return [one for _, one in sorted(seen, key=lambda pair: pair[0])]
