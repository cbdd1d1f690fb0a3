"""How fast the model gets worse as pictures do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.data.scenes.dials import Dials
from diptych.data.scenes.world import STYLES
from diptych.data.store import image_source
from diptych.evaluation.health.ambiguity import among_others
from diptych.evaluation.health.choosing import MATCHES, Choice, Chosen, can_match, chance, choose
from diptych.evaluation.health.finding import Curve, Failure, Finding, below, not_judged, percent, points
from diptych.evaluation.health.perturb import DAMAGES, GRADES, encoded
from diptych.evaluation.health.worlds import NEEDED, samples_of
from diptych.evaluation.metrics.intervals import mean_interval
from diptych.images import BadImage, decode
from diptych.types import Estimate, Sample

TEST = "robustness"
AMONG = 4  # captions to choose from
LEAST = 20
SIDE = 256  # larger pictures are reduced to about this before they are damaged
TICKS = ("clean", "mild", "medium", "strong")

Floats = NDArray[np.float64]


def robustness(
    model: Any, samples: Sequence[Sample], dials: Dials | None, rng: np.random.Generator, **settings: Any
) -> list[Finding]:
    """Own caption among four, on clean pictures and on the same pictures damaged or drawn in another style.

    Red: of its lead over guessing on clean pictures the model loses more than half.
    """
    names = [*DAMAGES, "style"]
    if not can_match(model):
        return [not_judged(TEST, name, MATCHES) for name in names]
    clean = [_decoded(sample) for sample in samples]
    kept = [row for row, picture in enumerate(clean) if picture is not None]
    choices = among_others([samples[row] for row in kept], AMONG, rng)
    if len(choices) < LEAST:
        needs = f"at least {LEAST} samples with captions among the half that it takes (--n)"
        return [not_judged(TEST, name, needs) for name in names]
    pictures = [clean[row] for row in kept]
    clean_run = choose(model, pictures, choices, **settings)
    first = _in_place(clean_run, choices)
    lead = mean_interval(clean_run.hits, rng, chance=chance(clean_run.choices))
    if lead.low <= (lead.chance or 0):
        return [not_judged(TEST, name, "a model that beats guessing on clean pictures") for name in names]
    findings = []
    for name, damage in DAMAGES.items():
        shown = [[damage(picture, grade, rng) for picture in pictures] for grade in range(GRADES)]
        hits = _hits(model, shown, choices, first, settings)
        findings.append(_row(name, hits, lead, _fitted_fall(hits), TICKS, shown, choices, rng))
    styles = [] if dials is None else [style for style in STYLES if style != dials.style]
    if dials is None or dials.style == "mixed":
        return [*findings, not_judged(TEST, "style", NEEDED)]
    shown = [[_decoded(s) for s in samples_of(dials, len(samples), style=style)] for style in styles]
    shown = [[some[row] for row in kept] for some in shown]
    hits = _hits(model, shown, choices, first, settings)
    fall = hits[:, 0] - hits[:, 1:].mean(axis=1)
    return [*findings, _row("style", hits, lead, fall, (dials.style, *styles), shown, choices, rng)]


def _hits(
    model: Any, shown: list[list[Any]], choices: Sequence[Choice], first: Floats, settings: dict[str, Any]
) -> Floats:
    """Choices x (clean, then each version of the pictures): whether the right caption was taken; NaN if not judged."""
    count = len(shown[0])
    moved = [choice._replace(row=choice.row + i * count) for i in range(len(shown)) for choice in choices]
    chosen = choose(model, [picture for some in shown for picture in some], moved, **settings)
    return np.column_stack([first, _in_place(chosen, moved).reshape(len(shown), -1).T])


def _in_place(chosen: Chosen, choices: Sequence[Choice]) -> Floats:
    """The hits of all choices; NaN where one could not be judged."""
    hits = dict(zip(chosen.choices, chosen.hits.tolist()))
    return np.array([hits.get(choice, np.nan) for choice in choices])


def _fitted_fall(hits: Floats) -> Floats:
    """Each choice's fall from clean to the strongest grade along the least-squares line through its hits."""
    grades = np.arange(hits.shape[1]) - (hits.shape[1] - 1) / 2
    fall: Floats = -(hits @ grades) / (grades @ grades) * (hits.shape[1] - 1)
    return fall


def _row(
    name: str,
    hits: Floats,
    lead: Estimate,
    fall: Floats,
    ticks: Sequence[str],
    shown: list[list[Any]],
    choices: Sequence[Choice],
    rng: np.random.Generator,
) -> Finding:
    judged = ~np.isnan(hits).any(axis=1)
    left_out = {"not judged in every version": int((~judged).sum())} if not judged.all() else {}
    if judged.sum() < LEAST:
        needs = f"at least {LEAST} pictures that it can judge in every version"
        return replace(not_judged(TEST, name, needs), left_out=left_out)
    hits, fall, choices = hits[judged], fall[judged], [choices[i] for i in np.flatnonzero(judged).tolist()]
    guessing = lead.chance or 0.0
    lost = mean_interval(fall, rng)
    beyond = mean_interval(fall - 0.5 * (hits[:, 0] - guessing), rng)  # what is lost more than half of the lead
    verdict = below(beyond, 0.0)
    worst = [mean_interval(column, rng, chance=guessing) for column in hits.T]
    kind = "in another style" if name == "style" else f"under strong {name}"
    loss = f"{points(max(lost.value, 0))} of {percent(lead.value)} {kind}"
    said = {
        "good": f"Loses {loss}: less than half of its lead over guessing.",
        "bad": f"Loses {loss}: more than half of its lead over guessing.",
    }.get(verdict, f"Loses about {loss}; whether that is half of its lead over guessing is not clear.")
    failed = [i for i in range(len(hits)) if hits[i, 0] == 1 and hits[i, -1] < 1][:2]
    examples = [
        Failure(
            encoded(shown[-1][choices[i].row]), f"{name}, {ticks[-1]}", "another picture's caption", choices[i].texts[0]
        )
        for i in failed
    ]
    return Finding(
        TEST,
        name,
        verdict,
        said,
        lost,
        lead,
        "accuracy on clean pictures",
        unit="points",
        looks=1,
        details={"line": 0.5 * (lead.value - guessing), "lost beyond the line": beyond._asdict()},
        curves=[
            Curve(f"Accuracy: {name}", range(len(ticks)), worst, ticks, [(0, guessing), (len(ticks) - 1, guessing)])
        ],
        failures=examples,
        left_out=left_out,
    )


def _decoded(sample: Sample) -> Any:
    try:
        picture = decode(image_source(sample), target=SIDE)
    except BadImage:
        return None
    if min(picture.size) > SIDE:
        picture.thumbnail((2 * SIDE, 2 * SIDE))
    return np.asarray(picture)
