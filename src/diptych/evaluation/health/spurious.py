"""Does it look at the thing, or at what usually goes with it? And does it read more than a list of things?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.data.scenes.dials import Dials, partners
from diptych.data.scenes.dials import values_of as all_values
from diptych.data.scenes.sample import from_json
from diptych.evaluation.health.choosing import MATCHES, Choice, can_match, chance, choose, failures
from diptych.evaluation.health.claims import seen_in
from diptych.evaluation.health.finding import Curve, Finding, Verdict, below, halfway, not_judged, percent, points
from diptych.evaluation.health.worlds import NEEDED, samples_of, shows, there_is, values_of
from diptych.evaluation.metrics.intervals import bootstrap, mean_interval
from diptych.types import Sample

TEST = "spurious correlation"
KINDS = ("color-shape", "color-background")
BIASES = (0.0, 0.5, 1.0)
GAP = 0.05
LEAST = 10


def spurious(model: Any, dials: Dials | None, count: int, rng: np.random.Generator, **settings: Any) -> list[Finding]:
    """For each kind of bias: accuracy where the rule of the bias holds and where it does not, as the dial turns.

    Args:
        count: pictures at each position of the dial.
    """
    names = [_name(kind) for kind in KINDS]
    if not can_match(model):
        return [not_judged(TEST, name, MATCHES) for name in names]
    if dials is None:
        return [not_judged(TEST, name, NEEDED) for name in names]
    return [_kind(model, dials, kind, count, rng, settings) for kind in KINDS]


def worlds(dials: Dials, kind: str, count: int) -> list[list[Sample]]:
    """The scenes at each position of the dial."""
    held = {"held_out": "", "split": "test"}
    return [samples_of(dials, count, bias=bias, bias_kind=kind, **held) for bias in BIASES]


def _name(kind: str) -> str:
    first, second = (kind.split("-")[1], "color") if kind.endswith("background") else kind.split("-")
    return f"{second} guessed from {first}"


def _kind(
    model: Any, dials: Dials, kind: str, count: int, rng: np.random.Generator, settings: dict[str, Any]
) -> Finding:
    name, pair = _name(kind), Dials(bias_kind=kind).bias_pair
    by_bias = worlds(dials, kind, count)
    samples = [sample for some in by_bias for sample in some]
    asked = [found for row, sample in enumerate(samples) if (found := _ask(row, sample, pair, rng))]
    chosen = choose(model, [sample.images[0] for sample in samples], [choice for choice, _ in asked], **settings)
    usual_of = dict(asked)
    usual = np.array([usual_of[choice] for choice in chosen.choices])
    if min(usual.sum(), (~usual).sum()) < LEAST:
        return not_judged(TEST, name, "more pictures (--n)")
    hits, guessing = chosen.hits, chance(chosen.choices)
    # a scene stands at each position of the dial, with other colors: no independent evidence
    scene = np.array([choice.row for choice in chosen.choices]) % count
    minority = mean_interval(hits[~usual], rng, groups=scene[~usual], chance=guessing)
    majority = mean_interval(hits[usual], rng, groups=scene[usual], chance=guessing)
    gap = bootstrap(lambda i: _gap(hits[i], usual[i]), len(hits), rng, groups=scene)
    verdict = below(gap, GAP)
    if verdict == "good" and min(minority.low, majority.low) <= guessing:
        verdict = "unclear"  # who knows nothing of it leans on nothing
    positions = np.array([choice.row for choice in chosen.choices]) // count
    curve = Curve(
        f"Accuracy as the bias turns: {name}",
        BIASES,
        [mean_interval(hits[positions == i], rng, chance=guessing) for i in range(len(BIASES))],
        line=[(BIASES[0], guessing), (BIASES[-1], guessing)],
    )
    rare = [i for i in range(len(hits)) if not usual[i]]
    part = chosen._replace(
        choices=[chosen.choices[i] for i in rare], scores=[chosen.scores[i] for i in rare], hits=hits[rare]
    )
    return Finding(
        TEST,
        name,
        verdict,
        _sentence(name, verdict, majority.value, minority.value),
        minority,
        majority,
        "where the usual rule holds",
        looks=1,
        details={"gap": gap._asdict(), "line of the gap": GAP},
        curves=[curve],
        failures=failures(samples, part, name),
        left_out=chosen.left_out,
    )


def _gap(hits: Any, usual: Any) -> float:
    return float(hits[usual].mean() - hits[~usual].mean()) if 0 < usual.sum() < len(usual) else float("nan")


def _sentence(name: str, verdict: Verdict, majority: float, minority: float) -> str:
    both = f"{percent(minority)} where the usual rule is broken, {percent(majority)} where it holds"
    what, _, by = name.partition(" guessed from ")
    if verdict == "bad":
        return f"{both}: it reads the {what} off the {by} instead of the thing."
    if verdict == "good":
        return f"{both}: it does not lean on the {by} by more than {points(GAP)}."
    return f"{both}: not clear whether it leans on the {by}."


def _ask(row: int, sample: Sample, pair: tuple[str, str], rng: np.random.Generator) -> tuple[Choice, bool] | None:
    """A thing of the scene beside the same with a value that nothing there has; and whether the rule holds for it.

    Where the rule is broken the wrong value is what the rule expects, if the scene has it nowhere. So the picture holds
    no other thing that could be meant, and the two groups differ in nothing but the rule.
    """
    first, second = pair
    things = [values_of(thing) for thing in sample.objects]
    thing = things[int(rng.integers(len(things)))]
    given = from_json(sample.texts["scene"]).background if first == "background" else thing[first]
    usual = partners(pair, given)
    free = [value for value in all_values(second) if not shows(things, {second: value})]
    traps = [value for value in free if value in usual] or free
    if not traps:
        return None
    asked = {name: thing[name] for name in ("color", "shape")}
    wrong = asked | {second: traps[int(rng.integers(len(traps)))]}
    return Choice(row, (there_is(asked), there_is(wrong)), row), thing[second] in usual


def lists(model: Any, samples: Sequence[Sample], rng: np.random.Generator, **settings: Any) -> list[Finding]:
    """How often the fullest true caption beats a bare list of the things, which is as true and says less."""
    name = "a bare list of things"
    if not can_match(model):
        return [not_judged(TEST, name, MATCHES)]
    choices = []
    for row, sample in enumerate(samples):
        names = sorted({thing for _, thing in seen_in(sample).things})
        if names and sample.captions:
            choices.append(Choice(row, (max(sample.captions, key=len), f"{', '.join(names).capitalize()}."), row))
    if len(choices) < LEAST:
        return [not_judged(TEST, name, "samples with captions and `objects`")]
    chosen = choose(model, [sample.images[0] for sample in samples], choices, **settings)
    score = mean_interval(1 - chosen.hits, rng, chance=0.5)
    verdict = below(score, halfway(0.0))
    said = {
        "good": f"Prefers the full caption to a bare list of its things in {percent(1 - score.value)} of pictures.",
        "bad": f"Prefers a bare list of things to the full caption in {percent(score.value)} of pictures: it rewards"
        " naming, and what is said beyond costs score.",
    }.get(
        verdict,
        "A bare list of the things scores about as well as the full caption: what is said beyond hardly counts.",
    )
    return [
        Finding(
            TEST,
            name,
            verdict,
            said,
            score,
            looks=1,
            details={"line": 0.5},
            failures=failures(samples, chosen, "which of two true texts scores higher"),
            left_out=chosen.left_out,
        )
    ]
