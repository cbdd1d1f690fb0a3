"""The geometry of the shapes: where a ray meets one, and how much of a lamp one hides.

Every shape is computed in its own frame: it stands on the origin with radius 1 and height 2, and is not turned. Rays
are arrays; a row of ray components holds x, y, z. Divisions and roots are all that is used besides sums and products,
so that the results are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

TINY = np.float32(1e-6)
FAR = np.float32(1e9)  # where nothing is met
REST = np.float32(0.09)
SLANT = np.float32(0.8944272)  # cosine of the slope of a cone's side, 2 / sqrt(5)


class Hit(NamedTuple):
    """`t` along the ray (`FAR`: missed), the outward normal, and which face was met (0 where there is only one)."""

    t: Array
    normal: tuple[Array, Array, Array]
    face: Array


def sphere(o: Array, d: Array) -> Hit:
    """Rays o + t d with the sphere around (0, 0, 1)."""
    ox, oy, oz = o[0], o[1], o[2] - 1
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = ox * d[0] + oy * d[1] + oz * d[2]
    root = b * b - a * (ox * ox + oy * oy + oz * oz - 1)
    t = np.where(root > 0, -(b + np.sqrt(np.maximum(root, 0))) / a, FAR)
    return Hit(t, (ox + t * d[0], oy + t * d[1], oz + t * d[2]), np.zeros(t.shape, np.int16))


def cylinder(o: Array, d: Array) -> Hit:
    """Rays from above with the upright cylinder; face 1 is its top."""
    top = (2 - o[2]) / (d[2] - TINY)
    x, y = o[0] + top * d[0], o[1] + top * d[1]
    capped = (x * x + y * y <= 1) & (top > 0)
    a = d[0] * d[0] + d[1] * d[1] + TINY
    b = o[0] * d[0] + o[1] * d[1]
    root = b * b - a * (o[0] * o[0] + o[1] * o[1] - 1)
    t = -(b + np.sqrt(np.maximum(root, 0))) / a
    z = o[2] + t * d[2]
    side = (root > 0) & (z >= 0) & (z <= 2)
    t = np.where(capped, top, np.where(side, t, FAR))
    zero = np.float32(0)
    normal = (
        np.where(capped, zero, o[0] + t * d[0]),
        np.where(capped, zero, o[1] + t * d[1]),
        capped.astype(np.float32),
    )
    return Hit(t, normal, capped.astype(np.int16))


def cone(o: Array, d: Array) -> Hit:
    """Rays from above with the upright cone, whose tip is at height 2."""
    w = 2 - o[2]  # downwards from the tip
    a = d[0] * d[0] + d[1] * d[1] - d[2] * d[2] * 0.25 + TINY
    b = o[0] * d[0] + o[1] * d[1] + w * d[2] * 0.25
    root = b * b - a * (o[0] * o[0] + o[1] * o[1] - w * w * 0.25)
    t = -(b + np.sqrt(np.maximum(root, 0))) / a
    down = w - t * d[2]
    t = np.where((root > 0) & (down >= 0) & (down <= 2), t, FAR)
    x, y = o[0] + t * d[0], o[1] + t * d[1]
    length = SLANT / np.sqrt(x * x + y * y + TINY)
    return Hit(t, (x * length, y * length, np.full(t.shape, 0.5 * SLANT, np.float32)), np.zeros(t.shape, np.int16))


def cube(o: Array, d: Array) -> Hit:
    """Rays with the cube; faces 0 and 1 look along x, 2 and 3 along y, 4 and 5 along z."""
    inverse = 1 / np.where(np.abs(d) < TINY, TINY, d)
    centre = -np.stack([o[0], o[1], o[2] - 1]) * inverse
    half = np.abs(inverse)
    near, far = centre - half, centre + half
    t = np.maximum(np.maximum(near[0], near[1]), near[2])
    hit = (t < np.minimum(np.minimum(far[0], far[1]), far[2])) & (t > 0)
    on_x = near[0] == t
    on_y = ~on_x & (near[1] == t)
    on_z = ~(on_x | on_y)
    sign = np.where(d > 0, np.float32(-1), np.float32(1))
    face = np.where(on_x, sign[0] > 0, np.where(on_y, 2 + (sign[1] > 0), 4 + (sign[2] > 0)))
    return Hit(np.where(hit, t, FAR), (sign[0] * on_x, sign[1] * on_y, sign[2] * on_z), face.astype(np.int16))


MEETS: dict[str, Callable[[Array, Array], Hit]] = {
    "cube": cube,
    "sphere": sphere,
    "cylinder": cylinder,
    "cone": cone,
}


class Beam(NamedTuple):
    """Straight ways from points to a lamp, in the frame of the shape that may be in their way.

    Attributes:
        x, y, z: the points.
        kx, ky: how far the way leads in x and y on each unit that it climbs.
        spread: half the width of the penumbra on each unit that it climbs.
    """

    x: Array
    y: Array
    z: Array
    kx: Array
    ky: Array
    spread: Array


def hidden(shape: str, beam: Beam) -> Array:
    """The part of the lamp that the shape hides, 0..1.

    The way to the lamp's centre passes the shape's surface at a distance, negative inside; that distance over the
    width of the penumbra there is smoothed into a share.
    """
    distance, climb = _PASSES[shape](beam)
    share = np.float32(0.5) - distance / (2 * beam.spread * climb + np.float32(0.06))
    share = np.minimum(np.maximum(share, 0), 1)
    return np.asarray(share * share * (3 - 2 * share))


def _pass_sphere(beam: Beam) -> tuple[Array, Array]:
    up = 1 - beam.z
    climb = (up - beam.x * beam.kx - beam.y * beam.ky) / (1 + beam.kx * beam.kx + beam.ky * beam.ky)
    climb = np.maximum(climb, 0)
    x, y, z = beam.x + climb * beam.kx, beam.y + climb * beam.ky, climb - up
    return np.sqrt(x * x + y * y + z * z) - 1, climb


def _pass_cylinder(beam: Beam) -> tuple[Array, Array]:
    square = beam.kx * beam.kx + beam.ky * beam.ky + TINY
    room = 2 - beam.z
    climb = np.minimum(np.maximum(-(beam.x * beam.kx + beam.y * beam.ky) / square, 0), room)
    x, y = beam.x + climb * beam.kx, beam.y + climb * beam.ky
    return np.where(room > 0, np.sqrt(x * x + y * y) - 1, FAR), np.maximum(climb, 0)


def _pass_cone(beam: Beam) -> tuple[Array, Array]:
    """Least of |q + k climb| - (1 - z / 2): with a and b the parts of q along and across k, at
    a + |k| climb = -b / 2 / sqrt(k^2 - 1/4); at the ground if k is no steeper than the side."""
    square = beam.kx * beam.kx + beam.ky * beam.ky + TINY
    along = beam.x * beam.kx + beam.y * beam.ky
    across = np.abs(beam.x * beam.ky - beam.y * beam.kx)
    room = np.maximum(2 - beam.z, 0)
    lower = across * 0.5 / np.sqrt(np.maximum(square - 0.25, TINY))
    climb = np.minimum(np.maximum(-(along + lower) / square, 0), room)
    climb = np.where(square > 0.25, climb, 0)
    x, y = beam.x + climb * beam.kx, beam.y + climb * beam.ky
    away = np.sqrt(x * x + y * y) - (2 - beam.z - climb) * 0.5
    return np.where(beam.z < 2, away * SLANT, FAR), climb


def _pass_cube(beam: Beam) -> tuple[Array, Array]:
    """The larger of |x| and |y| is convex along the way: its least value is at an end or where one of them is 0 or
    both are equal."""
    x, y = beam.x, beam.y
    kx = np.where(np.abs(beam.kx) < TINY, TINY, beam.kx)
    ky = np.where(np.abs(beam.ky) < TINY, TINY, beam.ky)
    room = np.maximum(2 - beam.z, 0)
    best = np.maximum(np.abs(x), np.abs(y))
    climb = np.zeros_like(best)
    for at in (room, -x / kx, -y / ky, -(x - y) / (kx - ky + TINY), -(x + y) / (kx + ky + TINY)):
        clamped = np.minimum(np.maximum(at, 0), room)
        value = np.maximum(np.abs(x + clamped * kx), np.abs(y + clamped * ky))
        closer = value < best
        best = np.where(closer, value, best)
        climb = np.where(closer, clamped, climb)
    return np.where(beam.z < 2, best - 1, FAR), climb


_PASSES = {"cube": _pass_cube, "sphere": _pass_sphere, "cylinder": _pass_cylinder, "cone": _pass_cone}


def crowding(shape: str, x: Array, y: Array) -> Array:
    """The part of the sky that the shape hides from points (x, y) of the ground: ambient occlusion, 0..1.

    A sphere: its solid angle weighted by the cosine, 1 / (1 + d^2)^1.5. The others: as a wall of their height at the
    distance of their foot, (1 - e / sqrt(e^2 + 4)) / 2, less with the distance since walls end. What is left at a
    distance of about 1.2 is taken off, so that it ends there.
    """
    if shape == "sphere":
        square = 1 + x * x + y * y
        return np.asarray(np.maximum(1 / (square * np.sqrt(square)) - REST, 0))
    foot = np.maximum(np.abs(x), np.abs(y)) if shape == "cube" else np.sqrt(x * x + y * y)
    away = np.maximum(foot - 1, 0)
    wall = np.float32(0.3 if shape == "cone" else 0.5)
    return np.asarray(np.maximum(wall * (1 - away / np.sqrt(away * away + 4)) / (1 + away * away) - REST, 0))
