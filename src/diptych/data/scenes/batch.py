"""Scenes as arrays: every thing of every scene in a batch is a column, so that one call works on all of them.

Things are sorted by shape. What is computed for a pixel never depends on the other scenes of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, sin
from typing import Any, NamedTuple

import numpy as np

from diptych.data.scenes.shapes import FAR, MEETS
from diptych.data.scenes.textures import linear
from diptych.data.scenes.view import View
from diptych.data.scenes.world import BACKGROUNDS, COLORS, SHAPES, Scene

Array = np.ndarray[Any, Any]

ALBEDOS = {name: linear(np.array(color, np.float64)) for name, color in COLORS.items()}
MOST_BOUND = 2.0  # lamps hang higher than this: above every thing


class Things(NamedTuple):
    """All things of a batch, in K columns sorted by shape.

    Attributes:
        image: the scene each belongs to, intp [K].
        number: its place in its scene's list, int16 [K].
        first: where each shape of `SHAPES` begins, and K at the end.
        place: x, y, radius, cosine and sine of the turn; float32 [5, K].
        look: albedo (3) and 1 for metal; float32 [4, K].
        rays: the ray through the picture's point (u, v) in the thing's own frame is o + t (a + u b + v c), with t the
            depth along the line of sight: o, a, b, c; float32 [12, K].
    """

    image: Array
    number: Array
    first: Array
    place: Array
    look: Array
    rays: Array


class Frames(NamedTuple):
    """The cameras and lamps of a batch, one row a scene.

    Attributes:
        position, right, up, forward: float32 [B, 3].
        slope: tan(fov / 2), float32 [B].
        lamps: x, y, z, radius, strength of each lamp (strength 0: there is none), float32 [B, L, 5].
        texture: index into `BACKGROUNDS`, intp [B].
    """

    position: Array
    right: Array
    up: Array
    forward: Array
    slope: Array
    lamps: Array
    texture: Array


class Rays(NamedTuple):
    """Rays to things: which thing, at which pixel (flat, over the whole batch), through which point of the picture."""

    thing: Array
    pixel: Array
    u: Array
    v: Array


class Met(NamedTuple):
    """Where rays meet their things: depth (`FAR`: missed), point and normal in the thing's frame [3, M], face."""

    t: Array
    point: Array
    normal: Array
    face: Array


def frames_of(scenes: Sequence[Scene]) -> Frames:
    """The cameras and lamps of `scenes`."""
    views = [View(scene.camera) for scene in scenes]
    most = max((len(scene.lights) for scene in scenes), default=1)
    lamps = np.zeros((len(scenes), max(1, most), 5), np.float32)
    lamps[:, :, 2] = 10.0
    for row, scene in zip(lamps, scenes):
        for i, light in enumerate(scene.lights):
            row[i] = (*light.position, light.radius, light.strength)
    np.maximum(lamps[:, :, 2], MOST_BOUND, out=lamps[:, :, 2])
    return Frames(
        np.array([view.position for view in views], np.float32),
        np.array([view.right for view in views], np.float32),
        np.array([view.up for view in views], np.float32),
        np.array([view.forward for view in views], np.float32),
        np.array([v.slope for v in views], np.float32),
        lamps,
        np.array([BACKGROUNDS.index(scene.background) for scene in scenes], np.intp),
    )


def things_of(scenes: Sequence[Scene], frames: Frames) -> Things:
    """The things of `scenes`."""
    rows = [
        (SHAPES.index(thing.shape), b, i, thing)
        for b, scene in enumerate(scenes)
        for i, thing in enumerate(scene.things)
    ]
    rows.sort(key=lambda row: row[0])
    image = np.array([row[1] for row in rows], np.intp)
    place = np.array([(t.x, t.y, t.height / 2, cos(t.turn), sin(t.turn)) for _, _, _, t in rows], np.float32).reshape(
        -1, 5
    )
    look = np.array([(*ALBEDOS[t.color], t.material == "metal") for _, _, _, t in rows], np.float32).reshape(-1, 4)
    x, y, radius, c, s = np.ascontiguousarray(place.T)
    offset = frames.position[image].T.copy()
    offset[0] -= x
    offset[1] -= y
    slope = frames.slope[image]
    axes = [offset, frames.forward[image].T, frames.right[image].T * slope, frames.up[image].T * -slope]
    rays = np.concatenate([np.stack([c * a[0] + s * a[1], c * a[1] - s * a[0], a[2]]) / radius for a in axes])
    return Things(
        image,
        np.array([row[2] for row in rows], np.int16),
        np.searchsorted(np.array([row[0] for row in rows], np.intp), np.arange(len(SHAPES) + 1)),
        np.ascontiguousarray(place.T),
        np.ascontiguousarray(look.T),
        rays.astype(np.float32),
    )


def boxes_of(things: Things, frames: Frames, size: int) -> Array:
    """Pixels in which each thing may be seen, one pixel to spare: x0, y0, x1, y1; intp [4, K]."""
    x, y, radius, c, s = things.place
    reach = radius * np.where(np.arange(len(x)) < things.first[1], np.abs(c) + np.abs(s), np.float32(1))
    low = np.zeros_like(radius)
    return screen_boxes(things.image, frames, size, (x - reach, x + reach, y - reach, y + reach, low, 2 * radius))


def screen_boxes(image: Array, frames: Frames, size: int, bounds: tuple[Array, ...]) -> Array:
    """Pixels that boxes of the world (x0, x1, y0, y1, z0, z1) can cover: x0, y0, x1, y1; intp [4, K]."""
    position, slope = frames.position[image], frames.slope[image]
    axes = [axis[image] for axis in (frames.right, frames.up, frames.forward)]
    corners = [(bounds[i], bounds[2 + j], bounds[4 + k]) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    us, vs, depths = [], [], []
    for corner in corners:
        dx, dy, dz = (value - position[:, i] for i, value in enumerate(corner))
        right, up, depth = (axis[:, 0] * dx + axis[:, 1] * dy + axis[:, 2] * dz for axis in axes)
        scale = 1 / (np.maximum(depth, np.float32(0.1)) * slope)
        us.append(right * scale)
        vs.append(-up * scale)
        depths.append(depth)
    behind = np.min(depths, axis=0) < 0.1  # a corner behind the camera: anything may be covered
    edges = (np.min(us, axis=0), np.min(vs, axis=0), np.max(us, axis=0), np.max(vs, axis=0))
    pixels = [(np.clip(edge, -2, 2) + 1) * (size / 2) for edge in edges]
    box = np.stack([np.floor(pixels[0]) - 1, np.floor(pixels[1]) - 1, np.ceil(pixels[2]) + 1, np.ceil(pixels[3]) + 1])
    box[:, behind] = np.array([0, 0, size, size], np.float32)[:, None]
    return np.asarray(np.clip(box, 0, size), np.intp)


def fill(box: Array, image: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """The pixels of boxes: (the box of each, the flat pixel, its column, its row), box by box, row by row."""
    heights, widths = box[3] - box[1], box[2] - box[0]
    of_row = np.repeat(np.arange(len(image)), heights)
    row = np.arange(len(of_row)) - np.repeat(np.cumsum(heights) - heights - box[1], heights)
    width = widths[of_row]
    line = image[of_row] * (size * size) + row * size
    place = np.arange(int(width.sum())) - np.repeat(np.cumsum(width) - width - box[0][of_row], width)
    return (
        np.repeat(np.arange(len(image)), heights * widths),
        place + np.repeat(line, width),
        place.astype(np.float32),
        np.repeat(row.astype(np.float32), width),
    )


def meet(things: Things, rays: Rays) -> Met:
    """Send rays, sorted by thing, each to its own thing."""
    shot = np.repeat(things.rays, np.bincount(rays.thing, minlength=len(things.image)), axis=1)
    o = shot[:3]
    d = shot[3:6] + rays.u * shot[6:9] + rays.v * shot[9:]
    t = np.empty(len(rays.u), np.float32)
    face = np.empty(len(rays.u), np.int16)
    normal = np.empty((3, len(rays.u)), np.float32)
    bounds = np.searchsorted(rays.thing, things.first)
    for shape, begin, end in zip(SHAPES, bounds, bounds[1:]):
        if begin < end:
            part = slice(begin, end)
            hit = MEETS[shape](o[:, part], d[:, part])
            t[part], face[part] = hit.t, hit.face
            for i in range(3):
                normal[i, part] = hit.normal[i]
    return Met(t, o + t * d, normal, face)


def nearest(met: Met, place: Array, count: int) -> tuple[Array, Array]:
    """(the rays that meet the nearest thing of their place, least depth of each of `count` places)."""
    depth = np.full(count, FAR, np.float32)
    np.minimum.at(depth, place, met.t)
    return np.flatnonzero((met.t < FAR) & (met.t == depth[place])), depth
