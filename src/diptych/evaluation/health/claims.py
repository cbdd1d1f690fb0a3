"""Statements about things that are in a picture, and about things that are not: "There is a red cube."

Two pictures lend each other their statements: what is true of the one is false of the other, and the other way round.
So every text is as often true as false, and no guesser that only reads can do better than chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from diptych.evaluation.health.choosing import Choice
from diptych.types import Sample

TRIES = 60  # partners tried for each picture

Thing = tuple[str, str]  # an attribute or "", and the name
Wrong = Callable[["Seen", Thing], bool]


class Seen(NamedTuple):
    """What is in a picture: each thing with each of its attributes, and all the words for themselves."""

    things: frozenset[Thing]
    words: frozenset[str]


def seen_in(sample: Sample) -> Seen:
    """The named things of a sample."""
    things = {(attribute, o.name) for o in sample.objects for attribute in (o.attributes or [""]) if o.kind == "thing"}
    return Seen(frozenset(things), frozenset(word for thing in things for word in thing))


def absent(seen: Seen, thing: Thing) -> bool:
    """Whether the picture shows nothing of that name, or nothing with that attribute."""
    return not set(thing) <= seen.words


def apart(seen: Seen, thing: Thing) -> bool:
    """Whether the picture has the name and the attribute, and not on one thing."""
    return thing not in seen.things and set(thing) <= seen.words and thing[0] != ""


def mirrored(samples: Sequence[Sample], wrong: Wrong, rng: np.random.Generator) -> list[Choice]:
    """Pairs of pictures, each with a true statement that is `wrong` for the other. A picture is used once at most."""
    seen = [seen_in(sample) for sample in samples]
    free = [row for row in rng.permutation(len(samples)).tolist() if seen[row].things]
    choices: list[Choice] = []
    while len(free) > 1:
        one = free.pop()
        for other in free[:TRIES]:
            mine = sorted(thing for thing in seen[one].things if wrong(seen[other], thing))
            theirs = sorted(thing for thing in seen[other].things if wrong(seen[one], thing))
            if mine and theirs:
                a, b = (statement(some[int(rng.integers(len(some)))]) for some in (mine, theirs))
                choices += [Choice(one, (a, b), len(choices)), Choice(other, (b, a), len(choices))]
                free.remove(other)
                break
    return choices


def statement(thing: Thing) -> str:
    """ "There is a red cube." """
    words = " ".join(word for word in thing if word)
    return f"There is {'an' if words[0].lower() in 'aeiou' else 'a'} {words}."
