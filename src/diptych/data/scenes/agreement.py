"""How what `parse` sees agrees with what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from diptych.data.scenes.parser import Seen
from diptych.data.scenes.render import render
from diptych.data.scenes.world import ATTRIBUTES, Scene

Array = np.ndarray[Any, Any]

WITHIN = 0.7  # world units: matched things stand nearer than this to each other,
OVERLAP = 0.5  # or their boxes overlap by this, intersection over union
NEVER = 1000.0  # cost of a pair that may not match


@dataclass(frozen=True, slots=True)
class Agreement:
    """How what is seen agrees with what is there; counts, which `+` adds up over pictures.

    Attributes:
        things: that are there.
        found: of them, that are seen.
        invented: seen where nothing is.
        right: for each attribute of `ATTRIBUTES`, of how many found things it is seen rightly.
        pictures: that are judged.
        perfect: of them, those in which everything is seen rightly and nothing else.
    """

    things: int = 0
    found: int = 0
    invented: int = 0
    right: tuple[int, int, int, int] = (0, 0, 0, 0)
    pictures: int = 0
    perfect: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        sums = [a + b for a, b in zip(self.right, other.right)]
        return Agreement(
            self.things + other.things,
            self.found + other.found,
            self.invented + other.invented,
            (sums[0], sums[1], sums[2], sums[3]),
            self.pictures + other.pictures,
            self.perfect + other.perfect,
        )

    @property
    def missed(self) -> int:
        """Things that are there and not seen."""
        return self.things - self.found

    def accuracy(self, attribute: str) -> float:
        """Share of the found things whose attribute is seen rightly, 0..1; 1 where none is found."""
        return self.right[ATTRIBUTES.index(attribute)] / self.found if self.found else 1.0


def agreement(seen: Sequence[Seen], scene: Scene, size: int) -> Agreement:
    """Match what is seen with the things of the scene, one to one, and count what is right.

    A pair may match if it stands less than `WITHIN` apart on the ground or its boxes in the picture overlap by
    `OVERLAP` of their union: where the ground is bare, a picture shows things better than how far off they stand. As
    many pairs as possible are matched, with the least sum of distance over `WITHIN` and 1 - overlap (Hungarian
    method).

    Args:
        seen: what `parse` found in a picture of the scene.
        scene: what is to be there.
        size: pixels a side of that picture.
    """
    pairs = _pairs(seen, scene, size)
    right = [[getattr(scene.things[i], name) == getattr(seen[j], name) for name in ATTRIBUTES] for i, j in pairs]
    sizes, colors, materials, shapes = (sum(row[k] for row in right) for k in range(4))
    perfect = len(pairs) == len(scene.things) == len(seen) and all(map(all, right))
    right_sums = (sizes, colors, materials, shapes)
    return Agreement(len(scene.things), len(pairs), len(seen) - len(pairs), right_sums, 1, int(perfect))


def _pairs(seen: Sequence[Seen], scene: Scene, size: int) -> list[tuple[int, int]]:
    """(thing of the scene, what is seen) of the matches."""
    if not seen or not scene.things:
        return []
    ids = render(scene, size).ids
    truth = np.array([_box_of(ids == i) for i in range(len(scene.things))])
    boxes = np.array([one.box for one in seen])
    overlap = _overlaps(truth, boxes)
    apart = np.array([[hypot(a.x - b.x, a.y - b.y) / WITHIN for b in seen] for a in scene.things])
    allowed = (apart < 1) | (overlap >= OVERLAP)
    cost = np.where(allowed, np.minimum(apart, 2) + 1 - overlap, NEVER)
    rows, columns = linear_sum_assignment(cost)
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist()) if allowed[i, j]]


def _box_of(mask: Array) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the pixels of a mask; nothing but zeros where there are none."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _overlaps(a: Array, b: Array) -> Array:
    """Intersection over union of boxes [N, 4] and [M, 4], [N, M]."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inside = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return np.asarray(inside / np.maximum(areas[0][:, None] + areas[1][None] - inside, 1e-9))
