"""The textures of the ground: a tile of greys per texture, smaller and smaller copies of it, and a palette.

The tiles are made of sums, products and a generator whose numbers are frozen, so that they are the same everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from diptych.data.scenes.world import BACKGROUNDS

Array = np.ndarray[Any, Any]

TILE = 256  # texels a side
SPAN = 8.0  # world units a side; the tile repeats
LEVELS = 6  # each half as wide as the one before

# Two ends of a palette, sRGB. They are paler than any colour of things, so that nothing is lost on the ground.
ENDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "plain": ((176, 175, 173), (194, 193, 191)),
    "checker": ((146, 148, 152), (212, 210, 204)),
    "wood": ((158, 124, 92), (214, 184, 148)),
    "sand": ((196, 172, 132), (232, 216, 182)),
    "grass": ((116, 140, 88), (172, 188, 124)),
    "stone": ((122, 124, 130), (184, 184, 184)),
}


class Atlas(NamedTuple):
    """All textures in flat arrays, so that pictures of different grounds are looked up in one go.

    Attributes:
        greys: every texel of every level of every texture, 0..255, float32.
        starts: where level l of texture b begins, [b, l].
        palettes: linear albedo, float32 [3, textures * 256].
        means: each texture's mean albedo, [3, textures].
    """

    greys: Array
    starts: Array
    palettes: Array
    means: Array


@cache
def atlas() -> Atlas:
    """The textures of `BACKGROUNDS`, in that order; made on first use."""
    greys, palettes, means = [], [], []
    starts: list[list[int]] = []
    at = 0
    for name in BACKGROUNDS:
        tile = np.clip(np.rint(255 * _DRAWN[name]()), 0, 255).astype(np.float32)
        starts.append([])
        for _ in range(LEVELS):
            starts[-1].append(at)
            greys.append(tile.ravel())
            at += tile.size
            tile = (tile[::2, ::2] + tile[1::2, ::2] + tile[::2, 1::2] + tile[1::2, 1::2]) * np.float32(0.25)
        dark, light = (linear(np.array(end, np.float64)) for end in ENDS[name])
        step = np.linspace(0, 1, 256)[:, None]
        palettes.append((dark + (light - dark) * step).T)
        means.append(palettes[-1][:, int(greys[-1].mean())])
    return Atlas(
        np.concatenate(greys),
        np.array(starts, np.int32),
        np.concatenate(palettes, axis=1).astype(np.float32),
        np.array(means, np.float32).T.copy(),
    )


def linear(srgb: Array) -> Array:
    """Linear light in 0..1 of sRGB values in 0..255 (IEC 61966-2-1)."""
    s = srgb / 255.0
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def _noise(across: int, down: int, seed: int) -> Array:
    """Smooth periodic noise in 0..1 with `across` x `down` hills on the tile."""
    lattice = np.random.RandomState(seed).random_sample((down, across))
    rows, columns = _weights(down), _weights(across)
    high = lattice[rows[0]] * (1 - rows[2])[:, None] + lattice[rows[1]] * rows[2][:, None]
    return np.asarray(high[:, columns[0]] * (1 - columns[2]) + high[:, columns[1]] * columns[2])


def _weights(cells: int) -> tuple[Array, Array, Array]:
    at = np.arange(TILE) * (cells / TILE)
    low = at.astype(int)
    part = at - low
    return low, (low + 1) % cells, part * part * (3 - 2 * part)


def _cells(count: int) -> tuple[Array, Array]:
    """For each texel of one axis: which of `count` cells it is in, and where in that cell, 0..1."""
    at = (np.arange(TILE) + 0.5) * (count / TILE)
    return at.astype(int), at - at.astype(int)


def _plain() -> Array:
    return 0.35 + 0.2 * _noise(8, 8, 1) + 0.2 * _noise(64, 64, 2)


def _checker() -> Array:
    cell, _ = _cells(8)
    squares = (cell[:, None] + cell[None, :]) % 2
    return 0.12 + 0.66 * squares + 0.12 * _noise(8, 8, 3) + 0.1 * _noise(64, 64, 4)


def _wood() -> Array:
    plank, part = _cells(10)
    tone = np.random.RandomState(5).random_sample(10)[plank]
    shift = np.random.RandomState(6).randint(0, TILE, 10)[plank]
    grain = 0.55 * _noise(40, 3, 7) + 0.45 * _noise(128, 8, 8)
    grain = np.stack([np.roll(grain[:, i], shift[i]) for i in range(TILE)], axis=1)
    joint = (np.minimum(part, 1 - part) < 0.035)[None, :]
    ends = (np.arange(TILE)[:, None] - shift[None, :]) % TILE < 2
    return np.where(joint | ends, 0.0, 0.15 + 0.4 * tone[None, :] + 0.45 * grain)


def _sand() -> Array:
    y = np.arange(TILE)[:, None] / TILE + 0.04 * _noise(6, 6, 9)
    wave = y * 14 % 1
    ripple = 4 * wave * (1 - wave)
    return 0.2 + 0.3 * ripple + 0.3 * _noise(10, 10, 10) + 0.2 * _noise(128, 128, 11)


def _grass() -> Array:
    return 0.38 * _noise(12, 12, 12) + 0.32 * _noise(96, 48, 13) + 0.3 * _noise(128, 64, 14)


def _stone() -> Array:
    row, down = _cells(6)
    at = (np.arange(TILE) + 0.5) * (5 / TILE)
    x = (at[None, :] + 0.5 * (row % 2)[:, None]) % 5
    slab, across = x.astype(int), x - x.astype(int)
    tone = np.random.RandomState(15).random_sample((6, 5))[row[:, None], slab]
    joint = (np.minimum(across, 1 - across) < 0.03) | (np.minimum(down, 1 - down) < 0.03)[:, None]
    mottle = 0.5 * _noise(24, 24, 16) + 0.5 * _noise(96, 96, 17)
    return np.where(joint, 0.08, 0.25 + 0.35 * tone + 0.4 * mottle)


_DRAWN = {"plain": _plain, "checker": _checker, "wood": _wood, "sand": _sand, "grass": _grass, "stone": _stone}
