"""A toy robot: "Put the red cube left of the ball.", steps of a hand over the ground that do it, and an exact checker.

The hand knows three primitives, one a line: `move(x, y)` brings it above a place on the ground, `pick(red cube)` takes
the one thing of these words if the hand is empty and above it, `place()` sets down what it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from diptych.data.scenes.dials import Dials
from diptych.data.scenes.labels import Composite, sample_id
from diptych.data.scenes.referring import distinguishing
from diptych.data.scenes.relations import PREDICATES, Facts, members
from diptych.data.scenes.sampling import DEPTH, WIDTH, draw, generator, is_clear, sample_scene, spread_of
from diptych.data.scenes.words import DIRECTIONS, WORDINGS, phrase, read_phrase
from diptych.data.scenes.world import Scene
from diptych.types import InputError, Message, Sample

REACH = 0.35  # a thing can be picked from this close to its centre, in world units (half the height of a small one)
PLACES_TRIED = 20
SCENES_TRIED = 300  # of ten things one in fifteen has room for its goal

ORDERS = ("Put the {} {} the {}.", "Place the {} {} the {}.", "Move the {} so that it stands {} the {}.")

_MOVE = re.compile(r"move\(\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*\)")
_PICK = re.compile(r"pick\(([a-z ]+)\)")


class Goal(NamedTuple):
    """Thing `thing` shall stand in `direction` of thing `anchor`; things by their position in the scene."""

    thing: int
    direction: str
    anchor: int


class Step(NamedTuple):
    """One primitive. `at` belongs to "move" (world units), `thing` (words) to "pick"."""

    action: str
    at: tuple[float, float] = (0.0, 0.0)
    thing: str = ""

    def __str__(self) -> str:
        if self.action == "move":
            return f"move({self.at[0]:.2f}, {self.at[1]:.2f})"
        return f"{self.action}({self.thing})"


class BadStep(ValueError):
    """A step that cannot be done; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """A scene, what shall be done in it, in words and exactly, one way of doing it, and the scene after that."""

    scene: Scene
    instruction: str
    goal: Goal
    steps: list[Step]
    after: Scene
    report: str


def read_steps(text: str) -> list[Step]:
    """The steps that a text of one primitive a line stands for. Raises `InputError` naming the first bad line."""
    steps = []
    for line in text.strip().splitlines():
        step = line.strip()
        if found := _MOVE.fullmatch(step):
            steps.append(Step("move", (float(found[1]), float(found[2]))))
        elif found := _PICK.fullmatch(step):
            steps.append(Step("pick", thing=found[1].strip()))
        elif step == "place()":
            steps.append(Step("place"))
        else:
            raise InputError(f"steps: expected move(x, y), pick(words) or place(), got '{step}'")
    return steps


def simulate(scene: Scene, steps: Sequence[Step]) -> Scene:
    """The scene after the steps.

    Raises:
        BadStep: a primitive cannot be done, or the hand still holds something at the end.
    """
    things, hand, held = list(scene.things), None, None
    for step in steps:
        if step.action == "move":
            hand = step.at
        elif hand is None:
            raise BadStep(f"{step}: the hand has not been moved anywhere")
        elif step.action == "pick":
            if held is not None:
                raise BadStep(f"{step}: the hand is not empty")
            held = _meant(Facts(scene), step.thing)
            if (things[held].x - hand[0]) ** 2 + (things[held].y - hand[1]) ** 2 > REACH**2:
                raise BadStep(f"{step}: the hand is not above it")
        else:
            if held is None:
                raise BadStep(f"{step}: the hand is empty")
            things[held] = replace(things[held], x=hand[0], y=hand[1])
            held = None
    if held is not None:
        raise BadStep("the hand still holds something")
    return replace(scene, things=tuple(things))


def check(scene: Scene, goal: Goal, steps: Sequence[Step]) -> bool:
    """Whether the steps can be done and reach the goal.

    Reached means: the thing stands in that direction of the anchor by at least `RELATION_MARGIN`, no other thing has
    moved, and all things are clear of each other, within the picture and visible (`sampling.is_clear`).
    """
    try:
        after = simulate(scene, steps)
    except BadStep:
        return False
    others = all(i == goal.thing or now == then for i, (now, then) in enumerate(zip(after.things, scene.things)))
    return others and _holds(Facts(after), goal) and is_clear(after.things, after.camera)


def job(dials: Dials, index: int) -> Job:
    """Job `index`: a goal that does not hold yet, and steps that `check` accepts.

    Raises:
        InputError: none of 300 scenes has a goal that can be named and reached.
    """
    for attempt in range(SCENES_TRIED):
        scene = sample_scene(dials, index, f"robot {attempt}")
        found = _job(scene, generator(dials, index, f"job {attempt}"))
        if found is not None:
            return found
    raise InputError(
        f"scenes: task=robot: none of {SCENES_TRIED} scenes has room for a goal; change objects or held_out"
    )


def robot(dials: Dials, index: int) -> Composite:
    """Sample `index`: before and after, the instruction, its steps, what changed; the goal as JSON text."""
    done = job(dials, index)
    messages = [
        Message("user", f"<image>\n{done.instruction}"),
        Message("assistant", "\n".join(map(str, done.steps))),
        Message("user", "<image>\nWhat has changed?"),
        Message("assistant", done.report),
    ]
    texts = {"goal": json.dumps(done.goal._asdict())}
    return Composite([done.scene, done.after], Sample(id=sample_id(dials, index), messages=messages, texts=texts))


def _job(scene: Scene, random: Random) -> Job | None:
    """A job in this scene; None if two things cannot be named or no free place was found."""
    facts = Facts(scene)
    named = [(i, own) for i in range(facts.count) if (own := distinguishing(facts, i)) is not None]
    if len(named) < 2:
        return None
    at = int(random.random() * len(named))
    (thing, own), (anchor, other) = named[at], named[at - 1 - int(random.random() * (len(named) - 1))]
    goal = Goal(thing, draw(random, tuple(PREDICATES)), anchor)
    end = None if _holds(facts, goal) else _free_place(scene, goal, random)
    if end is None:
        return None
    words, place = draw(random, WORDINGS), draw(random, DIRECTIONS[goal.direction])
    what, where = phrase(words, own), phrase(words, other)
    start = (round(scene.things[thing].x, 2), round(scene.things[thing].y, 2))
    steps = [Step("move", start), Step("pick", thing=what), Step("move", end), Step("place")]
    instruction = draw(random, ORDERS).format(what, place, where)
    report = f"The {what} now stands {place} the {where}."
    return Job(scene, instruction, goal, steps, simulate(scene, steps), report)


def _free_place(scene: Scene, goal: Goal, random: Random) -> tuple[float, float] | None:
    """A place in the goal's direction of its anchor where the thing is clear of all others."""
    anchor, others = scene.things[goal.anchor], list(scene.things)
    width, depth = WIDTH * spread_of(len(others)), DEPTH * spread_of(len(others))
    sides = {
        "left": (-width, anchor.x),
        "right": (anchor.x, width),
        "front": (-depth, anchor.y),
        "behind": (anchor.y, depth),
    }
    low, high = sides[goal.direction]
    sideways = goal.direction in ("left", "right")
    for _ in range(PLACES_TRIED):
        along = low + (high - low) * random.random()
        across = (2 * random.random() - 1) * (depth if sideways else width)
        x, y = (along, across) if sideways else (across, along)
        place = round(x, 2), round(y, 2)
        others[goal.thing] = replace(scene.things[goal.thing], x=place[0], y=place[1])
        if is_clear(others, scene.camera) and (low <= (place[0] if sideways else place[1]) <= high):
            return place
    return None


def _holds(facts: Facts, goal: Goal) -> bool:
    return bool(facts.related[goal.direction][goal.anchor] >> goal.thing & 1)


def _meant(facts: Facts, words: str) -> int:
    """The thing that some words describe."""
    values = read_phrase(words)
    if values is None:
        raise BadStep(f"pick({words}): these words describe no thing")
    found = members(facts.with_all(values.values()))
    if len(found) != 1:
        raise BadStep(f"pick({words}): {len(found)} things are like that")
    return found[0]
