"""Does the model know which word belongs to which, or only which words occur? After ARO (arXiv:2210.01936)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.evaluation.health.blind import blind_hits
from diptych.evaluation.health.choosing import MATCHES, Choice, can_match, chance, choose, failures
from diptych.evaluation.health.finding import Finding, above, halfway, not_judged, percent, points
from diptych.evaluation.match import asked_of
from diptych.evaluation.metrics.intervals import mean_interval, paired_difference
from diptych.types import Estimate, Sample

TEST = "word order"
LEAST = 10  # choices of a kind; fewer tell nothing
KNOWS = {
    "attributes swapped": "which attribute belongs to which thing",
    "attribution": "which attribute belongs to which thing",
    "relation reversed": "who stands where to whom",
    "relation": "who stands where to whom",
}


def word_order(model: Any, samples: Sequence[Sample], rng: np.random.Generator, **settings: Any) -> list[Finding]:
    """For each kind of `negatives`: how often the caption beats its wrong texts, beside a guesser that never looks.

    Red: the score is below half of what guessing leaves. Green: it is above that and above the blind guesser's, which
    itself is below.
    """
    if not can_match(model):
        return [not_judged(TEST, "captions against their negatives", MATCHES)]
    found = _choices(samples)
    if not found:
        return [not_judged(TEST, "captions against their negatives", "samples with `negatives`, as of ARO")]
    chosen = choose(
        model, [sample.images[0] for sample in samples], [c for some in found.values() for c in some], **settings
    )
    hit_of = dict(zip(chosen.choices, chosen.hits))
    findings = []
    for kind, choices in found.items():
        judged = [choice for choice in choices if choice in hit_of]
        if len(judged) < LEAST:
            findings.append(
                not_judged(TEST, kind, f"at least {LEAST} captions with such negatives, found {len(judged)}")
            )
            continue
        findings.append(_row(kind, samples, chosen, judged, hit_of, rng))
    return findings


def _choices(samples: Sequence[Sample]) -> dict[str, list[Choice]]:
    """By kind: each caption with its wrong texts. The halves of a Winoground item are one group."""
    groups: dict[str, int] = {}
    found: dict[str, list[Choice]] = defaultdict(list)
    for row, sample in enumerate(samples):
        group = groups.setdefault(sample.group or f"row {row}", len(groups))
        for one in asked_of(row, sample):
            found[one.kind].append(Choice(row, (one.caption, *one.wrong), group))
    return dict(found)


def _row(
    kind: str,
    samples: Sequence[Sample],
    chosen: Any,
    judged: list[Choice],
    hit_of: dict[Choice, float],
    rng: np.random.Generator,
) -> Finding:
    hits = np.array([hit_of[choice] for choice in judged])
    blind = blind_hits(judged, [samples[c.row].group or "\n".join(sorted(c.texts)) for c in judged])
    groups, guessing = [choice.group for choice in judged], chance(judged)
    score = mean_interval(hits, rng, groups=groups, chance=guessing)
    control = mean_interval(blind, rng, groups=groups, chance=guessing)
    lead = paired_difference(hits, blind, rng, groups=groups)
    enough = above(score, halfway(guessing))
    told = control.high > halfway(guessing)  # by the wording; a better guesser than this one may tell all of it
    own = set(judged)
    mine = [i for i, choice in enumerate(chosen.choices) if choice in own]
    part = chosen._replace(
        choices=[chosen.choices[i] for i in mine], scores=[chosen.scores[i] for i in mine], hits=chosen.hits[mine]
    )
    return Finding(
        TEST,
        kind,
        enough if enough != "good" or (lead.estimate.low > 0 and not told) else "unclear",
        _sentence(kind, score, control, lead.estimate),
        score,
        control,
        "guesser that never looks",
        looks=1,
        details={"line": halfway(guessing), "lead": lead.estimate._asdict(), "p": lead.p},
        failures=failures(samples, part, kind),
        left_out=chosen.left_out,
    )


def _sentence(kind: str, score: Estimate, control: Estimate, lead: Estimate) -> str:
    knows = KNOWS.get(
        kind, "what a sentence looks like" if "shuffled" in kind or "order" in kind else "this difference"
    )
    guess, value = score.chance or 0.0, percent(score.value)
    blind = f"a guesser that never looks gets {percent(control.value)}"
    if score.high < halfway(guess):
        if score.low > guess:
            return f"It knows little of {knows}: right in {value}, where guessing gets {percent(guess)} and {blind}."
        return f"Right in {value}, and guessing gets {percent(guess)}: nothing shows that it knows {knows}."
    if lead.high < 0:
        return f"{value}, but {blind}: the score is no sign of sight."
    if lead.low <= 0 or control.high > halfway(guess):
        return f"{value}, and {blind}: this row cannot tell whether the model looks."
    if score.low > halfway(guess):
        return f"It knows {knows}, and looks: {points(lead.value)} better than a guesser that never does."
    return f"It knows something of {knows}: {value}, where {blind}; more samples would tell how much."
