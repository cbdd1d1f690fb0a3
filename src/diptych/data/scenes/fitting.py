"""Fitting scenes to a picture by drawing them: what is changed is kept where the drawing comes closer.

Gauss-Newton steps with numerical derivatives (Levenberg-Marquardt), reweighted so that what a scene cannot explain
counts little: Geman and McClure's loss r^2 / (r^2 + c^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

from diptych.data.scenes.batch import boxes_of, frames_of, things_of
from diptych.data.scenes.render import render_many
from diptych.data.scenes.world import BACKGROUNDS, Camera, Light, Scene, Thing

Array = np.ndarray[Any, Any]

SMALL = 48  # side of the picture on which the ground is found
TOLERANCE = 12.0  # c of the loss, in grey levels
DOUBTS = np.array([0.6] * 3 + [1.0] * 3)  # how far camera and lamp are expected to move, in world units
THING_DOUBTS = np.array([0.5, 0.5, 0.5])  # how far a thing may be from where it was guessed: x, y, turn
DOUBT_WEIGHT = 20.0  # a move of that size costs as much as this many levels at one pixel
STEPS = np.array([0.02] * 3 + [0.1] * 3)  # of the derivatives by camera and lamp
THING_STEPS = np.array([0.02, 0.02, 0.05])  # and by x, y and turn of a thing
FARTHEST = 0.5  # that anything moves in one step
LAMP = Light((-4.5, -4.0, 8.0))
STARTS = 8  # cameras of the grid that are made better
SPREADS = (1.0, 1.12, 1.25, 1.4, 1.6)


def shrink(image: Array, size: int) -> Array:
    """The picture with `size` pixels a side, each the mean of what it covers; uint8."""
    if len(image) == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))


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
    small = shrink(image, SMALL).astype(np.float32)
    scenes, pictures = _grounds(style)
    order = np.argsort([_far(part, small) for part in pictures])
    textures = {scenes[i].background for i in order[:8]}
    starts = [i for i in order[:40] for texture in textures if scenes[i].background == texture][:STARTS]
    fitted = [fit_all(scenes[i], small, 5) for i in starts]
    losses = loss(drawn(fitted, SMALL) - small).mean(axis=(1, 2))
    found: list[Scene] = []
    for i in np.argsort(losses).tolist():
        if not any(_alike(fitted[i], scene) for scene in found):
            found.append(fitted[i])
    return found


def _alike(a: Scene, b: Scene) -> bool:
    apart = max(abs(p - q) for p, q in zip(a.camera.position, b.camera.position))
    return a.background == b.background and apart < 0.2


def fit_all(scene: Scene, image: Array, rounds: int, tolerance: float = TOLERANCE) -> Scene:
    """The scene with camera, lamp and all things moved towards the picture, float32 [S, S, 3]."""
    now, size = _numbers(scene), len(image)
    steps = np.concatenate([STEPS, np.tile(THING_STEPS, len(scene.things))])
    doubt = np.concatenate([DOUBTS, np.tile(THING_DOUBTS, len(scene.things))]) / DOUBT_WEIGHT
    start = now.copy()
    start[3:6] = LAMP.position
    damping = 1.0

    def cost(picture: Array, numbers: Array) -> float:
        return float(loss(picture - image, tolerance).sum() + (((numbers - start) / doubt) ** 2).sum() / tolerance**2)

    base = drawn([scene], size)[0]
    for _ in range(rounds):
        others = drawn([_with_numbers(scene, now + step) for step in np.diag(steps)], size)
        slopes = ((others - base) / steps[:, None, None, None].astype(np.float32)).reshape(len(steps), -1)
        weighted = slopes * _weights(image - base, tolerance).ravel()
        left = weighted @ slopes.T + np.diag(1 / doubt**2)
        right = weighted @ (image - base).ravel() + (start - now) / doubt**2
        old = cost(base, now)
        for _ in range(3):
            move = np.linalg.solve(left + 0.01 * damping * np.diag(np.diag(left)), right)
            numbers = now + np.clip(move, -FARTHEST, FARTHEST)
            numbers[5] = max(numbers[5], 5.0)
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


def compare(
    scene: Scene,
    image: Array,
    options: Sequence[Sequence[Thing]],
    keep: Sequence[int] = (6, 3, 1),
    tolerance: float = TOLERANCE,
) -> list[list[tuple[float, Thing]]]:
    """What stands in the place of each thing of the scene: its options with their losses, the least first.

    After each pass the options that came closest are kept, at most one of
    each name until the last of them, and moved one step further. Things that do not overlap in the picture are
    exchanged at the same time. A loss is the sum over the pixels about a thing.

    Args:
        scene: the scene; what it holds at the places of other things stays.
        image: float32 [S, S, 3].
        options: for each thing of the scene.
        keep: how many options go on after each pass.
        tolerance: of the loss, in grey levels.
    """
    regions = [_region(scene, some, len(image)) for some in options]
    results: list[list[tuple[float, Thing]]] = [[] for _ in options]
    for group in _apart(regions):
        tried: dict[int, list[Thing]] = {i: list(options[i]) for i in group}
        crops = _draw_options(scene, tried, regions, len(image))
        for count in (*keep, 0):
            for i in group:
                losses = [float(loss(crop - image[regions[i]], tolerance).sum()) for crop in crops[i]]
                order = np.argsort(losses, kind="stable").tolist()
                if not count:
                    results[i] = [(losses[k], tried[i][k]) for k in order]
                    continue
                names: dict[str, int] = {}
                for k in order:
                    thing = tried[i][k]
                    names.setdefault(thing.name, k)
                kept = list(names.values())[:count]
                crops[i], tried[i] = [crops[i][k] for k in kept], [tried[i][k] for k in kept]
            if count:
                _step(scene, image, tried, crops, regions, tolerance)
    return results


def _step(
    scene: Scene,
    image: Array,
    tried: dict[int, list[Thing]],
    crops: dict[int, list[Array]],
    regions: list[tuple[slice, slice]],
    tolerance: float,
) -> None:
    """Move each option of each thing one step towards the picture where that lowers its loss; `crops` follow."""
    size = len(image)
    slopes: dict[int, list[list[Array]]] = {i: [[] for _ in some] for i, some in tried.items()}
    for axis, step in enumerate(THING_STEPS):
        moved = {i: [_moved(t, np.eye(3)[axis] * step) for t in some] for i, some in tried.items()}
        for i, pictures in _draw_options(scene, moved, regions, size).items():
            for k, picture in enumerate(pictures):
                slopes[i][k].append(((picture - crops[i][k]) / np.float32(step)).ravel())
    moved = {}
    for i, some in tried.items():
        moved[i] = []
        for k, thing in enumerate(some):
            residual = image[regions[i]] - crops[i][k]
            slope = np.stack(slopes[i][k])
            weighted = slope * _weights(residual, tolerance).ravel()
            left = weighted @ slope.T
            left += np.diag(np.diag(left) * 0.01 + (DOUBT_WEIGHT / THING_DOUBTS) ** 2)
            move = np.linalg.solve(left, weighted @ residual.ravel())
            moved[i].append(_moved(thing, np.clip(move, -FARTHEST, FARTHEST)))
    for i, pictures in _draw_options(scene, moved, regions, size).items():
        for k, picture in enumerate(pictures):
            target = image[regions[i]]
            if loss(picture - target, tolerance).sum() < loss(crops[i][k] - target, tolerance).sum():
                crops[i][k], tried[i][k] = picture, moved[i][k]


def _draw_options(
    scene: Scene, tried: dict[int, list[Thing]], regions: list[tuple[slice, slice]], size: int
) -> dict[int, list[Array]]:
    """What is seen about the things of a group for each of their options; option k of all of them in one picture."""
    scenes = []
    for k in range(max(map(len, tried.values()))):
        things: list[Thing] = list(scene.things)
        for i, some in tried.items():
            if k < len(some):
                things[i] = some[k]
        scenes.append(replace(scene, things=tuple(things)))
    pictures = drawn(scenes, size)
    return {i: [pictures[k][regions[i]] for k in range(len(some))] for i, some in tried.items()}


def _region(scene: Scene, things: Sequence[Thing], size: int) -> tuple[slice, slice]:
    """Rows and columns about the things, with a margin for their shadows."""
    alone = [replace(scene, things=tuple(things))]
    frames = frames_of(alone)
    box = boxes_of(things_of(alone, frames), frames, size)
    margin = max(2, size // 32)
    x0, y0, x1, y1 = box[0].min(), box[1].min(), box[2].max(), box[3].max()
    return slice(max(0, y0 - margin), y1 + margin), slice(max(0, x0 - margin), x1 + margin)


def _apart(regions: Sequence[tuple[slice, slice]]) -> list[list[int]]:
    """Groups of regions of which none overlap."""
    groups: list[list[int]] = []
    for i, region in enumerate(regions):
        for group in groups:
            if not any(_overlap(region, regions[j]) for j in group):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _overlap(a: tuple[slice, slice], b: tuple[slice, slice]) -> bool:
    return all(p.start < q.stop and q.start < p.stop for p, q in zip(a, b))


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


def _far(picture: Array, small: Array) -> float:
    return float(np.minimum(np.abs(picture - small).sum(axis=-1), 60).mean())


@cache
def _grounds(style: str) -> tuple[list[Scene], Array]:
    """Empty scenes of all textures from a grid of cameras, and their pictures [N, SMALL, SMALL, 3]."""
    scenes = []
    for texture, spread in product(BACKGROUNDS, SPREADS):
        for x, y, z in product((-0.5, -0.25, 0.0, 0.25, 0.5), (-7.6, -7.2), (4.25, 4.55, 4.85, 5.15)):
            camera = Camera((x * spread, y * spread, z * spread))
            scenes.append(Scene((), camera, (LAMP,), texture, style))
    return scenes, drawn(scenes, SMALL)
