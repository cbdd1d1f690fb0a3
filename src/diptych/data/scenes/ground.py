"""The ground and the sky above it: texture, light, the shadows of things, haze."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from diptych.data.scenes.batch import Frames, Things, fill, screen_boxes
from diptych.data.scenes.shapes import Beam, crowding, hidden
from diptych.data.scenes.textures import LEVELS, SPAN, TILE, atlas
from diptych.data.scenes.world import SHAPES

Array = np.ndarray[Any, Any]

HORIZON = np.array([0.70, 0.74, 0.80], np.float32)  # linear light
ZENITH = np.array([0.30, 0.42, 0.62], np.float32)
LAMP_TINT = np.array([1.06, 1.0, 0.92], np.float32)
SKY_TINT = np.array([0.94, 1.0, 1.08], np.float32)
AMBIENT = np.float32(0.42)  # light from all of the sky
LAMP = np.float32(0.82)  # light of a lamp of strength 1 on a surface that faces it, at a distance of `REACH`
REACH = np.float32(10.0)  # it falls with the distance and not with its square: a lamp with a wide shade
HAZE = np.float32(45.0)  # depth at which half of the ground is lost in haze
CROWD = np.float32(1.2)  # how far from a thing's foot it hides a part of the sky that can be seen, in radii


class Ground(NamedTuple):
    """What each pixel would show without things: where its ray meets the ground, and the light there.

    Attributes:
        x, y: of the point, float32 [N].
        t: its depth, float32 [B, S]: rows of a picture share it, since cameras do not tilt sideways.
    """

    x: Array
    y: Array
    t: Array


def strike(frames: Frames, size: int) -> Ground:
    """Where the rays of all pixels meet the ground; rays above the horizon meet it very far away."""
    at = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
    v = at * frames.slope[:, None]
    down = frames.forward[:, 2:] - v * frames.up[:, 2:]
    t = frames.position[:, 2:] / np.maximum(-down, np.float32(1e-3))
    u = (at * frames.slope[:, None])[:, None, :] * t[:, :, None]
    x, y = (
        u * frames.right[:, i, None, None]
        + (frames.position[:, i, None] + t * (frames.forward[:, i, None] - v * frames.up[:, i, None]))[:, :, None]
        for i in (0, 1)
    )
    return Ground(x.ravel(), y.ravel(), t)


def grey_of(texture: Array, level: Array, x: Array, y: Array) -> Array:
    """The texture's grey at points of the ground, between the four nearest texels; 0..255."""
    tiles = atlas()
    side = (TILE >> level).astype(np.int32)
    start = tiles.starts[texture, level]
    scale = (side / np.float32(SPAN)).astype(np.float32)
    x, y = x * scale - np.float32(0.5), y * scale - np.float32(0.5)
    left, low = np.floor(x), np.floor(y)
    part_x, part_y = x - left, y - low
    mask = side - 1
    column, row = left.astype(np.int32), low.astype(np.int32)
    near, far = start + (row & mask) * side, start + ((row + 1) & mask) * side
    west, east = column & mask, (column + 1) & mask
    greys = tiles.greys
    a, b = greys.take(near + west), greys.take(far + west)
    a += part_x * (greys.take(near + east) - a)
    b += part_x * (greys.take(far + east) - b)
    return np.asarray(a + part_y * (b - a))


def albedo(frames: Frames, ground: Ground, size: int) -> Array:
    """The ground's albedo at every pixel, float32 [3, N]."""
    wide = 2 * ground.t * frames.slope[:, None] / size  # of a pixel, on the ground
    long = wide * ground.t / frames.position[:, 2:]
    texels = np.sqrt(wide * long) * np.float32(TILE / SPAN)
    level = np.sum([texels > 1.2 * 2**i for i in range(LEVELS - 1)], axis=0)[:, :, None]
    shape = (len(level), size, size)
    x, y = ground.x.reshape(shape), ground.y.reshape(shape)
    grey = grey_of(frames.texture[:, None, None], level, x, y)
    entry = grey.astype(np.intp) + frames.texture[:, None, None] * 256
    return np.asarray(np.take(atlas().palettes, entry.ravel(), axis=1))


def haze(frames: Frames, ground: Ground, size: int) -> tuple[Array, Array]:
    """(share of the ground's own colour that is left, what haze and sky add [3, B S 1]) for every row of pixels."""
    left = 1 / (1 + (ground.t / HAZE) ** 2)
    at = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
    rise = frames.forward[:, 2:] - at * frames.slope[:, None] * frames.up[:, 2:]
    left = np.where(rise < 0, left, 0)
    high = np.minimum(np.maximum(rise * 2, 0), 1)
    sky = HORIZON[:, None, None] + (ZENITH - HORIZON)[:, None, None] * high
    return left, sky * (1 - left)


def lamp_on_ground(frames: Frames, ground: Ground, size: int, lamp: int) -> Array:
    """Light of one lamp on the ground without shadows, float32 [N]."""
    lx, ly, lz, _, strength = (frames.lamps[:, lamp, i, None] for i in range(5))
    x, y = ground.x.reshape(len(lx), -1) - lx, ground.y.reshape(len(lx), -1) - ly
    square = x * x + y * y + lz * lz
    return np.asarray((LAMP * REACH * strength * lz) / square).ravel()


def shadows(things: Things, frames: Frames, ground: Ground, size: int, wanted: Array) -> tuple[list[Array], Array]:
    """(the share of each lamp that things hide from the ground, the share of the sky), float32 [N] each.

    Only `wanted` pixels are computed. Where shadows of several things meet, their shares add up to at most 1.
    """
    count = len(ground.x)
    dark, crowd = [], np.zeros(count, np.float32)
    for lamp in range(frames.lamps.shape[1]):
        box = _shadow_boxes(things, frames, size, lamp)
        thing, pixel, _, _ = fill(box, things.image, size)
        kept = np.flatnonzero(wanted[pixel])
        thing, pixel = thing[kept], pixel[kept]
        each = np.concatenate([things.place, frames.lamps[things.image, lamp, :4].T])
        spread = np.repeat(each, np.bincount(thing, minlength=len(things.image)), axis=1)
        x, y, radius, c, s, lx, ly, lz, extent = spread
        gx, gy = ground.x[pixel], ground.y[pixel]
        kx, ky = (lx - gx) / lz, (ly - gy) / lz
        px, py = (gx - x) / radius, (gy - y) / radius
        beam = Beam(c * px + s * py, c * py - s * px, np.zeros_like(px), c * kx + s * ky, c * ky - s * kx, extent / lz)
        share = np.empty_like(px)
        near = np.empty_like(px)
        bounds = np.searchsorted(thing, things.first)
        for shape, begin, end in zip(SHAPES, bounds, bounds[1:]):
            if begin < end:
                part = Beam(*(value[begin:end] for value in beam))
                share[begin:end] = hidden(shape, part)
                if lamp == 0:
                    near[begin:end] = crowding(shape, part.x, part.y)
        dark.append(np.minimum(np.bincount(pixel, share, count).astype(np.float32), 1))
        if lamp == 0:
            crowd = np.minimum(np.bincount(pixel, near, count).astype(np.float32), np.float32(0.85))
    return dark, crowd


def _shadow_boxes(things: Things, frames: Frames, size: int, lamp: int) -> Array:
    """Pixels that a thing's shadow and the darker ground around its foot can cover."""
    x, y, radius, c, s = things.place
    lx, ly, lz, extent, _ = frames.lamps[things.image, lamp].T
    top = 2 * radius
    k = top / (lz - top)
    reach = radius * np.where(np.arange(len(x)) < things.first[1], np.abs(c) + np.abs(s), np.float32(1))
    far = reach * (1 + k) + extent * k
    around = reach + radius * CROWD
    sx, sy = x + (x - lx) * k, y + (y - ly) * k
    zero = np.zeros_like(x)
    foot = (x - around, x + around, y - around, y + around, zero, zero)
    tip = (sx - far, sx + far, sy - far, sy + far, zero, zero)
    a, b = (screen_boxes(things.image, frames, size, bounds) for bounds in (foot, tip))
    return np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
