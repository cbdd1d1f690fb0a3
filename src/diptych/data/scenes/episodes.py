"""Few-shot episodes: some solved examples and one more, interleaved with pictures, as Frozen and Flamingo are judged.

Three tasks, equally likely. "fast binding" (Tsimpoukelli et al. 2021, arXiv:2106.13884): two made-up words are bound to
two kinds of things by two examples each, then a fifth thing is to be named. "few-shot count": how many cubes, after one
example of each answer. "captions": pictures and captions as one document. In the first two every answer is equally
likely, and each occurs equally often in the examples.

The episode sets color and shape in fast binding, so the bias dial has no effect there; of what is held out, in the test
split, one of the two kinds is an example. What scenes of the dials hardly ever have is not asked for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from random import Random

from diptych.data.scenes.captions import COLORS_AND_SHAPES, captions_of
from diptych.data.scenes.dials import Combination, Dials
from diptych.data.scenes.finding import scene_where
from diptych.data.scenes.labels import Composite, sample_id
from diptych.data.scenes.relations import Facts
from diptych.data.scenes.sampling import attributes_of, draw, generator, sample_scene
from diptych.data.scenes.words import WORDINGS, phrase
from diptych.data.scenes.world import COLORS, SHAPES, Scene
from diptych.types import InputError, Message, Question, Sample

MADE_UP = ("dax", "blicket", "wug", "fep", "toma", "zup", "modi", "gazzer", "lorp", "tulver", "kern", "pilk")
SHOTS = 2  # examples of each word
DOCUMENT_PICTURES = 4
WHAT = "What is this?"
TRIED = 2000  # scenes, whose attributes tell what is too rare to ask for
RARE = 0.015  # of all scenes: what is rarer might not be among the 1000 that `scene_where` draws


def episode(dials: Dials, index: int) -> Composite:
    """Sample `index`; the last picture's question and answer stand in its `questions` too, a document has none.

    Raises:
        InputError: the dials leave too little for episodes of all three tasks, whichever this one would be.
    """
    if not _numbers(dials):
        raise InputError("scenes: task=episodes: the dials leave no shape to count; change objects, bias or held_out")
    kinds = _kinds(_alone(dials))
    if not any(_others(kinds, kind) for kind in kinds):
        raise InputError("scenes: task=episodes: held_out leaves no two things that differ in color and shape")
    random = generator(dials, index, "episode")
    task = draw(random, (_fast_binding, _count, _captions))
    return task(dials, index, random)


def _fast_binding(dials: Dials, index: int, random: Random) -> Composite:
    words = _two(random, MADE_UP)
    alone = _alone(dials)
    kinds = _two_kinds(alone, random, dials.combinations if dials.split == "test" else ())
    order = _shuffled(random, [0, 1] * SHOTS) + [int(random.random() * 2)]
    scenes = [_single(alone, index, f"episode {i}", kinds[which]) for i, which in enumerate(order)]
    answers = [words[which] for which in order]
    question = Question(WHAT, [answers[-1]], "fast binding", "last", sorted(words))
    return _interleaved(dials, index, scenes, question, [f"This is a {answer}." for answer in answers])


def _alone(dials: Dials) -> Dials:
    """The dials for pictures of one thing, whose color and shape are set by the episode."""
    return replace(dials, objects="1", bias=0.0, held_out="" if dials.split == "test" else dials.held_out)


def _two_kinds(dials: Dials, random: Random, wanted: tuple[Combination, ...]) -> tuple[Combination, Combination]:
    """Two combinations that differ in both color and shape; the first has one of those wanted, if any are."""
    kinds = _kinds(dials)
    more = draw(random, wanted) if wanted else {}
    first = draw(random, [kind for kind in kinds if _others(kinds, kind) and kind.items() >= _seen(more).items()])
    return first | more, draw(random, _others(kinds, first))


def _seen(values: Combination) -> Combination:
    return {name: value for name, value in values.items() if name in ("color", "shape")}


def _others(kinds: list[Combination], kind: Combination) -> list[Combination]:
    """Those that differ from `kind` in color and shape."""
    return [other for other in kinds if not other.items() & kind.items()]


@lru_cache(maxsize=64)
def _kinds(dials: Dials) -> list[Combination]:
    """The combinations of color and shape that `_single` finds."""
    every = [{"color": color, "shape": shape} for color in COLORS for shape in SHAPES]
    if not dials.combinations:
        return every
    things = [attributes_of(dials, i, "episode kinds")[0] for i in range(TRIED)]
    return [kind for kind in every if sum(_can_be(dials, thing, kind) for thing in things) >= RARE * TRIED]


def _can_be(dials: Dials, thing: Combination, kind: Combination) -> bool:
    """Whether a thing has the kind's attributes, its color aside, and may be painted in that one."""
    painted = thing | {"color": kind["color"]}
    return painted.items() >= kind.items() and not any(held.items() <= painted.items() for held in dials.combinations)


def _single(dials: Dials, index: int, purpose: str, kind: Combination) -> Scene:
    """A scene of one thing of this kind; its color is painted over, which changes no shape or place."""
    scene = scene_where(
        lambda facts: _can_be(dials, facts.values[0], kind), dials, index, purpose, f"only a {' '.join(kind.values())}"
    ).scene
    return replace(scene, things=(replace(scene.things[0], color=kind["color"]),))


@lru_cache(maxsize=64)
def _numbers(dials: Dials) -> dict[str, list[int]]:
    """How many things of a shape scenes may have, up to 2, for each shape with more than one such number."""
    drawn = [Counter(thing["shape"] for thing in attributes_of(dials, i, "episode numbers")) for i in range(TRIED)]
    found = {shape: [n for n in range(3) if sum(c[shape] == n for c in drawn) >= RARE * TRIED] for shape in SHAPES}
    return {shape: numbers for shape, numbers in found.items() if len(numbers) > 1}


def _count(dials: Dials, index: int, random: Random) -> Composite:
    shape = draw(random, tuple(_numbers(dials)))
    many = phrase(draw(random, WORDINGS), {"shape": shape}, True)
    numbers = _numbers(dials)[shape]
    order = _shuffled(random, numbers) + [draw(random, numbers)]
    scenes = [_with_number(dials, index, f"episode {i}", shape, number) for i, number in enumerate(order)]
    question = Question(f"How many {many} are there?", [str(order[-1])], "few-shot count", "last")
    return _interleaved(dials, index, scenes, question, [str(number) for number in order])


def _with_number(dials: Dials, index: int, purpose: str, shape: str, number: int) -> Scene:
    """A scene of this many things of a shape."""
    return scene_where(
        lambda facts: facts.having[shape].bit_count() == number, dials, index, purpose, f"{number} {shape}s"
    ).scene


def _captions(dials: Dials, index: int, random: Random) -> Composite:
    scenes = [sample_scene(dials, index, f"episode {i}") for i in range(DOCUMENT_PICTURES)]
    parts = [f"<image> {captions_of(Facts(scene), random)[0][COLORS_AND_SHAPES]}" for scene in scenes]
    return Composite(scenes, Sample(id=sample_id(dials, index), messages=[Message("document", "\n".join(parts))]))


def _interleaved(dials: Dials, index: int, scenes: list[Scene], question: Question, answers: list[str]) -> Composite:
    messages = []
    for answer in answers:
        messages += [Message("user", f"<image>\n{question.question}"), Message("assistant", answer)]
    return Composite(scenes, Sample(id=sample_id(dials, index), questions=[question], messages=messages))


def _two(random: Random, values: tuple[str, ...]) -> tuple[str, str]:
    """Two different values."""
    first = int(random.random() * len(values))
    second = (first + 1 + int(random.random() * (len(values) - 1))) % len(values)
    return values[first], values[second]


def _shuffled(random: Random, values: list[int]) -> list[int]:
    return sorted(values, key=lambda _: random.random())
