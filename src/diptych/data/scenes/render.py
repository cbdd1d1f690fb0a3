"""Pictures of scenes by ray tracing: per pixel the nearest thing, then its light, then shadows; edges are smoothed.

Rays are sent to a thing only in the part of the picture where it can be. Pixels in which two things, two faces, or a
thing and the ground meet are traced again, four times each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.data.scenes.batch import Frames, Met, Rays, Things, boxes_of, fill, frames_of, meet, nearest, things_of
from diptych.data.scenes.ground import (
    AMBIENT,
    LAMP_TINT,
    SKY_TINT,
    albedo,
    haze,
    lamp_on_ground,
    shadows,
    strike,
)
from diptych.data.scenes.materials import metal, points_of, rubber
from diptych.data.scenes.shapes import FAR
from diptych.data.scenes.styles import INK, develop, flatten, pencil
from diptych.data.scenes.world import STYLES, Scene

Array = np.ndarray[Any, Any]

TOGETHER = 16 * 96 * 96  # pixels drawn in one go: fewer cost more calls, more do not fit the processor's cache
WITHIN = np.array([(-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375)], np.float32)  # of a pixel
FACES = 8  # more than any shape has


class Rendered(NamedTuple):
    """A picture with its truth.

    Attributes:
        image: uint8 [H, W, 3].
        ids: what is seen at the centre of each pixel: an index into the scene's things, -1 for the ground and the sky;
            int16 [H, W].
        depth: how far from the camera that is, in world units; infinite for the sky; float32 [H, W].
    """

    image: Array
    ids: Array
    depth: Array


def render(scene: Scene, size: int) -> Rendered:
    """Draw one scene, `size` pixels wide and high."""
    return render_many([scene], size)[0]


def render_many(scenes: Sequence[Scene], size: int) -> list[Rendered]:
    """Draw scenes, several at a time. A scene's picture does not depend on the others."""
    drawn: dict[int, Rendered] = {}
    for style in STYLES:
        chosen = [i for i, scene in enumerate(scenes) if scene.style == style]
        step = max(1, TOGETHER // (size * size))
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            drawn |= zip(part, _render([scenes[i] for i in part], size, style))
    return [drawn[i] for i in range(len(scenes))]


def _render(scenes: Sequence[Scene], size: int, style: str) -> list[Rendered]:
    frames = frames_of(scenes)
    things = things_of(scenes, frames)
    count = len(scenes) * size * size
    half = np.float32(2 / size)

    box = boxes_of(things, frames, size)
    thing, pixel, column, row = fill(box, things.image, size)
    rays = Rays(thing, pixel, (column + 0.5) * half - 1, (row + 0.5) * half - 1)
    met = meet(things, rays)
    seen, depth = nearest(met, pixel, count)
    ids = np.full(count, -1, np.int16)
    ids[pixel[seen]] = things.number[thing[seen]]
    edge = _edges(ids, met.face[seen], pixel[seen], len(scenes), size)

    again = np.flatnonzero(edge[pixel])
    slots = np.flatnonzero(edge)
    number = np.empty(count, np.intp)
    number[slots] = np.arange(len(slots))
    u = (rays.u[again, None] + WITHIN[:, 0] * half).ravel()
    v = (rays.v[again, None] + WITHIN[:, 1] * half).ravel()
    slot = (number[pixel[again], None] * 4 + np.arange(4)).ravel()
    finer = Rays(np.repeat(thing[again], 4), slot, u, v)
    met_finer = meet(things, finer)
    seen_finer, _ = nearest(met_finer, slot, 4 * len(slots))

    whole = seen[~edge[pixel[seen]]]
    base = _ground(frames, things, size, ids < 0, edge, style == "flat")
    at_edges = np.repeat(base[:, slots], 4, axis=1)
    of_metal = things.look[3] > 0
    for shade, wanted in ((rubber, ~of_metal), (metal, of_metal)):
        coarse, fine = whole[wanted[thing[whole]]], seen_finer[wanted[finer.thing[seen_finer]]]
        if not len(coarse) + len(fine):
            continue
        points = points_of(things, frames, (rays, finer), (met, met_finer), (coarse, fine))
        light = shade(things, frames, points)
        if style == "flat":
            light = flatten(light, points.albedo, shade is metal)
        base[:, pixel[coarse]] = light[:, : len(coarse)]
        at_edges[:, slot[fine]] = light[:, len(coarse) :]
    quarters = at_edges.reshape(3, -1, 4)
    base[:, slots] = (quarters[:, :, 0] + quarters[:, :, 1] + quarters[:, :, 2] + quarters[:, :, 3]) * np.float32(0.25)
    lines = np.zeros(0, np.float32)
    if style != "photo":
        lines = np.zeros(count, np.float32)
        lines[slots] = _outlines(finer, met_finer, seen_finer, things, len(slots))
    if style == "flat":
        base += (INK - base) * lines
    images = develop(base).reshape(len(scenes), size, size, 3)
    if style == "sketch":
        images = pencil(images, ids.reshape(images.shape[:3]) >= 0, lines.reshape(images.shape[:3]))
    return [Rendered(images[i], *truth) for i, truth in enumerate(_truth(frames, ids, depth, size))]


def _edges(ids: Array, face: Array, pixel: Array, scenes: int, size: int) -> Array:
    """Pixels beside which another thing or face is seen, as booleans [N]."""
    labels = ids * FACES
    labels[pixel] += face
    grid = labels.reshape(scenes, size, size)
    edge = np.zeros(grid.shape, bool)
    across = grid[:, :, 1:] != grid[:, :, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    down = grid[:, 1:] != grid[:, :-1]
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    return edge.ravel()


def _outlines(rays: Rays, met: Met, seen: Array, things: Things, slots: int) -> Array:
    """How much of an outline runs through each pixel at an edge, 0..1: all of it where its four rays disagree."""
    labels = np.full(4 * slots, -1, np.int16)
    labels[rays.pixel[seen]] = things.number[rays.thing[seen]] * FACES + met.face[seen]
    four = labels.reshape(-1, 4)
    apart = (four[:, 0] != four[:, 1]) | (four[:, 0] != four[:, 2]) | (four[:, 0] != four[:, 3])
    return np.where(apart, np.float32(0.85), np.float32(0.2))


def _ground(frames: Frames, things: Things, size: int, bare: Array, edge: Array, flat: bool) -> Array:
    """Linear light of the ground and the sky at every pixel, float32 [3, N]."""
    ground = strike(frames, size)
    dark, crowd = shadows(things, frames, ground, size, bare | edge)
    light = albedo(frames, ground, size)
    if flat:
        light *= np.where(np.max([*dark, crowd], axis=0) > 0.5, np.float32(0.66), np.float32(0.98))
    else:
        sky = SKY_TINT[:, None] * (AMBIENT * (1 - crowd))
        for lamp, share in enumerate(dark):
            sky += LAMP_TINT[:, None] * (lamp_on_ground(frames, ground, size, lamp) * (1 - share))
        light *= sky
    left, added = haze(frames, ground, size)
    shaped = light.reshape(3, len(left), size, size)
    shaped *= left[:, :, None]
    shaped += added[:, :, :, None]
    return light


def _truth(frames: Frames, ids: Array, depth: Array, size: int) -> list[tuple[Array, Array]]:
    """(ids, distance) of each picture."""
    ground = strike(frames, size).t
    at = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
    rise = frames.forward[:, 2:] - at * frames.slope[:, None] * frames.up[:, 2:]
    ground = np.where(rise < 0, ground, np.float32(np.inf))
    along = depth.reshape(-1, size, size)
    along = np.where(along < FAR, along, ground[:, :, None])
    u = at * frames.slope[:, None]
    square = 1 + u * u
    distance = along * np.sqrt(square[:, None, :] + (u * u)[:, :, None])
    return [(ids.reshape(-1, size, size)[i], distance[i]) for i in range(len(along))]
