"""Judge answers to questions about pictures: VQA accuracy or exact match, question type by question type."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Predictions, Values, number
from diptych.evaluation.metrics.calibration import auroc, expected_calibration_error
from diptych.evaluation.metrics.intervals import bootstrap, mean_interval
from diptych.evaluation.metrics.vqa import exact_match, vqa_accuracy
from diptych.tasks.answer import answer
from diptych.types import Estimate, InputError, Question, Rejected, Reply

ANNOTATORS = 4  # with fewer, VQA accuracy cannot reach 1: one of the given answers is then right
PICTURES_AT_ONCE = 256  # whose encoded bytes are held


class Asked(NamedTuple):
    """A question with its place: row of the dataset, number in its sample."""

    row: int
    unit: int
    question: Question


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

    Questions with `choices` are answered by one of them. Questions that the picture does not tell the answer to
    (`answerable` is False) are left out: `diptych health` asks them. Chance is what the commonest answer of each
    question type reaches, without looking at a picture.

    Raises:
        InputError: the model cannot answer, or no sample has a question with an answer and a readable picture.
    """
    asked, skipped = questions_of(dataset)
    if not asked:
        raise InputError(f"{dataset.name}: questions: no sample has one that can be answered and has its answer")
    replies: list[tuple[Asked, Reply]] = []
    rejected: list[Rejected] = []
    done = 0
    for some in _by_picture(asked):
        rows = list(dict.fromkeys(one.row for one in some))
        pictures = dict(zip(rows, dataset.take(rows, fields={"images"})))
        found = answer(
            model,
            [pictures[one.row].images for one in some],
            [one.question.question for one in some],
            [one.question.choices for one in some],
            batch_size=batch_size,
            device=device,
            progress=None if progress is None else partial(_go_on, progress, done, len(asked)),
        )
        replies += [(some[i], reply) for i, reply in zip(found.kept, found.replies)]
        left = {i: some[i] for i in range(len(some))}
        for i in found.kept:
            del left[i]
        rejected += [
            Rejected(pictures[one.row].id, why.reason, why.detail) for one, why in zip(left.values(), found.rejected)
        ]
        done += len(some)
    if not replies:
        raise InputError(f"{dataset.name}: none of {len(asked)} questions was answered: {rejected[0].detail}")
    judged = judge_answers(replies, seed)
    return Judged(**{**vars(judged), "rejected": rejected, "skipped": skipped})


def judge_answers(replies: Sequence[tuple[Asked, Reply]], seed: int = 0) -> Judged:
    """Judge answers that were given to questions with known answers."""
    asked, given = [one for one, _ in replies], [reply.text for _, reply in replies]
    right = accuracy(given, [one.question.answers for one in asked])
    estimates, values = _estimates(asked, right, [reply.confidence for _, reply in replies], seed)
    cases = [
        Case(one.row, hit, one.question.question, reply.text, _commonest(one.question.answers), reply.confidence)
        for (one, reply), hit in zip(replies, right.tolist())
    ]
    return Judged(
        "answer", estimates, values, cases, [], {}, Predictions("vqa_results.json", vqa_results(asked, given))
    )


def _go_on(progress: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


def questions_of(dataset: Dataset) -> tuple[list[Asked], dict[str, int]]:
    """The questions that can be judged, in order, and how many were left out, by reason."""
    asked, skipped = [], Counter[str]()
    for row, sample in enumerate(dataset.take(range(len(dataset)), fields={"questions"})):
        skipped["sample without a question"] += not sample.questions
        for unit, question in enumerate(sample.questions):
            if question.answerable is False:
                skipped["question that the picture does not answer"] += 1
            elif not question.answers:
                skipped["question whose answer is held back"] += 1
            else:
                asked.append(Asked(row, unit, question))
    return asked, dict(skipped)


def accuracy(given: Sequence[str], truths: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """VQA accuracy where four or more people answered, else whether the answer is one of those given."""
    many = np.array([len(answers) >= ANNOTATORS for answers in truths])
    right = np.zeros(len(given))
    for chosen, metric in ((many, vqa_accuracy), (~many, exact_match)):
        some = np.flatnonzero(chosen).tolist()
        if some:
            right[some] = metric([given[i] for i in some], [truths[i] for i in some])
    return right


def vqa_results(asked: Sequence[Asked], given: Sequence[str]) -> list[dict[str, Any]]:
    """Answers in the format of the VQA server; a question without an id is named by its place."""
    return [
        {"question_id": number(one.question.id or f"{one.row}/{one.unit}"), "answer": text}
        for one, text in zip(asked, given)
    ]


def _by_picture(asked: Sequence[Asked]) -> list[list[Asked]]:
    """The questions in parts that concern a bounded number of pictures."""
    parts: dict[int, list[Asked]] = defaultdict(list)
    place = {row: i for i, row in enumerate(dict.fromkeys(one.row for one in asked))}
    for one in asked:
        parts[place[one.row] // PICTURES_AT_ONCE].append(one)
    return list(parts.values())


def _estimates(
    asked: Sequence[Asked], right: NDArray[np.float64], confidence: Sequence[float | None], seed: int
) -> tuple[dict[str, Estimate], dict[str, Values]]:
    rng = np.random.default_rng(seed)
    blind = _blind([one.question for one in asked])
    kinds = [one.question.kind for one in asked]
    chosen = {"answer/accuracy": np.arange(len(asked))}
    if len(set(kinds)) > 1:
        chosen |= {
            f"answer/accuracy[{kind or 'other'}]": np.flatnonzero(np.array(kinds, object) == kind)
            for kind in sorted(set(kinds))
        }
    rows, units = np.array([one.row for one in asked]), np.array([one.unit for one in asked])
    values = {name: Values(rows[some], units[some], right[some]) for name, some in chosen.items()}
    estimates = {
        name: mean_interval(v.numbers, rng, groups=v.rows, chance=float(blind[chosen[name]].mean()))
        for name, v in values.items()
    }
    told = [c for c in confidence if c is not None]
    if len(told) == len(confidence):
        sure, hits = np.array(told), right >= 0.5
        estimates["answer/ece"] = bootstrap(
            lambda drawn: float(expected_calibration_error(sure[drawn], hits[drawn])), len(sure), rng
        )
        if 0 < hits.sum() < len(hits):
            estimates["answer/confidence_auroc"] = bootstrap(
                lambda drawn: _auroc(sure[drawn], hits[drawn]), len(sure), rng, chance=0.5
            )
    return estimates, values


def _auroc(sure: NDArray[np.float64], hits: NDArray[np.bool_]) -> float:
    return float(auroc(sure, hits)) if 0 < hits.sum() < len(hits) else 0.5


def _blind(questions: Sequence[Question]) -> NDArray[np.float64]:
    """What each question's own type's commonest answer reaches; of a multiple choice, one of the choices at random."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        answers[question.kind].update([_commonest(question.answers)])
    guess = {kind: counts.most_common(1)[0][0] for kind, counts in answers.items()}
    blind = accuracy([guess[question.kind] for question in questions], [question.answers for question in questions])
    for i, question in enumerate(questions):
        if question.choices:
            blind[i] = 1 / len(question.choices)
    return blind


def _commonest(answers: Sequence[str]) -> str:
    return Counter(answers).most_common(1)[0][0]
