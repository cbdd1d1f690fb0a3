"""What light does on a thing: rubber scatters it, metal mirrors the ground, the sky and the lamps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.data.scenes.batch import Frames, Met, Rays, Things
from diptych.data.scenes.ground import AMBIENT, HORIZON, LAMP, LAMP_TINT, REACH, SKY_TINT, ZENITH, grey_of
from diptych.data.scenes.shapes import Beam, hidden
from diptych.data.scenes.textures import atlas
from diptych.data.scenes.world import SHAPES

Array = np.ndarray[Any, Any]

GLOSS = np.float32(0.10)  # strength of the soft highlight on rubber
BENT = np.float32(0.22)  # how far the faces of metal bulge: a flat mirror would show one spot of the ground only
ONE, HALF = np.float32(1), np.float32(0.5)


class Points(NamedTuple):
    """Points on things, in runs of one thing each.

    Attributes:
        run: the thing of each run.
        length: how many points each run has.
        position, normal, view: in the world, float32 [3, M]; `view` is the way from the camera, of length 1.
        albedo: float32 [3, M].
        radius: of the thing, float32 [M].
        image: the scene, intp [M].
    """

    run: Array
    length: Array
    position: Array
    normal: Array
    view: Array
    albedo: Array
    radius: Array
    image: Array


def points_of(
    things: Things, frames: Frames, rays: Sequence[Rays], met: Sequence[Met], chosen: Sequence[Array]
) -> Points:
    """The chosen rays' points, one list after the other."""
    kinds = len(things.image)
    run = np.concatenate([np.arange(kinds)] * len(rays))
    count = np.concatenate([np.bincount(r.thing[i], minlength=kinds) for r, i in zip(rays, chosen)])
    px, py, pz = np.concatenate([np.take(m.point, i, axis=1) for m, i in zip(met, chosen)], axis=1)
    nx, ny, nz = np.concatenate([np.take(m.normal, i, axis=1) for m, i in zip(met, chosen)], axis=1)
    each = np.concatenate([things.place, things.look[:3], frames.position[things.image].T])
    spread = np.repeat(np.take(each, run, axis=1), count, axis=1)
    x, y, radius, c, s = spread[:5]
    position = np.stack([x + radius * (c * px - s * py), y + radius * (s * px + c * py), radius * pz])
    view = position - spread[8:]
    view /= np.sqrt(_dot(view, view))
    normal = np.stack([c * nx - s * ny, s * nx + c * ny, nz])
    image = np.repeat(things.image[run], count)
    return Points(run, count, position, normal, view, spread[5:8], radius, image)


def rubber(things: Things, frames: Frames, points: Points) -> Array:
    """Linear colour of points on rubber, float32 [3, M]: light from the sky, the ground and the lamps, a dim shine."""
    normal = points.normal
    mirror = points.view - 2 * _dot(points.view, normal) * normal
    up = HALF + HALF * normal[2]
    low = np.minimum(points.position[2] / (points.radius * 1.2), 1)  # near the ground the thing itself is in the way
    sky = AMBIENT * (up * (np.float32(0.65) + np.float32(0.35) * low))
    ground = AMBIENT * (1 - up) * (np.float32(0.35) + np.float32(0.45) * low)
    bounce = np.repeat(atlas().means[:, frames.texture[things.image[points.run]]], points.length, axis=1)
    light = SKY_TINT[:, None] * sky + bounce * ground
    shine = np.zeros_like(up)
    for lamp in range(frames.lamps.shape[1]):
        way, strength, extent = _to_lamp(things, frames, points, lamp)
        inverse = 1 / np.sqrt(_dot(way, way))
        cosine = np.maximum(_dot(way, normal) * inverse, 0)
        fall = strength * inverse * _lit(things, frames, points, lamp, way, extent, cosine > 0)
        light += LAMP_TINT[:, None] * (LAMP * fall * cosine)
        soft = np.maximum(_dot(way, mirror) * inverse, 0)
        for _ in range(4):  # to the power of 16
            soft *= soft
        shine += fall * soft
    light *= points.albedo
    light += GLOSS * shine
    return np.asarray(light)


def metal(things: Things, frames: Frames, points: Points) -> Array:
    """Linear colour of points on metal, float32 [3, M]: a tinted mirror that is brighter at the rim."""
    x, y, radius = np.repeat(np.take(things.place[:3], points.run, axis=1), points.length, axis=1)
    normal = points.normal + (BENT / radius) * (points.position - np.stack([x, y, radius]))
    normal /= np.sqrt(_dot(normal, normal))
    facing = _dot(points.view, normal)
    mirror = points.view - 2 * facing * normal
    rim = np.maximum(1 + facing, 0)
    rim = rim * rim * rim
    tint = points.albedo * np.float32(1.2) + np.float32(0.03)
    tint += (1 - tint) * (rim * np.float32(0.4))
    color = tint * _mirrored(frames, points, mirror)
    for lamp in range(frames.lamps.shape[1]):
        way, strength, extent = _to_lamp(things, frames, points, lamp)
        inverse = 1 / np.sqrt(_dot(way, way))
        glint = (_dot(way, mirror) * inverse - np.float32(0.90)) * 14
        glint = np.minimum(np.maximum(glint, 0), 1)
        lit = _lit(things, frames, points, lamp, way, extent, glint > 0)
        color += (strength * inverse * glint * lit) * (HALF + points.albedo)
    return color


def _mirrored(frames: Frames, points: Points, mirror: Array) -> Array:
    """What metal shows: the ground with its texture, a sky that is brightest at the horizon."""
    rise = mirror[2]
    away = points.position[2] / np.maximum(-rise, np.float32(0.02))
    x, y = points.position[0] + away * mirror[0], points.position[1] + away * mirror[1]
    texture = frames.texture[points.image]
    level = 2 + (away > 1.5).astype(np.intp) + (away > 4)
    grey = grey_of(texture, level, x, y)
    below = np.take(atlas().palettes, grey.astype(np.intp) + texture * 256, axis=1)
    below += (below.mean(axis=0) - below) * np.float32(0.6)  # paler than it is, so that the thing's own color is told
    near = away / (away + np.float32(0.45) * points.radius)  # the ground next to the thing is in its shade
    below *= near / (1 + (away / 5) ** 2)  # and dark far off, so that the horizon is a line
    high = np.minimum(np.maximum(rise, 0), 1)
    bright, deep = HORIZON[:, None] * np.float32(1.5), ZENITH[:, None] * np.float32(1.0)
    above = bright + (deep - bright) * (high * (2 - high))
    below += (above - below) * np.minimum(np.maximum(rise * 14 + HALF, 0), 1)
    return np.asarray(below)


def _dot(a: Array, b: Array) -> Array:
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def _to_lamp(things: Things, frames: Frames, points: Points, lamp: int) -> tuple[Array, Array, Array]:
    """(way to the lamp [3, M], its strength times `REACH`, its radius)."""
    rows = frames.lamps[things.image[points.run], lamp].T
    each = np.repeat(rows, points.length, axis=1)
    return each[:3] - points.position, each[4] * REACH, each[3]


def _lit(things: Things, frames: Frames, points: Points, lamp: int, way: Array, extent: Array, wanted: Array) -> Array:
    """The share of the lamp that other things leave to the points that are `wanted`, 0..1."""
    count = len(wanted)
    to, by = _in_the_way(things, frames, lamp)
    ends = np.cumsum(points.length)
    runs = np.arange(0, len(points.run), len(things.image))[:, None] + to  # in each list of points
    lengths = points.length[runs].ravel()
    starts = (ends[runs] - points.length[runs]).ravel()
    point = np.arange(int(lengths.sum())) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    other = np.repeat(np.tile(by, len(runs)), lengths)
    kept = np.flatnonzero(wanted[point])
    point, other = point[kept], other[kept]
    hides = np.empty(len(point), np.float32)
    for code, shape in enumerate(SHAPES):
        part = np.flatnonzero((other >= things.first[code]) & (other < things.first[code + 1]))
        if len(part):
            at, thing = point[part], other[part]
            x, y, radius, c, s = np.take(things.place, thing, axis=1)
            px, py, pz = np.take(points.position, at, axis=1)
            px, py, pz = (px - x) / radius, (py - y) / radius, pz / radius
            wx, wy, wz = np.take(way, at, axis=1)
            kx, ky = wx / wz, wy / wz
            beam = Beam(c * px + s * py, c * py - s * px, pz, c * kx + s * ky, c * ky - s * kx, extent[at] / wz)
            hides[part] = hidden(shape, beam)
    return 1 - np.minimum(np.bincount(point, hides, count).astype(np.float32), 1)


def _in_the_way(things: Things, frames: Frames, lamp: int) -> tuple[Array, Array]:
    """Pairs (a thing, another one of its scene whose shadow may reach it)."""
    x, y, radius, _, _ = things.place
    to, by = np.nonzero(things.image[:, None] == things.image[None, :])
    lx, ly, lz, extent, _ = frames.lamps[things.image[by], lamp].T
    height = 2 * radius[by]
    k = height / (lz - height)
    sx, sy = (x[by] - lx) * k, (y[by] - ly) * k  # where the tip of the shadow lies, from the foot
    dx, dy = x[to] - x[by], y[to] - y[by]
    part = np.minimum(np.maximum((dx * sx + dy * sy) / (sx * sx + sy * sy + np.float32(1e-6)), 0), 1)
    dx, dy = dx - part * sx, dy - part * sy
    least = np.float32(1.42) * (radius[to] + radius[by] * (1 + k)) + extent * k
    meets = np.flatnonzero((dx * dx + dy * dy < least * least) & (to != by))
    return to[meets], by[meets]
