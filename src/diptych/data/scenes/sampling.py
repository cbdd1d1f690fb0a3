"""Scenes by lot: attributes are independent and uniform (unless a dial says otherwise), places are clear to the eye.

A place that is not clear is drawn again; an attribute never is, so that no shape, colour or size is rarer because it
is harder to place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import cos, pi, sin
from random import Random
from typing import TypeVar

from diptych.data.scenes.dials import Combination, Dials, partners
from diptych.data.scenes.view import View
from diptych.data.scenes.world import (
    ATTRIBUTES,
    BACKGROUNDS,
    RELATION_MARGIN,
    SIZES,
    STYLES,
    VALUES,
    Camera,
    Light,
    Scene,
    Thing,
)

GAP = 0.12  # free ground between two things, world units
EDGE = 0.96  # things end within this part of the picture
CLEAR = 0.03  # least difference of two things' centres across the picture, whose width is 2
# Of a thing's frame in the picture: the part that the thing fills, and the part that nearer frames may cover.
FULL = {"cube": 0.8, "sphere": 0.78, "cylinder": 0.85, "cone": 0.5}
COVERED = {"cube": 0.5, "sphere": 0.44, "cylinder": 0.5, "cone": 0.34}
SEEN = 20 / 48**2  # what is at least seen of a thing, as an area of the picture: 20 pixels of 96 x 96
TRIES = 60  # places tried for one thing before the others are placed anew

T = TypeVar("T")

WIDTH, DEPTH = 2.5, 2.3  # half of the ground that things stand on, where there are few of them
CAMERA = Camera()
LIGHT = Light()


def generator(dials: Dials, index: int, purpose: str = "scene") -> Random:
    """The lot of item `index`, which no other item, split or purpose shares."""
    text = f"{dials.seed}\0{dials.split}\0{purpose}\0{index}"
    return Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big"))


def sample_scene(dials: Dials, index: int, purpose: str = "scene") -> Scene:
    """Scene `index`; equal (dials, index, purpose) give equal scenes, whatever else was drawn before.

    Any two things differ by `RELATION_MARGIN` in x and y and stand in that order in the picture too, none touches
    another or leaves the picture, and of each enough is seen, see `is_clear`.
    """
    random = generator(dials, index, purpose)
    background, style, attributes = _looks(random, dials)
    lights = tuple(_light(random, i, dials.jitter) for i in range(dials.lights))
    spread = least = spread_of(len(attributes))
    while True:
        camera = _camera(random, spread, dials.jitter)
        things = _place(random, attributes, View(camera), spread)
        if things is not None:
            return Scene(things, camera, lights, background, style)
        spread = spread * 1.01 if spread < 1.3 * least else least  # more ground, seen from further off


def attributes_of(dials: Dials, index: int, purpose: str = "scene") -> list[Combination]:
    """The attributes of the things of `sample_scene`, which do not depend on where they stand, without the scene."""
    return _looks(generator(dials, index, purpose), dials)[2]


def spread_of(count: int) -> float:
    """How much more ground so many things have at least than a few, along each side."""
    return 1.0 + 0.1 * max(0, count - 5)


def draw(random: Random, values: Sequence[T]) -> T:
    """One of the values, all equally likely. Random.random alone is the same in every version of Python."""
    return values[int(random.random() * len(values))]


def is_clear(things: Sequence[Thing], camera: Camera) -> bool:
    """Whether the things stand as `sample_scene` promises: apart, in order, within the picture and visible.

    What is visible is judged by the frames of things in the picture, those of nearer things on top. In a rendered
    scene that leaves at least two fifths of a thing's outline, and 16 pixels of a picture of 96 x 96.
    """
    view = View(camera)
    frames: list[_Frame] = []
    return all(_fits(thing, view, frames) for thing in things)


class _Frame:
    """Where a thing falls in the picture, and how much of it is covered so far."""

    __slots__ = ("area", "bottom", "covered", "depth", "left", "limit", "reach", "right", "thing", "top", "u")

    def __init__(self, thing: Thing, view: View) -> None:
        radius = thing.height / 2
        self.thing = thing
        self.u, v, self.depth = view.project(thing.x, thing.y, radius)
        scale = 1.0 / (self.depth * view.slope)
        level, tilt = view.up[2], -view.forward[2]  # cosine and sine of how far down the camera looks
        across = self.reach = radius
        if thing.shape == "cube":
            across = radius * (abs(cos(thing.turn)) + abs(sin(thing.turn)))
            self.reach = radius * 1.4143  # the corners
        rise = 0.0 if thing.shape in ("sphere", "cone") else radius * tilt
        near = 1.0 / ((self.depth - across * level - rise) * view.slope)  # the near side is larger than the middle
        moved = self.u * near / scale
        self.left, self.right = min(self.u, moved) - across * near, max(self.u, moved) + across * near
        up = radius if thing.shape == "sphere" else radius * level + across * tilt
        self.top = v - (radius * level if thing.shape == "cone" else up) * scale
        self.bottom = v + up * near
        self.area = (self.right - self.left) * (self.bottom - self.top)
        self.limit = min(COVERED[thing.shape], 1.0 - SEEN / (self.area * FULL[thing.shape]))
        self.covered = 0.0


def _fits(thing: Thing, view: View, frames: list[_Frame]) -> bool:
    """Whether the thing can join those placed before; it is added to `frames` if so."""
    for old in frames:  # the cheapest reasons first
        dx, dy = thing.x - old.thing.x, thing.y - old.thing.y
        if abs(dx) < RELATION_MARGIN or abs(dy) < RELATION_MARGIN:
            return False
    new = _Frame(thing, view)
    if new.left < -EDGE or new.right > EDGE or new.top < -EDGE or new.bottom > EDGE:
        return False
    covered: list[tuple[_Frame, float]] = []
    for old in frames:
        dx, dy = thing.x - old.thing.x, thing.y - old.thing.y
        least = new.reach + old.reach + GAP
        du = new.u - old.u
        if (
            dx * dx + dy * dy < least * least
            or abs(du) < CLEAR
            or (du > 0) != (dx > 0)
            or (new.depth > old.depth) != (dy > 0)
        ):
            return False
        width = min(new.right, old.right) - max(new.left, old.left)
        height = min(new.bottom, old.bottom) - max(new.top, old.top)
        if width > 0 and height > 0:
            behind = new if dy > 0 else old
            covered.append((behind, width * height / behind.area))
    for behind, share in covered:
        behind.covered += share
    if all(frame.covered <= frame.limit for frame in (new, *(behind for behind, _ in covered))):
        frames.append(new)
        return True
    for behind, share in covered:
        behind.covered -= share
    return False


def _looks(random: Random, dials: Dials) -> tuple[str, str, list[Combination]]:
    """Ground, style and the attributes of all things."""
    background = draw(random, BACKGROUNDS) if dials.background == "mixed" else dials.background
    style = draw(random, STYLES) if dials.style == "mixed" else dials.style
    low, high = dials.counts
    count = low + int(random.random() * (high - low + 1))
    attributes = [_attributes(random, dials, background) for _ in range(count)]
    if dials.split == "test" and dials.combinations:
        attributes[int(random.random() * count)] |= draw(random, dials.combinations)
    return background, style, attributes


def _attributes(random: Random, dials: Dials, background: str) -> Combination:
    """One thing's attributes; those with a held-out combination are drawn again outside the test split."""
    while True:
        values = {attribute: draw(random, VALUES[attribute]) for attribute in ATTRIBUTES}
        first, second = dials.bias_pair
        if random.random() < dials.bias:
            given = background if first == "background" else values[first]
            values[second] = draw(random, partners((first, second), given))
        if dials.split == "test" or not any(c.items() <= values.items() for c in dials.combinations):
            return values


def _place(random: Random, attributes: list[Combination], view: View, spread: float) -> tuple[Thing, ...] | None:
    """Things with these attributes at places that are clear; None if some thing found none."""
    frames: list[_Frame] = []
    placed: dict[int, Thing] = {}
    for i in sorted(range(len(attributes)), key=lambda i: -SIZES[attributes[i]["size"]]):
        for _ in range(TRIES):
            x = (2 * random.random() - 1) * WIDTH * spread
            y = (2 * random.random() - 1) * DEPTH * spread
            thing = Thing(x=round(x, 3), y=round(y, 3), turn=round(random.random() * 2 * pi, 3), **attributes[i])
            if _fits(thing, view, frames):
                placed[i] = thing
                break
        else:
            return None
    return tuple(placed[i] for i in range(len(attributes)))


def _camera(random: Random, spread: float, jitter: bool) -> Camera:
    x, y, z = CAMERA.position
    if jitter:
        x += 1.2 * (random.random() - 0.5)
        y += 0.8 * (random.random() - 0.5)
        z += 1.2 * (random.random() - 0.5)
    return Camera((round(x * spread, 3), round(y * spread, 3), round(z * spread, 3)), CAMERA.target, CAMERA.fov)


def _light(random: Random, index: int, jitter: bool) -> Light:
    """Lamp `index`: the first from the left, the others from the right and from behind, and weaker."""
    x, y, z = ((-4.5, -4.0, 8.0), (5.5, -3.0, 6.5), (1.5, 5.5, 7.0))[index]
    if jitter:
        x += 3.0 * (random.random() - 0.5)
        y += 3.0 * (random.random() - 0.5)
        z += 1.5 * (random.random() - 0.5)
    return Light((round(x, 3), round(y, 3), round(z, 3)), LIGHT.radius, (1.0, 0.5, 0.4)[index])
