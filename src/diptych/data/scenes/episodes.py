"""Few-shot episodes: some solved examples and one more, interleaved with pictures, as Frozen and Flamingo are judged.

Three tasks, equally likely. "fast binding" (Tsimpoukelli et al. 2021, arXiv:2106.13884): two made-up words are bound to
two kinds of things by two examples each, then a fifth thing is to be named. "few-shot count": how many cubes, after one
example of each answer. "captions": pictures and captions as one document. In the first two every answer is equally
likely, and each occurs equally often in the examples. The bias dial has no effect on fast binding.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from diptych.data.scenes.captions import COLORS_AND_SHAPES, captions_of
from diptych.data.scenes.dials import Combination, Dials
from diptych.data.scenes.finding import scene_where
from diptych.data.scenes.labels import Composite, sample_id
from diptych.data.scenes.relations import Facts
from diptych.data.scenes.sampling import draw, generator, sample_scene
from diptych.data.scenes.words import WORDINGS, phrase
from diptych.data.scenes.world import COLORS, SHAPES, Scene
from diptych.types import InputError, Message, Question, Sample

MADE_UP = ("dax", "blicket", "wug", "fep", "toma", "zup", "modi", "gazzer", "lorp", "tulver", "kern", "pilk")
SHOTS = 2  # examples of each word
DOCUMENT_PICTURES = 4
WHAT = "What is this?"


def episode(dials: Dials, index: int) -> Composite:
    """Sample `index`; the last picture's question and answer stand in its `questions` too, a document has none."""
    random = generator(dials, index, "episode")
    task = draw(random, (_fast_binding, _count, _captions))
    return task(dials, index, random)


def _fast_binding(dials: Dials, index: int, random: Random) -> Composite:
    words = _two(random, MADE_UP)
    alone = _alone(dials)
    kinds = _two_kinds(alone, random)
    order = _shuffled(random, [0, 1] * SHOTS) + [int(random.random() * 2)]
    scenes = [_single(alone, index, f"episode {i}", kinds[which]) for i, which in enumerate(order)]
    answers = [words[which] for which in order]
    question = Question(WHAT, [answers[-1]], "fast binding", "last", sorted(words))
    return _interleaved(dials, index, scenes, question, [f"This is a {answer}." for answer in answers])


def _alone(dials: Dials) -> Dials:
    """The dials for pictures of one thing, whose color and shape are set by the episode."""
    return replace(dials, objects="1", bias=0.0, held_out="" if dials.split == "test" else dials.held_out)


def _two_kinds(dials: Dials, random: Random) -> tuple[Combination, Combination]:
    """Two combinations of color and shape that differ in both and are not held out."""
    every = [{"color": color, "shape": shape} for color in COLORS for shape in SHAPES]
    allowed = [kind for kind in every if not _held_out(dials, kind)]
    first = draw(random, allowed) if allowed else {}
    others = [kind for kind in allowed if not kind.items() & first.items()]
    if not others:
        raise InputError("scenes: task=episodes: held_out leaves no two things that differ in color and shape")
    return first, draw(random, others)


def _single(dials: Dials, index: int, purpose: str, kind: Combination) -> Scene:
    """A scene of one thing of this color and shape; its color is painted over, which changes no shape or place."""
    scene = scene_where(
        lambda facts: facts.values[0]["shape"] == kind["shape"] and not _held_out(dials, facts.values[0] | kind),
        dials,
        index,
        purpose,
        f"only a {kind['color']} {kind['shape']}",
    ).scene
    return replace(scene, things=(replace(scene.things[0], color=kind["color"]),))


def _held_out(dials: Dials, values: Combination) -> bool:
    return any(combination.items() <= values.items() for combination in dials.combinations)


def _count(dials: Dials, index: int, random: Random) -> Composite:
    shape = draw(random, SHAPES)
    many = phrase(draw(random, WORDINGS), {"shape": shape}, True)
    numbers = list(range(min(2, dials.counts[1]) + 1))
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
