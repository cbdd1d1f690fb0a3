"""The dials of the world: what can be set in an address such as `scenes:?n=1000&size=96&objects=3-6&bias=0.9`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from typing import Annotated, Literal

from pydantic import Field

from diptych.config import parse, strict
from diptych.data.scenes.world import ATTRIBUTES, BACKGROUNDS, VALUES
from diptych.types import InputError

MOST_THINGS = 10
MOST_DETAIL = 5  # captions of a scene, each telling more than the one before
LEAST_LEFT = 0.001  # of all things that could be drawn, when some are held out: they are drawn again and again

Combination = dict[str, str]  # attribute -> value; a thing has it if all of them fit


@strict
@dataclass(frozen=True)
class Dials:
    """What is generated. Two datasets of equal dials are equal, byte by byte.

    Attributes:
        n: samples.
        size: side of the square pictures, in pixels.
        seed: of everything that is drawn by lot.
        objects: things in a scene, "3-6" or "4"; at most 10.
        noise: share of scenes whose captions describe another scene; only with `task` "scene".
        bias: how strongly the two attributes of `bias_kind` go together: with this probability the second is decided by
            the first, otherwise it is drawn on its own.
        bias_kind: two attributes, "color-shape", or an attribute and the ground, "color-background".
        detail: which of a scene's captions its sample has, from the gist, 1, to everything, 5; "4-5" or "5". Only with
            `task` "scene".
        held_out: combinations of attribute values with commas, "yellow cone,blue cube". No thing has one of them where
            `split` is train or val; in each scene of the test split at least one thing does.
        split: also part of the seed, so that the scenes of two splits differ.
        style: how pictures are drawn; "mixed" draws lots.
        background: texture of the ground; "mixed" draws lots.
        lights: lamps.
        jitter: whether camera and lamps move a little from scene to scene.
        task: what a sample is: one described scene, or something made of several.
    """

    n: Annotated[int, Field(ge=1)] = 1000
    size: Annotated[int, Field(ge=32, le=1024)] = 96
    seed: Annotated[int, Field(ge=0)] = 0
    objects: str = "3-6"
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    bias: Annotated[float, Field(ge=0, le=1)] = 0.0
    bias_kind: str = "color-shape"
    detail: str = "1-5"
    held_out: str = ""
    split: Literal["train", "val", "test"] = "train"
    style: Literal["photo", "flat", "sketch", "mixed"] = "photo"
    background: Literal["mixed", "plain", "checker", "wood", "sand", "grass", "stone"] = "mixed"
    lights: Annotated[int, Field(ge=1, le=3)] = 1
    jitter: bool = True
    task: Literal["scene", "pairs", "episodes", "robot"] = "scene"

    def __post_init__(self) -> None:
        """Raise `InputError` where the text of an option says nothing, or the task has no use for it."""
        _ = self.counts, self.bias_pair, self.combinations, self.details
        if self.detail != "1-5" and self.task != "scene":
            raise InputError(f"detail: expected 1-5 with task={self.task}, only samples of task=scene have captions")
        if self.noise and self.task != "scene":
            raise InputError(f"noise: expected 0 with task={self.task}, only samples of task=scene have wrong captions")
        if self.task == "robot" and self.counts[1] < 2:
            raise InputError(f"objects: expected at least two things with task=robot: '{self.objects}'")
        if self.split != "test" and self.combinations and self._left() < LEAST_LEFT:
            raise InputError(
                f"held_out: with bias={self.bias:g} it leaves less than one thing in {1 / LEAST_LEFT:,.0f}"
            )

    @cached_property
    def counts(self) -> tuple[int, int]:
        """The least and the greatest number of things."""
        return _range("objects", self.objects, "3-6", MOST_THINGS)

    @cached_property
    def details(self) -> tuple[int, int]:
        """The captions that tell least and most."""
        return _range("detail", self.detail, "4-5", MOST_DETAIL)

    @cached_property
    def bias_pair(self) -> tuple[str, str]:
        """(the attribute that decides or "background", the attribute that is decided)."""
        first, _, second = self.bias_kind.partition("-")
        if first == second or first not in ATTRIBUTES or second not in (*ATTRIBUTES, "background"):
            raise InputError(
                f"bias_kind: expected two of {', '.join(ATTRIBUTES)} like color-shape, or one with the background like "
                f"color-background: '{self.bias_kind}'"
            )
        return (second, first) if second == "background" else (first, second)

    def _left(self) -> float:
        """The share of things that have no held-out combination; on the ground where it is least."""
        first, second = self.bias_pair
        things = [dict(zip(ATTRIBUTES, values)) for values in product(*(VALUES[name] for name in ATTRIBUTES))]

        def free(thing: Combination) -> bool:
            return not any(combination.items() <= thing.items() for combination in self.combinations)

        def biased(thing: Combination, given: str) -> float:
            drawn = partners((first, second), given)
            return sum(free(thing | {second: value}) for value in drawn) / len(drawn)

        grounds = BACKGROUNDS if first == "background" and self.background == "mixed" else (self.background,)
        return min(
            sum((1 - self.bias) * free(thing) + self.bias * biased(thing, thing.get(first, ground)) for thing in things)
            for ground in grounds
        ) / len(things)

    @cached_property
    def combinations(self) -> tuple[Combination, ...]:
        """The combinations that are held out."""
        return () if not self.held_out else tuple(_combination(text) for text in self.held_out.split(","))


def dials_of(options: Mapping[str, str], source: str = "scenes") -> Dials:
    """The dials that an address sets. Raises `InputError` naming the option and what was expected."""
    known = [field.name for field in fields(Dials)]
    for name in options:
        if name not in known:
            raise InputError(f"{source}: no option '{name}'; it has {', '.join(known)}")
    return parse(Dials, options, source)


def _range(name: str, text: str, example: str, most: int) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= low <= high <= most:
        raise InputError(f"{name}: expected a number or a range like {example} within 1-{most}: '{text}'")
    return low, high


def values_of(attribute: str) -> tuple[str, ...]:
    """The values of an attribute of things, or the textures for "background"."""
    return BACKGROUNDS if attribute == "background" else VALUES[attribute]


def partners(pair: tuple[str, str], value: str) -> tuple[str, ...]:
    """The values of the second attribute that go with `value` of the first under full bias."""
    first, second = values_of(pair[0]), values_of(pair[1])
    at = first.index(value)
    if len(first) >= len(second):
        return (second[at * len(second) // len(first)],)
    return tuple(other for i, other in enumerate(second) if i * len(first) // len(second) == at)


def _combination(text: str) -> Combination:
    found: Combination = {}
    for word in text.split():
        kinds = [attribute for attribute, values in VALUES.items() if word in values]
        if not kinds or kinds[0] in found:
            raise InputError(
                f"held_out: expected combinations like 'yellow cone,blue cube' of the values "
                f"{', '.join(word for values in VALUES.values() for word in values)}: '{text.strip()}'"
            )
        found[kinds[0]] = word
    if len(found) < 2:
        raise InputError(f"held_out: expected at least two attributes in a combination: '{text.strip()}'")
    return found
