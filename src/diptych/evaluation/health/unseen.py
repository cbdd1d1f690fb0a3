"""Does it know a yellow cone that has seen yellow things and cones, and never a yellow cone?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from diptych.data.scenes.dials import Combination, Dials
from diptych.data.scenes.world import VALUES
from diptych.evaluation.health.choosing import MATCHES, Choice, can_match, choose, failures
from diptych.evaluation.health.finding import Finding, above, all_of, below, halfway, not_judged, percent, points
from diptych.evaluation.health.worlds import NEEDED, Values, samples_of, shows, there_is, values_of
from diptych.evaluation.metrics.intervals import mean_interval, paired_difference
from diptych.types import Sample

TEST = "unseen combinations"
NAME = "things never seen together in training"
HALF = 0.5
GAP = 0.05  # of accuracy; what is smaller matters little


def unseen(
    model: Any, dials: Dials | None, held_out: str, count: int, rng: np.random.Generator, **settings: Any
) -> list[Finding]:
    """Accuracy on combinations that training left out, beside that on other things of the same pictures.

    Args:
        held_out: the combinations that the model was trained without, as in the dial: "yellow cone,blue cube".
        count: pictures.
    """
    if not can_match(model):
        return [not_judged(TEST, NAME, MATCHES)]
    if dials is None:
        return [not_judged(TEST, NAME, NEEDED)]
    if not held_out:
        return [not_judged(TEST, NAME, "a model trained on scenes:?held_out=..., and which combinations those were")]
    samples = samples_of(dials, count, held_out=held_out, split="test")
    left_out = replace(dials, held_out=held_out, split="test").combinations
    pairs = [pair for row, sample in enumerate(samples) if (pair := _pair(row, sample, left_out, rng))]
    if len(pairs) < 10:
        return [not_judged(TEST, NAME, "more pictures (--n)")]
    flat = [choice for pair in pairs for choice in pair]
    chosen = choose(model, [sample.images[0] for sample in samples], flat, **settings)
    new, known = chosen.hits[0::2], chosen.hits[1::2]
    score = mean_interval(new, rng, chance=HALF)
    gap = paired_difference(known, new, rng)
    control = mean_interval(known, rng, chance=HALF)
    verdict = all_of(above(score, halfway(HALF)), above(control, halfway(HALF)), below(gap.estimate, GAP))
    said = {
        "good": f"New combinations are no harder than known ones (within {points(GAP)}): it composes what it knows.",
        "bad": f"Right on {percent(score.value)} of new combinations and {percent(control.value)} of known ones: "
        + (
            "it learnt combinations, not attributes."
            if gap.estimate.low > GAP
            else "it does not tell such things apart."
        ),
    }.get(
        verdict,
        f"{percent(score.value)} on new combinations, {percent(control.value)} on known ones: the gap is not clear.",
    )
    return [
        Finding(
            TEST,
            NAME,
            verdict,
            said,
            score,
            control,
            "combinations seen in training",
            looks=3,
            details={"gap": gap.estimate._asdict(), "p": gap.p, "line of the gap": GAP, "held out": held_out},
            failures=failures(
                samples, chosen._replace(choices=chosen.choices[0::2], scores=chosen.scores[0::2], hits=new), NAME
            ),
            left_out=chosen.left_out,
        )
    ]


def _pair(
    row: int, sample: Sample, left_out: tuple[Combination, ...], rng: np.random.Generator
) -> tuple[Choice, Choice] | None:
    """A thing with a left-out combination and one without, each beside the same with one value changed."""
    things = [values_of(thing) for thing in sample.objects]
    new = [(thing, combination) for thing in things for combination in left_out if combination.items() <= thing.items()]
    if not new:
        return None
    _, combination = new[int(rng.integers(len(new)))]
    other = [
        {name: thing[name] for name in combination}
        for thing in things
        if not any(_together(thing, out, combination) for out in left_out)
    ]
    if not other:
        return None
    asked = (dict(combination), other[int(rng.integers(len(other)))])
    wrong = [_changed(values, things, left_out, rng) for values in asked]
    if None in wrong:
        return None
    first, second = (Choice(row, (there_is(v), there_is(w or {})), row) for v, w in zip(asked, wrong))
    return first, second


def _together(thing: Values, left_out: Combination, like: Combination) -> bool:
    return left_out.keys() == like.keys() and left_out.items() <= thing.items()


def _changed(
    values: Values, things: list[Values], left_out: tuple[Combination, ...], rng: np.random.Generator
) -> Values | None:
    """The values with one of them changed such that no thing of the scene has them, nor any that was left out."""
    options = [
        values | {name: value}
        for name in values
        for value in VALUES[name]
        if not shows(things, values | {name: value}) and values | {name: value} not in left_out
    ]
    return options[int(rng.integers(len(options)))] if options else None
