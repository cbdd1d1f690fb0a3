"""All that is said of one scene."""

from __future__ import annotations

from diptych.data.scenes.dials import Dials
from diptych.data.scenes.labels import Described
from diptych.data.scenes.questions import questions_of
from diptych.data.scenes.relations import Facts, relations_of
from diptych.data.scenes.sampling import generator
from diptych.data.scenes.world import Scene


def describe(scene: Scene, dials: Dials, index: int) -> Described:
    """Captions, questions, negatives, referring expressions and relations of scene `index`, by lot from its seed."""
    facts = Facts(scene)
    return Described([], questions_of(facts, generator(dials, index, "questions")), [], [], relations_of(facts))
