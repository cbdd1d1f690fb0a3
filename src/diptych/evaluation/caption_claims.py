"""Judge captions of the generated world by whether they are true: no reference can be as exact as the scene itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes.claims import Reading, check, read, scene_tuples
from diptych.data.scenes.world import Scene
from diptych.evaluation.metrics.tuples import tuple_f1

Floats = NDArray[np.float64]
Part = dict[str, tuple[Floats, float]]
"""Name of an estimate -> the number of each picture, and chance."""

COMMONEST = 5  # words that could not be read, which the note names


def judge_claims(written: Sequence[str], scenes: Sequence[Scene], dealt: NDArray[np.int64]) -> tuple[Part, str]:
    """How true and how complete captions are, each a number from 0 to 1, and a note on what could not be read.

    "caption/claims_right" is the share of a caption's claims that are true (0 where it claims nothing),
    "caption/objects_right" the share of the scene's things that a true claim with a shape can be about, and
    "caption/tuple_f1" the F1 of things, attributes and relations as in SPICE (`metrics.tuples`). No caption tells all
    relations of a scene, so that tuple F1 stays well below 1 for people too.

    Args:
        dealt: for each picture the position of the caption that it gets by chance.
    """
    said = [read(text) for text in written]
    chance = _scores([said[i] for i in dealt.tolist()], scenes)
    part = {name: (numbers, float(chance[name].mean())) for name, numbers in _scores(said, scenes).items()}
    unread = Counter(word for one in said for word in one.unread)
    share = unread.total() / max(sum(one.words for one in said), 1)
    commonest = ", ".join(word[:30] for word, _ in unread.most_common(COMMONEST))
    note = f"{100 * share:.1f} % of the words are in no claim that could be read"
    return part, f"{note}; most often: {commonest}" if unread else note


def _scores(said: Sequence[Reading], scenes: Sequence[Scene]) -> dict[str, Floats]:
    found = [check(one, scene) for one, scene in zip(said, scenes)]
    return {
        "caption/claims_right": np.array([one.right / max(one.claimed, 1) for one in found]),
        "caption/objects_right": np.array([one.scene_things_described / max(one.scene_things, 1) for one in found]),
        "caption/tuple_f1": tuple_f1([one.tuples() for one in said], [scene_tuples(scene) for scene in scenes]).each,
    }
