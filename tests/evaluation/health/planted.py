"""Models whose faults are known, so that the page can be asked whether it finds them.

All but the blind ones know every scene of the test and find it by the picture: the nearest thumbnail.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.data import open_dataset
from diptych.data.scenes.dials import Dials, partners
from diptych.data.scenes.programs import PresuppositionError, run_program
from diptych.data.scenes.sample import from_json
from diptych.data.scenes.words import SYNONYMS, read_phrase
from diptych.data.scenes.world import COLORS, Scene
from diptych.data.store import Dataset
from diptych.evaluation.health import spurious, worlds
from diptych.evaluation.health.worlds import Values, shows, values_of
from diptych.images import decode
from diptych.types import Reply, Sample

SIDE = 8  # of a thumbnail
SCENES = 90
HELD_OUT = "yellow cone,blue cube"
YES_NO = re.compile(r'Is this true of the picture: "(.*)"\? Answer yes or no\.')


class World:
    """All scenes that a test may show, found by their pictures, however damaged."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = list(samples)
        self.things: list[list[Values]] = [[values_of(thing) for thing in sample.objects] for sample in samples]
        self.scenes: list[Scene] = [from_json(sample.texts["scene"]) for sample in samples]
        self._small = np.stack([thumbnail(np.asarray(decode(s.images[0].data or b""))) for s in samples])
        self._seen: dict[int, tuple[Any, int]] = {}

    def find(self, picture: Any) -> int:
        """Which sample the picture shows; of a damaged one the nearer half of the thumbnail decides."""
        known = self._seen.get(id(picture))
        if known is not None and known[0] is picture:
            return known[1]
        gaps = np.abs(self._small - thumbnail(picture)).sum(axis=2)
        whole, half = gaps.sum(axis=1), gaps.shape[1] // 2
        damaged = whole.min() > 0
        found = int((np.partition(gaps, half, axis=1)[:, :half].sum(axis=1) if damaged else whole).argmin())
        self._seen[id(picture)] = (picture, found)
        return found


def thumbnail(picture: Any) -> Any:
    """Pixels x 3, each the mean of a part of the picture."""
    from PIL import Image

    small = Image.fromarray(np.asarray(picture)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1, 3)


def phrases(text: str) -> list[Values] | None:
    """The things that "There is a red cube." or a bare list names; None for any other text."""
    text = text.lower().rstrip(".")
    claim = re.fullmatch(r"there is an? (.+)", text)
    found = [read_phrase(part) for part in ([claim[1]] if claim else text.split(", "))]
    return None if None in found else [values for values in found if values is not None]


class Oracle:
    """Knows the scene: what is true scores by how much it says, what is false by how many of its words fit."""

    def __init__(self, world: World) -> None:
        self.world = world

    def match(self, pictures: Sequence[Any], texts: Sequence[str]) -> Any:
        scores = [self.score(self.world.find(p), text) for p, text in zip(pictures, texts)]
        return np.array(scores, np.float32)

    def score(self, scene: int, text: str) -> float:
        if self.holds(scene, text):
            return 1 + len(text) / 1000
        return 0.0

    def holds(self, scene: int, text: str) -> bool:
        if text in self.world.samples[scene].captions:
            return True
        named = phrases(text)
        return named is not None and all(shows(self.world.things[scene], values) for values in named)


class BagOfWords(Oracle):
    """Knows which words are true of the picture and not their order."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.bags = [
            {w for caption in sample.captions for w in words_of(caption)}
            | {w for thing in things for value in thing.values() for w in SYNONYMS[value]}
            | {"there", "is", "a", "an"}
            for sample, things in zip(world.samples, world.things)
        ]

    def score(self, scene: int, text: str) -> float:
        words = words_of(text)
        return sum(word in self.bags[scene] for word in words) / max(len(words), 1)


class Blind:
    """Never looks: prefers texts whose pairs of neighbours are common in captions."""

    def __init__(self, captions: Sequence[str]) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        for caption in captions:
            words = ["^", *words_of(caption), "$"]
            for pair in zip(words, words[1:]):
                self.counts[pair] = self.counts.get(pair, 0) + 1

    def match(self, pictures: Sequence[Any], texts: Sequence[str]) -> Any:
        return np.array([self.likely(text) for text in texts], np.float32)

    def likely(self, text: str) -> float:
        words = ["^", *words_of(text), "$"]
        pairs = list(zip(words, words[1:]))
        return float(np.mean([np.log(self.counts.get(pair, 0) + 0.1) for pair in pairs]))


class Biased(Oracle):
    """Takes the color of things from the ground, as the bias of `color-background` has it."""

    def score(self, scene: int, text: str) -> float:
        named = phrases(text)
        if named is None or len(named) != 1 or "color" not in named[0]:
            return super().score(scene, text)
        usual = partners(Dials(bias_kind="color-background").bias_pair, self.world.scenes[scene].background)
        return float(named[0]["color"] in usual)


class Answerer:
    """Answers questions by their programs; right in a share of cases, and as sure as it is told to be.

    Args:
        right: share of right answers.
        sure: its confidence; None: the truth about itself.
        declines: whether it says so when a question makes no sense.
    """

    def __init__(self, world: World, *, right: float = 1.0, sure: float | None = None, declines: bool = True) -> None:
        self.oracle, self.world = Oracle(world), world
        self.right, self.sure, self.declines = right, sure, declines
        self.programs = {
            (i, question.question): question.program
            for i, sample in enumerate(world.samples)
            for question in sample.questions
        }

    def answer(self, pictures: Sequence[Sequence[Any]], questions: Sequence[str], choices: Any = None) -> list[Reply]:
        options = choices or [[]] * len(questions)
        return [self.reply(self.world.find(p[0]), q, list(some)) for p, q, some in zip(pictures, questions, options)]

    def reply(self, scene: int, question: str, options: list[str]) -> Reply:
        lot = np.random.default_rng(list(hashlib.blake2b(f"{scene} {question}".encode(), digest_size=8).digest()))
        claim = YES_NO.fullmatch(question)
        try:
            truth = (
                ("yes" if self.oracle.holds(scene, claim[1]) else "no")
                if claim
                else run_program(self.programs[scene, question], self.world.scenes[scene])
            )
        except PresuppositionError:
            if self.declines:
                return Reply("There is no such thing.", 0.02 if self.sure is None else self.sure)
            truth = ""
        wrong = [option for option in options or ("yes", "no", *COLORS) if option != truth]
        is_right = truth and lot.random() < self.right
        return Reply(truth if is_right else str(lot.choice(wrong)), self.right if self.sure is None else self.sure)


class Captioner:
    """Writes one of the true captions, or the same for every picture."""

    def __init__(self, world: World, always: str = "") -> None:
        self.world, self.always = world, always

    def caption(self, pictures: Sequence[Any]) -> list[Reply]:
        return [Reply(self.always or self.world.samples[self.world.find(p)].captions[-1]) for p in pictures]


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return re.findall(r"[a-z]+", text.lower())


class Planted(NamedTuple):
    """The data to examine a model on, and a world in which everything of it can be looked up."""

    data: Dataset
    world: World
    captions: list[str]  # of other scenes, for those who only read


def plant() -> Planted:
    """The scenes of all tests of the page, at a size that takes seconds."""
    data = open_dataset(f"scenes:?n={SCENES}&size=48&split=test&seed=5")
    dials = worlds.dials_of_world(data)
    assert dials is not None
    known = data.take(range(SCENES), worlds.WANTED)
    for kind in spurious.KINDS:
        known += [sample for some in spurious.worlds(dials, kind, SCENES // 3) for sample in some]
    known += worlds.samples_of(dials, SCENES, held_out=HELD_OUT, split="test")
    for style in ("flat", "sketch"):
        known += worlds.samples_of(dials, SCENES // 2, style=style)
    others = open_dataset("scenes:?n=300&seed=99").take(range(300), {"captions"})
    return Planted(data, World(known), [caption for sample in others for caption in sample.captions])
