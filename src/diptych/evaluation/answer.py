"""Judge answers to questions about pictures: VQA accuracy or exact match, question type by question type."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities import AnswersQuestions
from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Predictions, Values, none_left, number
from diptych.evaluation.metrics.calibration import auroc, expected_calibration_error
from diptych.evaluation.metrics.intervals import RESAMPLES, bootstrap, share, share_interval
from diptych.evaluation.metrics.vqa import exact_match, vqa_accuracy
from diptych.types import Estimate, InputError, Question, Reply

DRAWS = 10**7  # answers that are looked at in all resamples together
ANNOTATORS = 4  # with fewer, VQA accuracy cannot reach 1: one of the given answers is then right


class Asked(NamedTuple):
    """A question with its name in official files and its place: row of the dataset, number in its sample."""

    row: int
    unit: int
    question: Question
    name: str


def evaluate_answer(
    model: Any,
    dataset: Dataset,
    *,
    batch_size: int = 16,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """Ask every question that has an answer, and judge by what people answered.

    Questions with `choices` are answered by one of them; a model that can only compare is asked no others. Questions
    that the picture does not tell the answer to (`answerable` is False) are left out: `diptych health` asks them.
    Chance is what the commonest answer of each question type reaches, without looking at a picture.

    Raises:
        InputError: the model cannot answer, or no sample has a question with an answer and a readable picture.
    """
    from diptych.tasks.answer import answer  # loads torch, which judging what others said does not need

    everything = questions_of(dataset)
    asked = [one for one in everything if not why_not(one.question)]
    if not asked:
        raise InputError(f"{dataset.name}: questions: no sample has one that can be answered and has its answer")
    skipped = Counter(reason for one in everything if (reason := why_not(one.question)))
    skipped["sample without a question"] = len(dataset) - len({one.row for one in everything})
    choosing = [one for one in asked if one.question.choices]
    if choosing and not isinstance(model, AnswersQuestions):
        skipped["question without choices, which this model needs"] = len(asked) - len(choosing)
        asked = choosing
    found = answer(
        model,
        dataset.select([one.row for one in asked]),
        [one.question.question for one in asked],
        [one.question.choices for one in asked],
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    if not found.kept:
        raise none_left(dataset.name, "questions", len(asked), found.rejected)
    judged = judge_answers([asked[i] for i in found.kept], found.replies, seed)
    return replace(judged, rejected=list(found.rejected), skipped=skipped)


def judge_answers(asked: Sequence[Asked], replies: Sequence[Reply], seed: int = 0) -> Judged:
    """Judge answers that were given to questions with known answers."""
    given = [reply.text for reply in replies]
    right = accuracy(given, [one.question.answers for one in asked])
    confidence = [reply.confidence for reply in replies]
    estimates, values = _estimates(asked, right, confidence, seed)
    silent = confidence.count(None)
    notes = []
    if 0 < silent < len(confidence):
        notes.append(f"{silent} of {len(confidence)} answers came without a confidence: it is not judged")
    cases = [
        Case(one.row, hit, one.question.question, reply.text, _told(one.question.answers), reply.confidence)
        for one, reply, hit in zip(asked, replies, right.tolist())
    ]
    results = [{"question_id": number(one.name), "answer": text} for one, text in zip(asked, given)]
    return Judged("answer", estimates, values, cases, [], {}, Predictions("vqa_results.json", results), notes)


def questions_of(dataset: Dataset) -> list[Asked]:
    """All questions, each with its id as name; with the sample's before it where ids are absent or stand twice."""
    samples = dataset.take(range(len(dataset)), fields={"questions"})
    ids = [question.id for sample in samples for question in sample.questions]
    known = all(ids) and len(set(ids)) == len(ids)
    return [
        Asked(row, unit, question, question.id if known else f"{sample.id}/{question.id or unit}")
        for row, sample in enumerate(samples)
        for unit, question in enumerate(sample.questions)
    ]


def why_not(question: Question) -> str:
    """Why answers to it cannot be judged; "" if they can."""
    if question.answerable is False:
        return "question that the picture does not answer"
    return "" if question.answers else "question whose answers are not known"


def accuracy(given: Sequence[str], truths: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """VQA accuracy where four or more people answered, else whether the answer is one of those given."""
    many = np.array([len(answers) >= ANNOTATORS for answers in truths])
    right = np.zeros(len(given))
    for chosen, metric in ((many, vqa_accuracy), (~many, exact_match)):
        some = np.flatnonzero(chosen).tolist()
        if some:
            right[some] = metric([given[i] for i in some], [truths[i] for i in some])
    return right


def _estimates(
    asked: Sequence[Asked], right: NDArray[np.float64], confidence: Sequence[float | None], seed: int
) -> tuple[dict[str, Estimate], dict[str, Values]]:
    rng = np.random.default_rng(seed)
    blind = _blind([one.question for one in asked])
    kinds = np.array([one.question.kind or "other" for one in asked], object)
    chosen = {"answer/accuracy": np.arange(len(asked))}
    if len(set(kinds)) > 1:
        chosen |= {f"answer/accuracy[{kind}]": np.flatnonzero(kinds == kind) for kind in sorted(set(kinds))}
    rows, units = np.array([one.row for one in asked]), np.array([one.unit for one in asked])
    values = {name: Values(rows[some], units[some], right[some]) for name, some in chosen.items()}
    estimates = {
        name: share_interval(v.numbers, rng, v.rows, chance=float(blind[chosen[name]].mean()))
        for name, v in values.items()
    }
    told = np.array([c for c in confidence if c is not None])
    if len(told) == len(confidence):
        hits = right >= 0.5
        draw = partial(bootstrap, samples=len(hits), rng=rng, groups=rows, resamples=_resamples(len(hits)))
        pictures = len(set(rows.tolist()))
        estimates["answer/ece"] = share(
            draw(lambda drawn: expected_calibration_error(told[drawn], hits[drawn])), pictures
        )
        if 0 < hits.sum() < len(hits):
            found = draw(lambda drawn: auroc(told[drawn], hits[drawn]), chance=0.5)
            estimates["answer/confidence_auroc"] = share(found, pictures)
    return estimates, values


def _resamples(count: int) -> int:
    """How many resamples are drawn, so that 200,000 answers take seconds and not minutes."""
    return max(200, min(RESAMPLES, DRAWS // count))


def _blind(questions: Sequence[Question]) -> NDArray[np.float64]:
    """What each question's own type's commonest answer reaches; of a multiple choice, one of the choices at random.

    Several choices may be worth something: among VQA's eighteen are answers that some of the ten people gave.
    """
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        answers[question.kind].update([_commonest(question.answers)])
    guess = {kind: counts.most_common(1)[0][0] for kind, counts in answers.items()}
    blind = accuracy([guess[question.kind] for question in questions], [question.answers for question in questions])
    choosing = [i for i, question in enumerate(questions) if question.choices]
    if choosing:
        drawn = [(choice, questions[i].answers) for i in choosing for choice in questions[i].choices]
        worth = accuracy([choice for choice, _ in drawn], [answers for _, answers in drawn])
        sizes = np.array([len(questions[i].choices) for i in choosing])
        blind[choosing] = np.add.reduceat(worth, np.cumsum(sizes) - sizes) / sizes
    return blind


def _commonest(answers: Sequence[str]) -> str:
    return Counter(answers).most_common(1)[0][0]


def _told(answers: Sequence[str]) -> str:
    """All different answers, the commonest first, with how many people gave each if they differ."""
    counts = Counter(answers).most_common()
    return ", ".join(f"{text} ({times})" for text, times in counts) if len(counts) > 1 else counts[0][0]
