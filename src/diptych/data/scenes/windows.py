"""Parts of pictures: many tries of things before one camera, each drawn only where it matters.

The same pixels as `render` draws (rarely one grey level off), except at the borders of a window, where edges are not
smoothed. What is the same in all tries, the ground in its light, is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.data.scenes.batch import (
    Frames,
    Rays,
    Things,
    boxes_of,
    fill,
    frames_of,
    meet,
    nearest,
    screen_boxes,
    things_of,
)
from diptych.data.scenes.ground import (
    AMBIENT,
    CROWD,
    LAMP_TINT,
    SKY_TINT,
    albedo,
    haze,
    lamp_on_ground,
    strike,
)
from diptych.data.scenes.materials import metal, points_of, rubber
from diptych.data.scenes.render import FACES, WITHIN
from diptych.data.scenes.shapes import Beam, crowding, hidden
from diptych.data.scenes.styles import INK, develop, flatten, pencil
from diptych.data.scenes.world import SHAPES, Scene, Thing

Array = np.ndarray[Any, Any]
Window = tuple[slice, slice]  # rows and columns

MOST_PIXELS = 60_000  # drawn in one go
MARGIN = 20  # part of the picture's side that is drawn around a thing
FULLEST = np.float32(0.85)  # of what things can hide of the sky


class Stage:
    """A scene's ground, camera, lamp and style, before which things are tried. It has one lamp."""

    def __init__(self, scene: Scene, size: int) -> None:
        self.scene, self.size = scene, size
        self.frames = frames = frames_of([scene])
        ground = strike(frames, size)
        self.x, self.y = ground.x, ground.y
        self.albedo = albedo(frames, ground, size)
        self.lamp = lamp_on_ground(frames, ground, size, 0)
        left, added = haze(frames, ground, size)
        self.left, self.added = left[0], added[:, 0]

    def region(self, things: Sequence[Thing]) -> Window:
        """Where in the picture the things may be seen, with a margin in which their shadows begin."""
        box = boxes_of(things_of([replace(self.scene, things=tuple(things))], self.frames), self.frames, self.size)
        margin = max(2, self.size // MARGIN)
        low, high = np.maximum(box[:2].min(axis=1) - margin, 0), np.minimum(box[2:].max(axis=1) + margin, self.size)
        (left, top), (right, bottom) = low.tolist(), np.maximum(low, high).tolist()
        return slice(top, bottom), slice(left, right)

    def draw(self, tries: Sequence[tuple[tuple[Thing, ...], Window]]) -> list[tuple[Array, Array]]:
        """What a window shows of these things: (picture, float32 [h, w, 3]; the thing seen, -1 for none, [h, w])."""
        found: list[tuple[Array, Array]] = []
        part: list[tuple[tuple[Thing, ...], Window]] = []
        pixels = 0
        for one in tries:
            part.append(one)
            rows, columns = one[1]
            pixels += (rows.stop - rows.start) * (columns.stop - columns.start)
            if pixels > MOST_PIXELS:
                found += self._draw(part)
                part, pixels = [], 0
        return found + (self._draw(part) if part else [])

    def _draw(self, tries: Sequence[tuple[tuple[Thing, ...], Window]]) -> list[tuple[Array, Array]]:
        size, style, count = self.size, self.scene.style, len(tries)
        half = np.float32(2 / size)
        view = np.array([(c.start, r.start, c.stop, r.stop) for _, (r, c) in tries], np.intp).T
        places = _Places(view, size)
        frames = Frames(*(np.repeat(part, count, axis=0) for part in self.frames))
        things = things_of([replace(self.scene, things=some) for some, _ in tries], frames)

        thing, pixel, column, row = places.fill(boxes_of(things, frames, size), things.image)
        rays = Rays(thing, pixel, (column + 0.5) * half - 1, (row + 0.5) * half - 1)
        met = meet(things, rays)
        seen, _ = nearest(met, pixel, places.count)
        ids = np.full(places.count, -1, np.int16)
        ids[pixel[seen]] = things.number[thing[seen]]
        labels = ids * FACES
        labels[pixel[seen]] += met.face[seen]
        edge = places.edges(labels)

        again = np.flatnonzero(edge[pixel])
        slots = np.flatnonzero(edge)
        number = np.empty(places.count, np.intp)
        number[slots] = np.arange(len(slots))
        slot = (number[pixel[again], None] * 4 + np.arange(4)).ravel()
        u, v = ((at[again, None] + WITHIN[:, i] * half).ravel() for i, at in enumerate((rays.u, rays.v)))
        finer = Rays(np.repeat(thing[again], 4), slot, u, v)
        met_finer = meet(things, finer)
        seen_finer, _ = nearest(met_finer, slot, 4 * len(slots))

        whole = seen[~edge[pixel[seen]]]
        base = self._ground(frames, things, places, (ids < 0) | edge)
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
        sums = quarters[:, :, 0] + quarters[:, :, 1] + quarters[:, :, 2] + quarters[:, :, 3]
        base[:, slots] = sums * np.float32(0.25)
        lines = np.zeros(places.count if style != "photo" else 0, np.float32)
        if style != "photo":
            four = np.full(4 * len(slots), -1, np.int16)
            four[slot[seen_finer]] = things.number[finer.thing[seen_finer]] * FACES + met_finer.face[seen_finer]
            apart = (four.reshape(-1, 4) != four[::4, None]).any(axis=1)
            lines[slots] = np.where(apart, np.float32(0.85), np.float32(0.2))
        if style == "flat":
            base += (INK - base) * lines
        image = develop(base)
        if style == "sketch":
            image = places.on_sheets(image, ids >= 0, lines)
        return list(zip(places.cut(image.astype(np.float32)), places.cut(ids)))

    def _ground(self, frames: Frames, things: Things, places: _Places, wanted: Array) -> Array:
        """Linear light of the ground and the sky in all windows, float32 [3, N]."""
        at = places.at
        dark, crowd = self._shadows(frames, things, places, wanted)
        light = np.take(self.albedo, at, axis=1)
        if self.scene.style == "flat":
            light *= np.where(np.maximum(dark, crowd) > 0.5, np.float32(0.66), np.float32(0.98))
        else:
            sky = SKY_TINT[:, None] * (AMBIENT * (1 - crowd))
            sky += LAMP_TINT[:, None] * (self.lamp[at] * (1 - dark))
            light *= sky
        light *= self.left[places.row]
        light += np.take(self.added, places.row, axis=1)
        return light

    def _shadows(self, frames: Frames, things: Things, places: _Places, wanted: Array) -> tuple[Array, Array]:
        """The share of the lamp and of the sky that things hide from the ground."""
        x, y, radius, c, s = things.place
        lx, ly, lz, extent, _ = frames.lamps[things.image, 0].T
        k = 2 * radius / (lz - 2 * radius)
        reach = radius * np.float32(1.4143)
        far, around = reach * (1 + k) + extent * k, reach + radius * CROWD
        sx, sy, zero = x + (x - lx) * k, y + (y - ly) * k, np.zeros_like(x)
        foot = (x - around, x + around, y - around, y + around, zero, zero)
        tip = (sx - far, sx + far, sy - far, sy + far, zero, zero)
        a, b = (screen_boxes(things.image, frames, self.size, bounds) for bounds in (foot, tip))
        box = np.concatenate([np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])])
        thing, pixel, _, _ = places.fill(box, things.image)
        kept = np.flatnonzero(wanted[pixel])
        thing, pixel = thing[kept], pixel[kept]
        each = np.stack([x, y, radius, c, s, lx, ly, lz, extent])
        x, y, radius, c, s, lx, ly, lz, extent = np.repeat(each, np.bincount(thing, minlength=len(c)), axis=1)
        at = places.at[pixel]
        gx, gy = self.x[at], self.y[at]
        kx, ky = (lx - gx) / lz, (ly - gy) / lz
        px, py = (gx - x) / radius, (gy - y) / radius
        beam = Beam(c * px + s * py, c * py - s * px, np.zeros_like(px), c * kx + s * ky, c * ky - s * kx, extent / lz)
        share, near = np.empty_like(px), np.empty_like(px)
        bounds = np.searchsorted(thing, things.first)
        for shape, begin, end in zip(SHAPES, bounds, bounds[1:]):
            if begin < end:
                part = Beam(*(value[begin:end] for value in beam))
                share[begin:end] = hidden(shape, part)
                near[begin:end] = crowding(shape, part.x, part.y)
        dark = np.minimum(np.bincount(pixel, share, places.count).astype(np.float32), 1)
        return dark, np.minimum(np.bincount(pixel, near, places.count).astype(np.float32), FULLEST)


class _Places:
    """Pixels of windows, one window after the other, row by row. `at`: their place in the whole picture."""

    def __init__(self, view: Array, size: int) -> None:
        self.view, self.size = view, size
        self.width, self.height = view[2] - view[0], view[3] - view[1]
        self.first = np.concatenate([[0], np.cumsum(self.width * self.height)])
        self.count = int(self.first[-1])
        self.window, _, column, row = fill(view, np.arange(view.shape[1]), size)
        self.row, self.column = row.astype(np.intp), column.astype(np.intp)
        self.at = self.row * size + self.column

    def fill(self, box: Array, window: Array) -> tuple[Array, Array, Array, Array]:
        """As `batch.fill` for the part of each box within its window."""
        view = self.view[:, window]
        low = np.clip(box[:2], view[:2], view[2:])
        part = np.concatenate([low, np.maximum(np.minimum(box[2:], view[2:]), low)])
        thing, _, column, row = fill(part, window, self.size)
        of = window[thing]
        start = self.first[of] - self.view[1, of] * self.width[of] - self.view[0, of]
        pixel = start + row.astype(np.intp) * self.width[of] + column.astype(np.intp)
        return thing, pixel, column, row

    def edges(self, labels: Array) -> Array:
        """Pixels beside which, in the window, another thing or face is seen, as booleans [N]."""
        edge = np.zeros(self.count, bool)
        across = (labels[1:] != labels[:-1]) & (self.column[1:] > self.view[0, self.window[1:]])
        edge[1:] |= across
        edge[:-1] |= across
        upper = np.flatnonzero(self.row + 1 < self.view[3, self.window])
        lower = upper + self.width[self.window[upper]]
        down = labels[upper] != labels[lower]
        edge[upper[down]] = True
        edge[lower[down]] = True
        return edge

    def cut(self, values: Array) -> list[Array]:
        """Values of pixels as one array [h, w, ...] a window."""
        parts = np.split(values, self.first[1:-1])
        return [part.reshape(h, w, *values.shape[1:]) for part, h, w in zip(parts, self.height, self.width)]

    def on_sheets(self, image: Array, things: Array, lines: Array) -> Array:
        """The windows drawn with pencils. Strokes lie where they lie in the whole picture: windows are drawn in their
        places there, together on a sheet where they do not overlap."""
        free: list[Array] = []
        sheet = []
        for left, top, right, bottom in self.view.T.tolist():
            own = next((i for i, taken in enumerate(free) if not taken[top:bottom, left:right].any()), len(free))
            if own == len(free):
                free.append(np.zeros((self.size, self.size), bool))
            free[own][top:bottom, left:right] = True
            sheet.append(own)
        place = np.array(sheet, np.intp)[self.window] * self.size**2 + self.at
        shape = (len(free), self.size, self.size)
        sheets = [np.zeros((shape[0] * self.size**2, *v.shape[1:]), v.dtype) for v in (image, things, lines)]
        for values, whole in zip((image, things, lines), sheets):
            whole[place] = values
        drawn = pencil(sheets[0].reshape(*shape, 3), sheets[1].reshape(shape), sheets[2].reshape(shape))
        return np.asarray(drawn.reshape(-1, 3)[place])
