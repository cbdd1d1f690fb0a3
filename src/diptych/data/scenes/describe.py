"""All that is said of one scene."""

from __future__ import annotations

from dataclasses import replace

from diptych.data.scenes.captions import captions_of
from diptych.data.scenes.dials import Dials
from diptych.data.scenes.labels import Described
from diptych.data.scenes.negatives import negatives_of
from diptych.data.scenes.questions import questions_of
from diptych.data.scenes.referring import regions_of
from diptych.data.scenes.relations import Facts, relations_of
from diptych.data.scenes.sampling import generator, sample_scene
from diptych.data.scenes.world import Scene


def describe(scene: Scene, dials: Dials, index: int) -> Described:
    """Captions, questions, negatives, referring expressions and relations of scene `index`.

    Deterministic from the dials' seed and split, the index and the scene. With probability `dials.noise` the captions
    are those of another scene.
    """
    random = generator(dials, index, "language")
    facts = Facts(scene)
    questions, regions, relations = questions_of(facts, random), regions_of(facts, random), relations_of(facts)
    captions, standing = captions_of(facts, random)
    negatives = negatives_of(facts, captions, standing, random)
    noisy = random.random() < dials.noise  # drawn last: whatever the noise, all other labels stay the same
    if noisy:
        other = Facts(sample_scene(dials, index, "another scene"))
        captions, negatives = captions_of(other, random)[0], []
    low, high = dials.details
    kept = [replace(one, of=one.of - low + 1) for one in negatives if low <= one.of + 1 <= high]
    return Described(captions[low - 1 : high], questions, kept, regions, relations, noisy)
