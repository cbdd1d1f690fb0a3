"""Where things stand to each other, and sets of things as bits, by which any claim about a scene is checked quickly."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from diptych.data.scenes.world import ATTRIBUTES, RELATION_MARGIN, VALUES, Scene
from diptych.types import Relation

PREDICATES = {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"}
"""The directions, as programs name them -> as relations and texts name them."""

CONVERSE = {"left": "right", "right": "left", "front": "behind", "behind": "front"}

SIDEWAYS = ("left", "right")
"""Directions between which the world is symmetric. Front and behind are not: things hide what is behind them."""

ATTRIBUTE_OF = {value: attribute for attribute in ATTRIBUTES for value in VALUES[attribute]}
"""Which attribute a value belongs to; no two attributes share a value."""


class Facts:
    """What is true of a scene. A set of things is a number whose bit `i` stands for thing `i`.

    Attributes:
        count: number of things.
        all: the set of all things.
        values: of each thing attribute -> value.
        having: value -> the things that have it.
        related: direction -> for each thing the things that stand in that direction of it.
    """

    __slots__ = ("all", "count", "having", "related", "scene", "values")

    def __init__(self, scene: Scene) -> None:
        things = scene.things
        self.scene = scene
        self.count = len(things)
        self.all = (1 << self.count) - 1
        self.having = dict.fromkeys(ATTRIBUTE_OF, 0)
        self.values: list[dict[str, str]] = []
        for i, thing in enumerate(things):
            own = {"size": thing.size, "color": thing.color, "material": thing.material, "shape": thing.shape}
            self.values.append(own)
            for value in own.values():
                self.having[value] |= 1 << i
        left, right, front, behind = ([0] * self.count for _ in range(4))
        for i, thing in enumerate(things):
            for j in range(i):
                dx, dy = thing.x - things[j].x, thing.y - things[j].y
                if dx >= RELATION_MARGIN:
                    right[j] |= 1 << i
                    left[i] |= 1 << j
                elif dx <= -RELATION_MARGIN:
                    left[j] |= 1 << i
                    right[i] |= 1 << j
                if dy >= RELATION_MARGIN:
                    behind[j] |= 1 << i
                    front[i] |= 1 << j
                elif dy <= -RELATION_MARGIN:
                    front[j] |= 1 << i
                    behind[i] |= 1 << j
        self.related = {"left": left, "right": right, "front": front, "behind": behind}

    def with_all(self, values: Iterable[str]) -> int:
        """The things that have every one of the values."""
        found = self.all
        for value in values:
            found &= self.having[value]
        return found

    def some_stand(self, first: Iterable[str], direction: str, second: Iterable[str]) -> bool:
        """Whether some thing with the values `first` stands in `direction` of some thing with the values `second`."""
        candidates = self.with_all(first)
        related = self.related[direction]
        return any(related[i] & candidates for i in members(self.with_all(second)))


@cache
def members(things: int) -> tuple[int, ...]:
    """The positions in a set."""
    return tuple(i for i in range(things.bit_length()) if things >> i & 1)


def relations_of(facts: Facts) -> list[Relation]:
    """Every relation that holds; each comes with its converse. Things closer than `RELATION_MARGIN` have none."""
    return [
        Relation(subject, predicate, i)
        for direction, predicate in PREDICATES.items()
        for i, standing in enumerate(facts.related[direction])
        for subject in members(standing)
    ]
