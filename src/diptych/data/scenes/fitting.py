"""Fitting scenes to a picture by drawing them: what is changed is kept where the drawing comes closer.

Gauss-Newton steps with numerical derivatives (Levenberg-Marquardt), reweighted so that what a scene cannot explain
counts little: Geman and McClure's loss r^2 / (r^2 + c^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from diptych.data.scenes.render import render_many
from diptych.data.scenes.styles import GRAPHITE, PAPER, pencil
from diptych.data.scenes.windows import Stage, Window
from diptych.data.scenes.world import BACKGROUNDS, Camera, Light, Scene, Thing

Array = np.ndarray[Any, Any]

SMALL = 48  # side of the picture on which the ground is found
GRID = (tuple(0.13 * i for i in range(-4, 5)), (-7.65, -7.4, -7.15), (4.2, 4.45, 4.7, 4.95, 5.2))  # of cameras: x, y, z
NEAR = 0.3  # cameras of the grid within this of a better one are not tried
AROUND = 7  # pixels about each, from whose mean it is told what the ground's pattern is
MOST_STARTS = 400  # of the grid, among which they are chosen
BLANK = np.float32(255 * 0.78)  # grey level from which a sketched ground is left white
UNLIKE = 12  # half grey levels beyond which it does not matter how much a pixel differs
TOLERANCE = 12.0  # c of the loss, in grey levels
DOUBTS = np.array([0.6] * 3 + [1.0] * 3)  # how far camera and lamp are expected to move, in world units
THING_DOUBTS = np.array([0.5, 0.5, 0.5])  # how far a thing may be from where it was guessed: x, y, turn
DOUBT_WEIGHT = 20.0  # a move of that size costs as much as this many levels at one pixel
STEPS = np.array([0.02] * 3 + [0.1] * 3)  # of the derivatives by camera and lamp
THING_STEPS = np.array([0.02, 0.02, 0.05])  # and by x, y and turn of a thing
FARTHEST = 0.5  # that anything moves in one step
LAMP = Light((-4.5, -4.0, 8.0))
SOFT = 5  # pixels, of which first differences are means
CAMERA = Camera()
CAMERA_ROOM, LAMP_ROOM = np.array([0.7, 0.5, 0.7]), np.array([1.7, 1.7, 1.0])  # about the middle ones, world units
FARTHER = (1.0, 1.6)  # how much farther off cameras are than the middle one
STARTS, BEST = 6, 3  # cameras of the grid that are made better a little, and then more
SPREADS = (1.0, 1.1, 1.2, 1.35, 1.5)


def shrink(image: Array, size: int) -> Array:
    """The picture with `size` pixels a side, each the mean of what it covers; uint8."""
    if len(image) == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))


def reduced(image: Array, size: int, style: str) -> Array:
    """The picture with at most `size` pixels a side; a sketch as it is, since its strokes are one pixel wide."""
    return image if style == "sketch" else shrink(image, min(len(image), size))


def drawn(scenes: Sequence[Scene], size: int) -> Array:
    """The pictures of scenes as one array, float32 [N, S, S, 3]."""
    return np.stack([one.image for one in render_many(scenes, size)]).astype(np.float32)


def loss(difference: Array, tolerance: float = TOLERANCE) -> Array:
    """The loss of each pixel, 0..1, from differences [..., 3]."""
    square = np.einsum("...c,...c->...", difference, difference) * np.float32(1 / 3)
    return np.asarray(square / (square + np.float32(tolerance**2)))


def find_grounds(image: Array, style: str) -> list[Scene]:
    """Empty scenes whose ground, camera and lamp look like the picture's, uint8 [S, S, 3], the most alike first.

    The best of a grid of cameras for each texture, made better by steps; no two are nearly the same.
    """
    small = reduced(image, SMALL, style).astype(np.float32)
    scenes, pictures = _grounds(style)
    tones = shrink(unhatched(image) if style == "sketch" else image, SMALL)
    apart = _pattern(tones[None], style)[0] - pictures
    order = np.argsort(np.minimum(np.abs(apart, out=apart), UNLIKE, out=apart).sum(axis=(1, 2), dtype=np.int32))
    starts: list[int] = []
    for i in order[:MOST_STARTS].tolist():
        if len(starts) < STARTS and not any(_alike(scenes[i], scenes[k], NEAR) for k in starts):
            starts.append(i)
    fitted = _by_loss([fit_all(scenes[i], small, 2) for i in starts], small)
    found: list[Scene] = []
    for scene in fitted:
        if not any(_alike(scene, other) for other in found):
            found.append(scene)
    return _by_loss([fit_all(scene, small, 3) for scene in found[:BEST]], small)


def _by_loss(scenes: list[Scene], image: Array) -> list[Scene]:
    losses = loss(drawn(scenes, len(image)) - image).mean(axis=(1, 2))
    return [scenes[i] for i in np.argsort(losses).tolist()]


def _alike(a: Scene, b: Scene, near: float = 0.2) -> bool:
    apart = max(abs(p - q) for p, q in zip(a.camera.position, b.camera.position))
    return a.background == b.background and apart < near


def fit_all(scene: Scene, image: Array, rounds: int, tolerance: float = TOLERANCE, soft: int = 1) -> Scene:
    """The scene with camera, lamp and all things moved towards the picture, float32 [S, S, 3].

    Differences are taken between means of soft x soft pixels: what is farther off is still felt.
    """
    now, size, count = _numbers(scene), len(image), len(scene.things)
    doubt = np.concatenate([DOUBTS, np.tile(THING_DOUBTS, count)]) / DOUBT_WEIGHT
    start = now.copy()
    start[3:6] = LAMP.position
    damping = 1.0

    def cost(picture: Array, numbers: Array) -> float:
        return float(
            loss(_softened(picture - image, soft), tolerance).sum()
            + (((numbers - start) / doubt) ** 2).sum() / tolerance**2
        )

    base = drawn([scene], size)[0]
    for _ in range(rounds):
        residual = _softened(image - base, soft)
        slopes = _softened(_slopes(_with_numbers(scene, now), base), soft).reshape(len(now), -1)
        weighted = slopes * _weights(residual, tolerance).ravel()
        left = weighted @ slopes.T + np.diag(1 / doubt**2)
        right = weighted @ residual.ravel() + (start - now) / doubt**2
        old = cost(base, now)
        for _ in range(3):
            move = np.linalg.solve(left + 0.01 * damping * np.diag(np.diag(left)), right)
            numbers = _likely(now + np.clip(move, -FARTHEST, FARTHEST))
            picture = drawn([_with_numbers(scene, numbers)], size)[0]
            if cost(picture, numbers) < old:
                now, base, damping = numbers, picture, damping / 4
                break
            damping *= 8
        else:
            break
        if np.abs(move / doubt).max() < 0.02:
            break
    return _with_numbers(scene, now)


def _likely(numbers: Array) -> Array:
    """With camera and lamp where the world may have them: the farther off the camera, the higher it is."""
    spread = float(np.clip(np.hypot(numbers[1], numbers[2]) / np.hypot(*CAMERA.position[1:]), *FARTHER))
    middle = np.array([*(spread * np.array(CAMERA.position)), *LAMP.position])
    room = np.array([*(spread * CAMERA_ROOM), *LAMP_ROOM])
    return np.concatenate([np.clip(numbers[:6], middle - room, middle + room), numbers[6:]])


def _slopes(scene: Scene, base: Array) -> Array:
    """How the picture `base` changes with camera, lamp and each thing, float32 [6 + 3 T, S, S, 3]."""
    size, now = len(base), _numbers(scene)
    slopes = np.zeros((len(now), *base.shape), np.float32)
    others = drawn(
        [_with_numbers(scene, now + step) for step in np.diag(np.concatenate([STEPS, np.zeros(len(now) - 6)]))[:6]],
        size,
    )
    slopes[:6] = (others - base) / STEPS[:, None, None, None].astype(np.float32)
    stage = Stage(scene, size)
    tries = []
    for i, thing in enumerate(scene.things):
        region = stage.region([thing])
        tries += [(_swap(scene.things, i, _moved(thing, step)), region) for step in np.diag(THING_STEPS)]
    for k, ((_, region), (picture, _)) in enumerate(zip(tries, stage.draw(tries))):
        slopes[6 + k][region] = (picture - base[region]) / np.float32(THING_STEPS[k % 3])
    return slopes


def compare(
    scene: Scene,
    image: Array,
    options: Sequence[Sequence[Thing]],
    keep: Sequence[int] = (6, 3, 1),
    tolerance: float = TOLERANCE,
) -> list[list[tuple[float, Thing]]]:
    """What stands in the place of each thing of the scene: its options with their losses, the least first.

    After each pass the options that came closest are kept, at most one of each name, and moved one step further. A loss
    is the sum over the pixels about a thing.

    Args:
        scene: the scene; what it holds at the places of other things stays.
        image: float32 [S, S, 3].
        options: for each thing of the scene.
        keep: how many options go on after each pass.
        tolerance: of the loss, in grey levels.
    """
    stage = Stage(scene, len(image))
    regions = [stage.region(some) for some in options]
    tried = [_Try(i, thing) for i, some in enumerate(options) for thing in some]
    _draw(stage, tried, image, regions, tolerance, SOFT)
    for i, count in enumerate(keep):
        tried = [one for i in range(len(options)) for one in _best(tried, i, count)]
        _step(stage, tried, image, regions, tolerance, 1 if i else SOFT)
        for one in tried:
            one.loss = float(loss(one.picture - image[regions[one.place]], tolerance).sum())
    return [[(one.loss, one.thing) for one in _best(tried, i, len(tried))] for i in range(len(options))]


@dataclass(slots=True)
class _Try:
    """An option of thing `place`, how its surroundings look with it, and what that loses."""

    place: int
    thing: Thing
    picture: Array = field(default_factory=lambda: np.zeros(0))
    loss: float = 0.0


def _best(tried: list[_Try], place: int, count: int) -> list[_Try]:
    """The options of a thing with the least losses, one of each name."""
    names: dict[str, _Try] = {}
    for one in sorted((one for one in tried if one.place == place), key=lambda one: one.loss):
        names.setdefault(one.thing.name, one)
    return list(names.values())[:count]


def _draw(stage: Stage, tried: list[_Try], image: Array, regions: list[Window], tolerance: float, soft: int) -> None:
    things = stage.scene.things
    drawings = stage.draw([(_swap(things, one.place, one.thing), regions[one.place]) for one in tried])
    for one, (picture, _) in zip(tried, drawings):
        one.picture = picture
        one.loss = float(loss(_softened(picture - image[regions[one.place]], soft), tolerance).sum())


def _softened(difference: Array, soft: int) -> Array:
    """A difference of pictures [..., H, W, 3], each pixel the mean of the soft x soft about it."""
    return difference if soft == 1 else uniform_filter(difference, (*(0,) * (difference.ndim - 3), soft, soft, 0))


def _step(stage: Stage, tried: list[_Try], image: Array, regions: list[Window], tolerance: float, soft: int) -> None:
    """Move each option one step towards the picture where that lowers its loss."""
    things = stage.scene.things
    nudged = [
        (_swap(things, one.place, _moved(one.thing, step)), regions[one.place])
        for one in tried
        for step in np.diag(THING_STEPS)
    ]
    pictures = [picture for picture, _ in stage.draw(nudged)]
    moved = []
    for k, one in enumerate(tried):
        slope = _softened(np.stack(pictures[3 * k : 3 * k + 3]) - one.picture, soft).reshape(3, -1)
        slope /= THING_STEPS[:, None].astype(np.float32)
        residual = _softened(image[regions[one.place]] - one.picture, soft)
        weighted = slope * _weights(residual, tolerance).ravel()
        left = weighted @ slope.T
        left += np.diag(np.diag(left) * 0.01 + (DOUBT_WEIGHT / THING_DOUBTS) ** 2)
        move = np.linalg.solve(left, weighted @ residual.ravel())
        moved.append(_Try(one.place, _moved(one.thing, np.clip(move, -FARTHEST, FARTHEST))))
    _draw(stage, moved, image, regions, tolerance, soft)
    for one, other in zip(tried, moved):
        if other.loss < one.loss:
            one.thing, one.picture, one.loss = other.thing, other.picture, other.loss


def _swap(things: tuple[Thing, ...], i: int, thing: Thing) -> tuple[Thing, ...]:
    return (*things[:i], thing, *things[i + 1 :])


def _weights(residual: Array, tolerance: float) -> Array:
    """What each difference counts, 0..1, for its pixel."""
    square = (residual**2).mean(axis=-1, keepdims=True)
    return np.broadcast_to((tolerance**2 / (square + np.float32(tolerance**2))) ** 2, residual.shape)


def _moved(thing: Thing, by: Array) -> Thing:
    dx, dy, turn = by.tolist()
    return replace(thing, x=thing.x + dx, y=thing.y + dy, turn=thing.turn + turn)


def _numbers(scene: Scene) -> Array:
    things = [value for thing in scene.things for value in (thing.x, thing.y, thing.turn)]
    return np.array([*scene.camera.position, *scene.lights[0].position, *things])


def _with_numbers(scene: Scene, numbers: Array) -> Scene:
    values = numbers.tolist()
    return replace(
        scene,
        camera=replace(scene.camera, position=tuple(values[:3])),
        lights=(replace(scene.lights[0], position=tuple(values[3:6])), *scene.lights[1:]),
        things=tuple(
            replace(thing, x=values[i], y=values[i + 1], turn=values[i + 2])
            for thing, i in zip(scene.things, range(6, len(values), 3))
        ),
    )


def _pattern(pictures: Array, style: str) -> Array:
    """How pictures [N, S, S, 3] differ from their own surroundings, in half grey levels: light and lamps do not matter;
    int16 [N, S, S]. Where a sketch leaves the paper white, there is none."""
    grey = pictures.mean(axis=-1, dtype=np.float32)
    if style == "sketch":
        grey = np.minimum(grey, BLANK)
    return np.asarray(2 * (grey - uniform_filter(grey, (0, AROUND, AROUND))), np.int16)


def unhatched(image: Array) -> Array:
    """The tones, uint8 [S, S, 3], that a sketched ground stands for: what is left when the strokes are taken away.

    How dense the strokes are at each pixel is read from even greys drawn with them.
    """
    span = float((PAPER - GRAPHITE).sum())
    amount = (PAPER - image).sum(axis=-1) / span
    tones = np.full(amount.shape, 255.0)
    for dark, least in ((0.5, 0.0), (0.8, 0.62)):  # above which a second sheet of strokes is laid
        even = np.full((1, *image.shape), 255 * (1 - dark), np.uint8)
        sheet = pencil(even, np.zeros(even.shape[:3], bool), np.zeros(even.shape[:3], np.float32))[0]
        density = np.maximum((PAPER - sheet).sum(axis=-1) / span, 0.02) / (dark - (1 - BLANK / 255))
        found = 1 - BLANK / 255 + amount / density
        tones = np.where(found > least, 255 * (1 - found), tones)
    return np.repeat(np.clip(tones, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@cache
def _grounds(style: str) -> tuple[list[Scene], Array]:
    """Empty scenes of all textures from a grid of cameras, and their patterns, int16 [N, SMALL, SMALL]."""
    scenes = []
    for texture, spread in product(BACKGROUNDS, SPREADS):
        for x, y, z in product(*GRID):
            camera = Camera((x * spread, y * spread, z * spread))
            scenes.append(Scene((), camera, (LAMP,), texture, "photo" if style == "sketch" else style))
    parts = [_pattern(drawn(scenes[i : i + 100], SMALL), style) for i in range(0, len(scenes), 100)]
    return [replace(scene, style=style) for scene in scenes], np.concatenate(parts)
