"""What a model does when asked about something that is not there: "What colour is the car?" over a white horse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.capabilities import AnswersQuestions
from diptych.evaluation.health import claims
from diptych.evaluation.health.choosing import MATCHES, can_match, choose, failures, picture_of
from diptych.evaluation.health.finding import Failure, Finding, above, halfway, not_judged, percent, reasons
from diptych.evaluation.metrics.calibration import auroc, best_threshold
from diptych.evaluation.metrics.intervals import bootstrap, mean_interval
from diptych.tasks.answer import answer
from diptych.types import Question, Reply, Sample

TEST = "nonsense"
LEAST = 10
RESAMPLES = 1000  # of statistics that are slow
HALF = 0.5
DECLINES = re.compile(
    r"\b(un)?answerable\b|\bunsuitable\b|\bunknown\b|\bnone\b|\bnothing\b|\bno such\b|\bn/a\b"
    r"|\b(not|cannot|can't|don't|doesn't|isn't|aren't|there is no|there's no|there are no)\b"
    r"|^no \w|\b(shows?|see|contains?|has|have) no\b|\bno [\w -]+ (is|are|in|visible|present|shown|here)\b",
    re.IGNORECASE,
)
"""Words by which an answer says that the question does not fit the picture."""

WHAT = {
    claims.absent: (
        "things that are not there",
        "It knows which things and attributes are in the picture",
        "It takes things for present that are not",
    ),
    claims.apart: (
        "attributes of another thing",
        "It knows which thing has which attribute",
        "It cannot tell a red cube beside a blue ball from a blue cube beside a red ball",
    ),
}


def nonsense(model: Any, samples: Sequence[Sample], rng: np.random.Generator, **settings: Any) -> list[Finding]:
    """Statements about what is there against what is not, and questions with a false presupposition."""
    return [
        *(_statements(model, samples, rng, wrong, settings) for wrong in (claims.absent, claims.apart)),
        *_questions(model, samples, rng, settings),
    ]


def _statements(
    model: Any, samples: Sequence[Sample], rng: np.random.Generator, wrong: claims.Wrong, settings: dict[str, Any]
) -> Finding:
    name, good, bad = WHAT[wrong]  # type: ignore[index]
    if not can_match(model):
        return not_judged(TEST, name, MATCHES)
    choices = claims.mirrored(samples, wrong, rng)
    if len(choices) < LEAST:
        return not_judged(TEST, name, "samples with `objects`, and attributes of them, in many combinations")
    chosen = choose(model, [sample.images[0] for sample in samples], choices, **settings)
    score = mean_interval(chosen.hits, rng, groups=chosen.groups, chance=HALF)
    verdict = above(score, halfway(HALF))
    said = {
        "good": f"{good}: right in {percent(score.value)} of pairs.",
        "bad": f"{bad}: right in {percent(score.value)} of pairs, where guessing gets 50 %.",
    }.get(
        verdict, f"Right in {percent(score.value)} of pairs: more samples would tell on which side of the line it is."
    )
    return Finding(
        TEST,
        name,
        verdict,
        said,
        score,
        looks=1,
        details={"line": halfway(HALF)},
        failures=failures(samples, chosen, name),
        left_out=chosen.left_out,
    )


def _questions(
    model: Any, samples: Sequence[Sample], rng: np.random.Generator, settings: dict[str, Any]
) -> list[Finding]:
    names = ("nonsense that is answered", "confidence tells nonsense")
    if not isinstance(model, AnswersQuestions):
        return [not_judged(TEST, name, "a model that answers questions in its own words") for name in names]
    asked = [(row, question, question.answerable) for row, sample in enumerate(samples) for question in _wanted(sample)]
    if _fewer_kind(asked) < LEAST:
        needs = f"at least {LEAST} questions with `answerable` true and as many with it false, as of VizWiz"
        return [not_judged(TEST, name, needs) for name in names]
    pictures = [samples[row].images for row, *_ in asked]
    found = answer(model, pictures, [question.question for _, question, _ in asked], **settings)
    kept, left_out = [asked[i] for i in found.kept], reasons(found.rejected)
    if _fewer_kind(kept) < LEAST:
        needs = f"answers to at least {LEAST} questions of each kind"
        return [replace(not_judged(TEST, name, needs), left_out=left_out) for name in names]
    sense = np.array([truth is True for *_, truth in kept])
    rows = np.array([row for row, *_ in kept])
    return [
        replace(row, left_out=left_out)
        for row in (
            _declining(samples, kept, found.replies, sense, rows, rng),
            _confidence(found.replies, sense, rows, rng),
        )
    ]


def _fewer_kind(asked: Sequence[tuple[int, Question, bool | None]]) -> int:
    """How many questions there are of sense or of nonsense, whichever is rarer."""
    return min(sum(truth is value for *_, truth in asked) for value in (True, False))


def _wanted(sample: Sample) -> list[Question]:
    """Questions with a twin of the other kind, or, where ids name no twins, all that say whether they make sense."""
    marked = [question for question in sample.questions if question.answerable is not None]
    twins = {question.id.removesuffix("-nonsense") for question in marked if question.id.endswith("-nonsense")}
    return [question for question in marked if not twins or question.id.removesuffix("-nonsense") in twins]


def _declining(
    samples: Sequence[Sample],
    kept: Sequence[tuple[int, Question, bool | None]],
    replies: Sequence[Reply],
    sense: Any,
    rows: Any,
    rng: np.random.Generator,
) -> Finding:
    answered = np.array([not declines(reply.text) for reply in replies], dtype=np.float64)
    false_rate = mean_interval(answered[~sense], rng, groups=rows[~sense])
    true_rate = mean_interval(answered[sense], rng, groups=rows[sense])
    gap = bootstrap(lambda i: _gap(answered[i], sense[i]), len(answered), rng, groups=rows, resamples=RESAMPLES)
    verdict = above(gap, HALF)
    fooled = np.flatnonzero(~sense & (answered == 1)).tolist()
    order = sorted(fooled, key=lambda i: -(replies[i].confidence or 0))[:6]
    said = {
        "good": "It says so when a question makes no sense, and still answers those that do.",
        "bad": f"It answers {percent(false_rate.value)} of questions about things that are not there"
        f" (and {percent(true_rate.value)} of those that make sense): its answers cannot be trusted blindly.",
    }.get(verdict, f"It answers {percent(false_rate.value)} of nonsense and {percent(true_rate.value)} of sense.")
    return Finding(
        TEST,
        "nonsense that is answered",
        verdict,
        said,
        false_rate,
        true_rate,
        "answers questions that make sense",
        looks=1,
        details={"answers sense more often than nonsense by": gap._asdict(), "line": HALF},
        failures=[
            Failure(picture_of(samples[kept[i][0]]), kept[i][1].question, _told(replies[i]), "there is no such thing")
            for i in order
        ],
    )


def _gap(answered: Any, sense: Any) -> float:
    return float(answered[sense].mean() - answered[~sense].mean()) if 0 < sense.sum() < len(sense) else float("nan")


def _confidence(replies: Sequence[Reply], sense: Any, rows: Any, rng: np.random.Generator) -> Finding:
    name = "confidence tells nonsense"
    sure = np.array([np.nan if reply.confidence is None else reply.confidence for reply in replies])
    if np.isnan(sure).any():
        return not_judged(TEST, name, "a model that says how sure it is")
    area = bootstrap(lambda i: auroc(sure[i], sense[i]), len(sure), rng, groups=rows, chance=HALF, resamples=RESAMPLES)
    threshold = best_threshold(sure, sense)
    verdict = above(area, halfway(HALF))
    refused, kept = threshold.withheld, threshold.answered
    said = {
        "good": f"It is less sure of nonsense: answering only above {threshold.value:.2f} would refuse"
        f" {percent(refused)} of it and keep {percent(kept)} of the rest.",
        "bad": "It is as sure of nonsense as of sense: no threshold of confidence would help.",
    }.get(
        verdict,
        f"At the best threshold, {threshold.value:.2f}, it would refuse {percent(refused)} of nonsense and keep"
        f" {percent(kept)} of the rest.",
    )
    return Finding(
        TEST,
        name,
        verdict,
        said,
        area,
        unit="AUROC",
        looks=1,
        details={"line": halfway(HALF), "threshold": threshold.value, "refused": refused, "kept": kept},
    )


def declines(text: str) -> bool:
    """Whether an answer says, in words, that there is nothing to answer."""
    return not text.strip() or bool(DECLINES.search(text.replace("’", "'")))


def _told(reply: Reply) -> str:
    return reply.text if reply.confidence is None else f"{reply.text} ({percent(reply.confidence)} sure)"
