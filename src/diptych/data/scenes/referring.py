"""Expressions that refer to exactly one thing in no more words than it takes: "the cone", "the red cube left of it"."""

from __future__ import annotations

from math import dist
from random import Random

from diptych.data.scenes.relations import CONVERSE, PREDICATES, SIDEWAYS, Facts, members
from diptych.data.scenes.sampling import draw
from diptych.data.scenes.words import DIRECTIONS, WORDINGS, Wording, phrase
from diptych.types import Region

NAMED = (
    ("shape",),
    ("color", "shape"),
    ("size", "shape"),
    ("material", "shape"),
    ("size", "color", "shape"),
    ("color", "material", "shape"),
    ("size", "material", "shape"),
    ("size", "color", "material", "shape"),
)
"""Which attributes a description names, in the order in which people try them; always the shape."""

EXTREMES = {
    "left": ("leftmost {}", "{} furthest to the left"),
    "right": ("rightmost {}", "{} furthest to the right"),
    "front": ("nearest {}", "{} closest to the camera"),
    "behind": ("furthest {}", "{} furthest from the camera"),
}

RELATIVE = 0.4  # share of things told apart by their place where an adjective would do as well


def distinguishing(facts: Facts, thing: int, most: int = len(NAMED)) -> dict[str, str] | None:
    """The fewest values (attribute -> value), shape included, that no other thing has together; None if there are none.

    `most` is how many entries of `NAMED` are tried.
    """
    values = facts.values[thing]
    for names in NAMED[:most]:
        found = facts.all
        for name in names:
            found &= facts.having[values[name]]
        if found == 1 << thing:
            return {name: values[name] for name in names}
    return None


def regions_of(facts: Facts, random: Random) -> list[Region]:
    """One expression for each thing that can be told apart; boxes are left to whoever draws the picture."""
    regions = []
    for thing in range(facts.count):
        own = distinguishing(facts, thing)
        text, words = None, draw(random, WORDINGS)
        if own is None or (len(own) > 1 and random.random() < RELATIVE):
            text = _by_neighbour(facts, random, words, thing) or _by_extreme(facts, random, words, thing)
        if text is None and own is not None:
            text = phrase(words, own)
        if text is not None:
            regions.append(Region(f"the {text}", None, thing))
    return regions


def _by_neighbour(facts: Facts, random: Random, words: Wording, thing: int) -> str | None:
    """ "cube left of the red ball": in a direction of a thing that adjectives tell apart, the only one of its kind."""
    directions = [draw(random, tuple(PREDICATES)) for _ in range(2)]
    start = int(random.random() * facts.count)
    for names in NAMED[:2]:
        own = {name: facts.values[thing][name] for name in names}
        same = facts.with_all(own.values())
        for other in (*range(start, facts.count), *range(start)):
            for direction in directions:
                if other == thing or facts.related[direction][other] & same != 1 << thing:
                    continue
                anchor = distinguishing(facts, other, 4)
                if anchor is not None:
                    return f"{phrase(words, own)} {draw(random, DIRECTIONS[direction])} the {phrase(words, anchor)}"
    return None


def _by_extreme(facts: Facts, random: Random, words: Wording, thing: int) -> str | None:
    """ "leftmost cube", where it is clearly the outermost of its kind in some direction."""
    for names in NAMED[:2]:
        own = {name: facts.values[thing][name] for name in names}
        others = facts.with_all(own.values()) & ~(1 << thing)
        ends = [name for name in PREDICATES if others and is_outermost(facts, thing, name, others)]
        if ends:
            return draw(random, EXTREMES[draw(random, ends)]).format(phrase(words, own))
    return None


def outermost(facts: Facts, direction: str) -> int | None:
    """The thing that is outermost of all; None where that is in doubt."""
    return next((i for i in range(facts.count) if is_outermost(facts, i, direction, facts.all & ~(1 << i))), None)


def is_outermost(facts: Facts, thing: int, direction: str, others: int) -> bool:
    """Whether all `others`, a set, stand in the opposite direction of it.

    In front and behind are directions of the ground, but "closest to the camera" speaks of a distance: a thing far to
    the side may stand in front of all others and not be the nearest. Both must be so.
    """
    if others & ~facts.related[CONVERSE[direction]][thing]:
        return False
    if direction in SIDEWAYS:
        return True
    own, rest = _distance(facts, thing), [_distance(facts, i) for i in members(others)]
    return all(own < other if direction == "front" else own > other for other in rest)


def _distance(facts: Facts, thing: int) -> float:
    """From the camera to the middle of the thing."""
    own = facts.scene.things[thing]
    return dist((own.x, own.y, own.height / 2), facts.scene.camera.position)


def in_order(facts: Facts, direction: str) -> list[int] | None:
    """All things, the outermost in `direction` first; None where two of them are too close to tell."""
    order = sorted(range(facts.count), key=lambda i: facts.related[direction][i].bit_count())
    sure = all(facts.related[direction][b] >> a & 1 for a, b in zip(order, order[1:]))
    return order if sure else None
