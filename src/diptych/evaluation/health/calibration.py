"""When the model says that it is 80 % sure, is it right in 80 % of cases?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities import AnswersQuestions, DualEncoder
from diptych.evaluation.health.ambiguity import AMONG, among_others
from diptych.evaluation.health.choosing import can_match, choose, picture_of
from diptych.evaluation.health.finding import Curve, Failure, Finding, below, not_judged, percent, reasons
from diptych.evaluation.metrics.calibration import expected_calibration_error, reliability_curve
from diptych.evaluation.metrics.intervals import bootstrap, mean_interval
from diptych.evaluation.metrics.vqa import exact_match, soft_score
from diptych.tasks.answer import answer
from diptych.tasks.classify import similarity_scale
from diptych.types import Estimate, Question, Sample

TEST = "calibration"
NAME = "confidence"
BINS = 10
LINE = 0.1  # of the expected calibration error
LEAST = 50
MOST_CHOICES = 10
TOLD = 200  # simulations of a model that tells the truth about itself

Floats = NDArray[np.float64]


class Sure(NamedTuple):
    """How sure the model was of each answer, whether it was right, about which sample it was, and what went wrong."""

    confidence: Floats
    right: Floats
    rows: NDArray[np.int64]
    failures: list[Failure]
    left_out: dict[str, int]


NOTHING = Sure(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), [], {})


def calibration(model: Any, samples: Sequence[Sample], rng: np.random.Generator, **settings: Any) -> list[Finding]:
    """Expected calibration error of answers; of a dual encoder that of picking a picture's caption among ten."""
    if isinstance(model, AnswersQuestions):
        sure = _of_answers(model, samples, settings)
        needs = "a model that says how sure it is" if sure is None else f"at least {LEAST} questions with answers"
    elif isinstance(model, DualEncoder):
        sure = _of_captions(model, samples, rng, settings)
        needs = f"at least {LEAST} samples with captions"
    else:
        return [not_judged(TEST, NAME, "a model that answers questions, or a dual encoder")]
    if sure is None or len(sure.right) < LEAST:
        return [not_judged(TEST, NAME, needs)]
    return [_row(sure, rng)]


def _row(sure: Sure, rng: np.random.Generator) -> Finding:
    confidence, right = sure.confidence, sure.right

    def error_of(some: Any) -> float:
        return expected_calibration_error(confidence[some], right[some], bins=BINS)

    error = bootstrap(error_of, len(right), rng, groups=sure.rows)
    error = error._replace(low=max(error.low, 0.0))
    floor = [
        expected_calibration_error(confidence, (rng.random(len(right)) < confidence).astype(float), bins=BINS)
        for _ in range(TOLD)
    ]
    low, high = np.quantile(floor, (0.025, 0.975))
    control = Estimate(float(np.mean(floor)), float(low), float(high), len(right))
    # few answers give an error even to a model that tells the truth; the line never lies below that
    verdict = below(error, max(LINE, control.high))
    accuracy, said_sure = float(right.mean()), float(confidence.mean())
    if verdict == "bad":
        fault = "overconfident" if said_sure > accuracy else "underconfident"
        sentence = f"It is {fault}: {percent(said_sure)} sure on average, right in {percent(accuracy)}."
    elif verdict == "good":
        sentence = f"Its confidence can be taken at its word: {percent(said_sure)} sure, right in {percent(accuracy)}."
    else:
        sentence = f"{percent(said_sure)} sure on average, right in {percent(accuracy)}: the error is near the line."
    curve = reliability_curve(confidence, right, BINS)
    bins = np.clip(np.searchsorted(curve.edges, confidence, side="left") - 1, 0, BINS - 1)
    filled = np.flatnonzero(curve.count)
    points = [mean_interval(right[bins == i], rng, groups=sure.rows[bins == i]) for i in filled]
    return Finding(
        TEST,
        NAME,
        verdict,
        sentence,
        error,
        control,
        "model that tells the truth, as many answers",
        unit="ECE",
        looks=1,
        details={"line": max(LINE, control.high), "accuracy": accuracy, "confidence": said_sure},
        curves=[
            Curve(
                "Share right by confidence",
                curve.confidence[filled].tolist(),
                points,
                line=[(0, 0), (1, 1)],
                line_name="perfect",
            )
        ],
        failures=sure.failures,
        left_out=sure.left_out,
    )


def choices_by_kind(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """The answers of each kind of question, where people gave only a few different ones."""
    answers: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        for question in sample.questions:
            answers[question.kind].update(question.answers)
    return {kind: sorted(some) for kind, some in answers.items() if kind and 1 < len(some) <= MOST_CHOICES}


def _of_answers(model: Any, samples: Sequence[Sample], settings: dict[str, Any]) -> Sure | None:
    known = choices_by_kind(samples)
    asked: list[tuple[int, Question]] = [
        (row, question)
        for row, sample in enumerate(samples)
        for question in sample.questions
        if question.answers and question.answerable is not False
    ]
    if not asked:
        return NOTHING
    found = answer(
        model,
        [samples[row].images for row, _ in asked],
        [question.question for _, question in asked],
        [question.choices or known.get(question.kind, []) for _, question in asked],
        **settings,
    )
    kept = [asked[i] for i in found.kept]
    told = [reply.confidence for reply in found.replies]
    if None in told:
        return None
    if not kept:
        return NOTHING
    confidence = np.array(told, np.float64)
    right = _right([reply.text for reply in found.replies], [question.answers for _, question in kept])
    wrong = [i for i in np.argsort(-confidence, kind="stable") if not right[i]][:6]
    failures = [
        Failure(
            picture_of(samples[kept[i][0]]),
            kept[i][1].question,
            f"{found.replies[i].text} ({percent(confidence[i])} sure)",
            kept[i][1].answers[0],
        )
        for i in wrong
    ]
    return Sure(confidence, right, np.array([row for row, _ in kept]), failures, reasons(found.rejected))


def _right(answers: Sequence[str], truths: Sequence[Sequence[str]]) -> Floats:
    """1 where the answer is the truth; where four or more people answered, that of at least two of them."""
    many = np.array([len(some) >= 4 for some in truths])
    agreed: Floats = np.where(many, soft_score(answers, truths) > 0.5, exact_match(answers, truths) > 0)
    return agreed.astype(np.float64)


def _of_captions(
    model: Any, samples: Sequence[Sample], rng: np.random.Generator, settings: dict[str, Any]
) -> Sure | None:
    assert can_match(model)
    choices = among_others(samples, AMONG, rng)
    if not choices:
        return NOTHING
    chosen = choose(model, [sample.images[0] for sample in samples], choices, **settings)
    scale = similarity_scale(model)
    likely = [np.exp(scale * (scores - scores.max())) for scores in chosen.scores]
    confidence = np.array([float(some.max() / some.sum()) for some in likely])
    return Sure(confidence, (chosen.hits == 1).astype(np.float64), chosen.groups, [], chosen.left_out)
