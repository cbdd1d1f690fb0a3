"""Where things may be in a picture: how much better each colour and material explains a pixel than the ground does.

What pixels of each look are like is counted in drawn scenes, once, and kept in memory. A guess is a thing whose outline
gathers the most of it; the guesses of a picture are taken one by one, each explaining its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from diptych.data.scenes.batch import Rays, boxes_of, fill, frames_of, meet, things_of
from diptych.data.scenes.dials import Dials
from diptych.data.scenes.fitting import shrink
from diptych.data.scenes.render import render_many
from diptych.data.scenes.sampling import sample_scene
from diptych.data.scenes.shapes import FAR
from diptych.data.scenes.view import View
from diptych.data.scenes.world import COLORS, MATERIALS, SHAPES, SIZES, Scene, Thing

Array = np.ndarray[Any, Any]

LOOKS = tuple(product(COLORS, MATERIALS))
LESSONS = 400  # scenes in which pixels are counted
SEED = 20  # of those scenes
STRONGEST = 4.0  # evidence of one pixel, in nats
LEVELS = 16  # bins of each channel
RATIOS, RATIO_STEP = 28, 0.05  # bins of the brightness beside that of the bare ground
TINTS, TINT_STEP = 33, 4.0  # bins of how red and how blue beside the ground of that brightness
MOST_GUESSES = 14
MOST_PLACES = 2000  # pixels on which centres of things are tried; in a picture of the world there are fewer
ALTERNATIVES = 8  # hypotheses kept for one guess
TURN = 0.4  # of all guesses: cubes are halfway between seeing one and two sides


@dataclass
class Guess:
    """A thing that may be there, the hypotheses that come closest first, and their gains in nats."""

    things: list[Thing]
    gains: list[float]


def evidence(image: Array, bare: Array, style: str, drawn_at: int) -> Array:
    """How much more likely each pixel is on a thing of each look of `LOOKS` than on the ground, in nats.

    Args:
        image: uint8 [S, S, 3].
        bare: the ground without things, uint8 [S, S, 3].
        style: of the picture.
        drawn_at: pixels a side that the picture had when it was drawn.

    Returns:
        float32 [S * S, len(LOOKS)], within -`STRONGEST`..`STRONGEST`.
    """
    looks, ground = _counts(style, len(image), drawn_at)
    of_look = looks[_color_bins(image)]
    bins, total = _ground_bins(image, bare)
    of_ground = ground[bins] - np.log(total)
    return np.asarray(np.clip(of_look - of_ground[:, None], -STRONGEST, STRONGEST), np.float32)


def guesses(values: Array, scene: Scene, least: float) -> list[Guess]:
    """Things that explain the pixels, the best first, until none gains `least` nats. `values` are from `evidence`."""
    size = int(len(values) ** 0.5)
    things = _candidates(values, scene, size)
    if not things:
        return []
    frames = frames_of([replace(scene, things=tuple(things))])
    made = things_of([replace(scene, things=tuple(things))], frames)
    thing, pixel, column, row = fill(boxes_of(made, frames, size), made.image, size)
    half = np.float32(2 / size)
    depth = meet(made, Rays(thing, pixel, (column + 0.5) * half - 1, (row + 0.5) * half - 1)).t
    hit = np.flatnonzero(depth < FAR)
    thing, pixel, depth = made.number[thing[hit]].astype(np.intp), pixel[hit], depth[hit]
    return _greedy(values, things, (thing, pixel, depth), least)


def _greedy(values: Array, things: list[Thing], pairs: tuple[Array, Array, Array], least: float) -> list[Guess]:
    thing, pixel, depth = pairs
    gains = _sums(values[pixel], thing, len(things))
    nearest = np.full(len(values), FAR, np.float32)
    explained = np.zeros(len(values), np.float32)
    starts = np.searchsorted(thing, np.arange(len(things) + 1)) if (np.diff(thing) >= 0).all() else None
    assert starts is not None
    found: list[Guess] = []
    for _ in range(MOST_GUESSES):
        best = int(gains.argmax())
        first, look = divmod(best, len(LOOKS))
        if gains[first, look] < least:
            break
        own = slice(starts[first], starts[first + 1])
        touched = np.zeros(len(values), bool)
        touched[pixel[own]] = True
        found.append(_alternatives(gains, things, first, np.flatnonzero(touched), thing, pixel))
        changed = np.flatnonzero(touched[pixel])
        at, on = pixel[changed], thing[changed]
        gains -= _sums(_worth(values, at, depth[changed], nearest, explained), on, len(things))
        mine = pixel[own]
        front = depth[own] < nearest[mine]
        explained[mine[front]] = values[mine[front], look]
        nearest[mine[front]] = depth[own][front]
        gains += _sums(_worth(values, at, depth[changed], nearest, explained), on, len(things))
        x, y = things[first].x, things[first].y
        near = [
            i
            for i, t in enumerate(things)
            if (t.x - x) ** 2 + (t.y - y) ** 2 < (0.4 * (t.height + things[first].height)) ** 2
        ]
        gains[near] = -np.inf
    return found


def _worth(values: Array, pixel: Array, depth: Array, nearest: Array, explained: Array) -> Array:
    """What things gain at pixels: nothing behind one that is found, else beyond what it has explained."""
    seen = depth < nearest[pixel]
    return np.asarray((values[pixel] - explained[pixel][:, None]) * seen[:, None])


def _sums(worth: Array, thing: Array, count: int) -> Array:
    """Sums of rows by thing, for sorted things."""
    sums = np.zeros((count, worth.shape[1]), np.float32)
    if len(thing):
        starts = np.flatnonzero(np.concatenate([[True], thing[1:] != thing[:-1]]))
        sums[thing[starts]] = np.add.reduceat(worth, starts, axis=0)
    return sums


def _alternatives(gains: Array, things: list[Thing], first: int, own: Array, thing: Array, pixel: Array) -> Guess:
    """The best place for each other shape, size and look about where the best hypothesis stands."""
    touched = np.zeros(int(pixel.max()) + 1, bool)
    touched[own] = True
    inside = np.bincount(thing, touched[pixel], len(things))
    whole = np.bincount(thing, minlength=len(things))
    share = inside / np.maximum(whole + len(own) - inside, 1)  # intersection over union
    best: dict[tuple[str, str, int], tuple[float, Thing]] = {}
    for i in np.flatnonzero(share > 0.3).tolist():
        for look in np.argsort(-gains[i])[:4].tolist():
            key = (things[i].shape, things[i].size, look)
            if key not in best or gains[i, look] > best[key][0]:
                color, material = LOOKS[look]
                best[key] = float(gains[i, look]), replace(things[i], color=color, material=material)
    order = sorted(best.values(), key=lambda pair: -pair[0])[:ALTERNATIVES]
    return Guess([t for _, t in order], [gain for gain, _ in order])


def _candidates(values: Array, scene: Scene, size: int) -> list[Thing]:
    """Gray rubber things of every shape and size whose centres fall on pixels that are no ground, sorted by shape."""
    best = values.max(axis=1).reshape(size, size)
    rich = np.zeros((size + 2, size + 2))
    rich[1:-1, 1:-1] = best
    around = sum(rich[i : i + size, j : j + size] for i in range(3) for j in range(3))
    rows, columns = np.nonzero(np.asarray(around) > 0)
    thin = 1 + len(rows) // MOST_PLACES
    rows, columns = rows[::thin], columns[::thin]
    view = View(scene.camera)
    u, v = (2 * columns + 1) / size - 1, (2 * rows + 1) / size - 1
    way = [
        view.forward[i] + view.slope * (u * view.right[i] - v * view.up[i])
        if i < 2
        else view.forward[2] - view.slope * v * view.up[2]
        for i in range(3)
    ]
    things = []
    for shape in SHAPES:
        for name, height in SIZES.items():
            keep = (rows % 2 == 0) & (columns % 2 == 0) if name == "large" else np.ones(len(rows), bool)
            t = (height / 2 - view.position[2]) / np.minimum(way[2], -1e-3)
            x, y = view.position[0] + t * way[0], view.position[1] + t * way[1]
            keep &= (t > 1) & (t < 25)
            things += [
                Thing(shape, "gray", "rubber", name, px, py, TURN) for px, py in zip(x[keep].tolist(), y[keep].tolist())
            ]
    return things


def _color_bins(image: Array) -> Array:
    r, g, b = (image.reshape(-1, 3).astype(np.intp) // (256 // LEVELS)).T
    return np.asarray((r * LEVELS + g) * LEVELS + b)


def _ground_bins(image: Array, bare: Array) -> tuple[Array, Array]:
    """(bin of each pixel beside the bare ground, sum of the ground's channels)."""
    pixel, ground = image.reshape(-1, 3).astype(np.float32), bare.reshape(-1, 3).astype(np.float32)
    total = np.maximum(ground.sum(axis=1), 1)
    ratio = pixel.sum(axis=1) / total
    red, blue = (pixel[:, i] - ratio * ground[:, i] for i in (0, 2))
    place = np.clip((ratio / RATIO_STEP).astype(np.intp), 0, RATIOS - 1)
    for tint in (red, blue):
        place = place * TINTS + np.clip((tint / TINT_STEP + TINTS / 2).astype(np.intp), 0, TINTS - 1)
    return place, total


@cache
def _counts(style: str, size: int, drawn_at: int) -> tuple[Array, Array]:
    """Log densities of pixels: on things of each look, by colour [LEVELS^3, looks]; on the ground, by its bins."""
    dials = Dials(n=LESSONS, seed=SEED, style=style, objects="4-7", size=max(size, 32))  # type: ignore[arg-type]
    scenes = [sample_scene(dials, i) for i in range(LESSONS)]
    pictures = render_many(scenes, drawn_at)
    empty = render_many([replace(scene, things=()) for scene in scenes], drawn_at)
    middle = (2 * np.arange(size) + 1) * drawn_at // (2 * size)
    looks = np.zeros((LEVELS**3, len(LOOKS)))
    ground = np.zeros(RATIOS * TINTS * TINTS)
    for scene, picture, bare in zip(scenes, pictures, empty):
        ids = picture.ids[np.ix_(middle, middle)].ravel()
        image = shrink(picture.image, size)
        colors = _color_bins(image)
        of = np.array([LOOKS.index((thing.color, thing.material)) for thing in scene.things])
        on = ids >= 0
        np.add.at(looks, (colors[on], of[ids[on]]), 1)
        bins, _ = _ground_bins(image, shrink(bare.image, size))
        np.add.at(ground, bins[~on], 1)
    looks = _smooth(looks.reshape(LEVELS, LEVELS, LEVELS, -1), 3)
    ground = _smooth(ground.reshape(RATIOS, TINTS, TINTS), 3)
    looks /= looks.sum(axis=(0, 1, 2)) * (256 / LEVELS) ** 3
    ground /= ground.sum() * RATIO_STEP * TINT_STEP**2
    floor = 1e-9  # density of a colour that was never seen, in nats per grey level cubed
    return np.log(looks + floor).reshape(LEVELS**3, -1), np.log(ground + floor * 500).ravel()


def _smooth(counts: Array, axes: int) -> Array:
    """Counts spread to neighbouring bins along the first `axes` axes, (1, 2, 1) / 4 on each."""
    for axis in range(axes):
        padded = np.pad(counts, [(1, 1) if i == axis else (0, 0) for i in range(counts.ndim)], mode="edge")
        size = counts.shape[axis]
        low, mid, high = (np.take(padded, np.arange(i, i + size), axis=axis) for i in range(3))
        counts = (low + 2 * mid + high) / 4
    return counts
