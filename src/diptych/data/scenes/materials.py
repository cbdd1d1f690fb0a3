"""What light does on a thing: rubber scatters it, metal mirrors the ground, the sky and the lamps."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from diptych.data.scenes.batch import Frames, Met, Rays, Things
from diptych.data.scenes.ground import AMBIENT, HORIZON, LAMP, LAMP_TINT, REACH, SKY_TINT, ZENITH, grey_of
from diptych.data.scenes.shapes import Beam, hidden
from diptych.data.scenes.textures import atlas
from diptych.data.scenes.world import SHAPES

Array = np.ndarray[Any, Any]

GLOSS = np.float32(0.10)  # strength of the soft highlight on rubber


class Points(NamedTuple):
    """Points on things, in the world: their thing, position [3, M], normal [3, M], face."""

    thing: Array
    position: Array
    normal: Array
    face: Array


def points_of(things: Things, rays: list[Rays], met: list[Met], chosen: list[Array]) -> Points:
    """The chosen rays' points, one list after the other, turned into the world."""
    thing = np.concatenate([r.thing[i] for r, i in zip(rays, chosen)])
    point = np.concatenate([m.point[:, i] for m, i in zip(met, chosen)], axis=1)
    normal = np.concatenate([m.normal[:, i] for m, i in zip(met, chosen)], axis=1)
    face = np.concatenate([m.face[i] for m, i in zip(met, chosen)])
    x, y, radius, c, s = np.take(things.place, thing, axis=1)
    position = np.stack(
        [x + radius * (c * point[0] - s * point[1]), y + radius * (s * point[0] + c * point[1]), radius * point[2]]
    )
    return Points(
        thing, position, np.stack([c * normal[0] - s * normal[1], s * normal[0] + c * normal[1], normal[2]]), face
    )


def shade(things: Things, frames: Frames, points: Points) -> Array:
    """Linear colour of each point, float32 [3, M]."""
    image = things.image[points.thing]
    look = np.take(things.look, points.thing, axis=1)
    radius = things.place[2][points.thing]
    normal, position = points.normal, points.position
    metal = np.flatnonzero(look[3] > 0)
    view = position - np.take(frames.position.T, image, axis=1)
    view /= np.sqrt(view[0] * view[0] + view[1] * view[1] + view[2] * view[2])
    facing = view[0] * normal[0] + view[1] * normal[1] + view[2] * normal[2]
    mirror = view - 2 * facing * normal

    bounce = np.take(atlas().means, frames.texture[image], axis=1)
    up = np.float32(0.5) + np.float32(0.5) * normal[2]
    low = np.minimum(position[2] / (radius * 1.2), 1)  # near the ground the thing itself keeps light off
    sky = AMBIENT * (up * (np.float32(0.65) + np.float32(0.35) * low))
    ground = AMBIENT * (1 - up) * (np.float32(0.35) + np.float32(0.45) * low)
    light = SKY_TINT[:, None] * sky + bounce * ground
    shine = np.zeros_like(facing)
    glint = np.zeros_like(facing)
    for lamp in range(frames.lamps.shape[1]):
        at = np.take(frames.lamps[:, lamp].T, image, axis=1)
        way = at[:3] - position
        square = way[0] * way[0] + way[1] * way[1] + way[2] * way[2]
        inverse = 1 / np.sqrt(square)
        fall = (at[4] * REACH) / square * (1 - _hidden(things, frames, points, lamp, at, way))
        cosine = (way[0] * normal[0] + way[1] * normal[1] + way[2] * normal[2]) * inverse
        light += LAMP_TINT[:, None] * (LAMP * fall * np.maximum(cosine, 0))
        mirrored = (way[0] * mirror[0] + way[1] * mirror[1] + way[2] * mirror[2]) * inverse
        mirrored = np.maximum(mirrored, 0)
        soft = mirrored * mirrored
        soft *= soft
        soft *= soft
        soft *= soft  # to the power of 16
        shine += fall * soft
        glint += fall * np.minimum(np.maximum((mirrored - np.float32(0.93)) * 25, 0), 1)
    color = look[:3] * light + GLOSS * shine
    if len(metal):
        color[:, metal] = _metal(
            frames,
            look[:3, metal],
            position[:, metal],
            mirror[:, metal],
            image[metal],
            {
                "radius": radius[metal],
                "facing": facing[metal],
                "glint": glint[metal],
                "light": light[:, metal],
                "bounce": bounce[:, metal],
            },
        )
    return color


def _metal(
    frames: Frames, albedo: Array, position: Array, mirror: Array, image: Array, more: dict[str, Array]
) -> Array:
    """A tinted mirror: the ground with its texture below, the sky with a brighter band at the horizon above."""
    rise = mirror[2]
    fall = np.maximum(-rise, np.float32(0.02))
    travel = position[2] / fall
    tiles = atlas()
    texture = frames.texture[image]
    grey = grey_of(
        texture, np.full(len(texture), 2), position[0] + travel * mirror[0], position[1] + travel * mirror[1]
    )
    below = np.take(tiles.palettes, grey.astype(np.intp) + texture * 256, axis=1)
    open_ = travel / (travel + np.float32(0.35) * more["radius"])  # the ground next to the thing is in its shade
    below *= open_ * np.float32(0.95)
    fade = 1 / (1 + (travel / 12) ** 2)
    below = below * fade + HORIZON[:, None] * (1 - fade)
    high = np.minimum(np.maximum(rise, 0), 1)
    above = HORIZON[:, None] * np.float32(1.25) + (ZENITH * np.float32(0.45) - HORIZON * np.float32(1.25))[:, None] * (
        high * (2 - high)
    )
    blend = np.minimum(np.maximum(rise * 12 + np.float32(0.5), 0), 1)
    seen = below + (above - below) * blend
    rim = 1 + more["facing"]  # 0 seen straight on, 1 at the rim
    rim = rim * rim * rim
    tint = albedo * np.float32(0.92) + np.float32(0.05)
    tint += (1 - tint) * (rim * np.float32(0.5))
    return np.asarray(
        tint * seen * np.float32(1.15) + albedo * more["light"] * np.float32(0.18) + more["glint"] * np.float32(1.6)
    )


def _hidden(things: Things, frames: Frames, points: Points, lamp: int, at: Array, way: Array) -> Array:
    """The share of the lamp that other things hide from the points."""
    seen = np.ones(len(points.thing), np.float32)
    others = _in_the_way(things, frames, lamp)
    for row in others:
        other = row[points.thing]
        chosen = np.flatnonzero(other >= 0)
        for code, shape in enumerate(SHAPES):
            kind = chosen[(other[chosen] >= things.first[code]) & (other[chosen] < things.first[code + 1])]
            if not len(kind):
                continue
            x, y, radius, c, s = np.take(things.place, other[kind], axis=1)
            px, py, pz = points.position[:, kind]
            px, py, pz = (px - x) / radius, (py - y) / radius, pz / radius
            wx, wy, wz = way[:, kind]
            kx, ky = wx / wz, wy / wz
            beam = Beam(c * px + s * py, c * py - s * px, pz, c * kx + s * ky, c * ky - s * kx, at[3, kind] / wz)
            seen[kind] *= 1 - hidden(shape, beam)
    return 1 - seen


def _in_the_way(things: Things, frames: Frames, lamp: int) -> Array:
    """For each thing the others of its scene whose shadow may reach it, in rows, filled up with -1."""
    x, y, radius, _, _ = things.place
    count = len(x)
    pairs = np.flatnonzero((things.image[:, None] == things.image[None, :]).ravel())
    to, by = pairs // count, pairs % count
    lx, ly, lz, extent, _ = frames.lamps[things.image[by], lamp].T
    height = 2 * radius[by]
    k = height / (lz - height)
    sx, sy = (x[by] - lx) * k, (y[by] - ly) * k  # where the tip of the shadow lies, from the foot
    dx, dy = x[to] - x[by], y[to] - y[by]
    part = np.minimum(np.maximum((dx * sx + dy * sy) / (sx * sx + sy * sy + np.float32(1e-6)), 0), 1)
    dx, dy = dx - part * sx, dy - part * sy
    least = np.float32(1.42) * (radius[to] + radius[by] * (1 + k)) + extent * k
    meets = (dx * dx + dy * dy < least * least) & (to != by)
    to, by = to[meets], by[meets]
    order = np.lexsort((things.index[by], to))
    to, by = to[order], by[order]
    rank = np.arange(len(to)) - np.searchsorted(to, to)
    rows = np.full((int(rank.max(initial=-1)) + 1, count), -1, np.intp)
    rows[rank, to] = by
    return rows
