"""Pictures of scenes by ray tracing: per pixel the nearest thing, then its light, then shadows; edges are smoothed.

Rays are sent to a thing only in the part of the picture where it can be. Pixels in which two things, two faces, or a
thing and the ground meet are traced again, four times each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.data.scenes.batch import Frames, Rays, boxes_of, fill, frames_of, meet, nearest, things_of
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
from diptych.data.scenes.styles import photo
from diptych.data.scenes.world import Scene

Array = np.ndarray[Any, Any]

TOGETHER = 8  # scenes drawn in one go
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
    drawn: list[Rendered] = []
    for start in range(0, len(scenes), TOGETHER):
        drawn += _render(scenes[start : start + TOGETHER], size)
    return drawn


def _render(scenes: Sequence[Scene], size: int) -> list[Rendered]:
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
    ids[pixel[seen]] = things.index[thing[seen]]
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
    base = _ground(frames, things, size, ids < 0, edge)
    at_edges = np.repeat(base[:, slots], 4, axis=1)
    of_metal = things.look[3] > 0
    for shade, wanted in ((rubber, ~of_metal), (metal, of_metal)):
        coarse, fine = whole[wanted[thing[whole]]], seen_finer[wanted[finer.thing[seen_finer]]]
        light = shade(things, frames, points_of(things, frames, (rays, finer), (met, met_finer), (coarse, fine)))
        base[:, pixel[coarse]] = light[:, : len(coarse)]
        at_edges[:, slot[fine]] = light[:, len(coarse) :]
    quarters = at_edges.reshape(3, -1, 4)
    base[:, slots] = (quarters[:, :, 0] + quarters[:, :, 1] + quarters[:, :, 2] + quarters[:, :, 3]) * np.float32(0.25)
    images = photo(base).reshape(len(scenes), size, size, 3)
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


def _ground(frames: Frames, things: Any, size: int, bare: Array, edge: Array) -> Array:
    """Linear light of the ground and the sky at every pixel, float32 [3, N]."""
    ground = strike(frames, size)
    dark, crowd = shadows(things, frames, ground, size, bare | edge)
    light = SKY_TINT[:, None] * (AMBIENT * (1 - crowd))
    for lamp, share in enumerate(dark):
        light += LAMP_TINT[:, None] * (lamp_on_ground(frames, ground, size, lamp) * (1 - share))
    light *= albedo(frames, ground, size)
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
