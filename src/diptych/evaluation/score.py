"""Judge a file of predictions that any program made, in the formats of COCO's and VQA's servers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data import open_dataset
from diptych.data.formats.records import BadRow, load_json, need
from diptych.data.store import Dataset
from diptych.evaluation.answer import Asked, judge_answers
from diptych.evaluation.caption import score_against
from diptych.evaluation.detect import coco_truth
from diptych.evaluation.judged import Case, Judged, Values
from diptych.evaluation.metrics.detection import IouType, average_precision
from diptych.evaluation.metrics.detection_intervals import average_precision_intervals, match_detections
from diptych.types import Estimate, InputError, Question, Reply

SCALAR = (str, int)


def score_captions(
    predictions: Path, truth: str, *, partial: bool = False, meteor_data: Path | None = None, seed: int = 0
) -> Judged:
    """Judge captions: `[{"image_id": 42, "caption": "..."}, ...]`.

    Args:
        truth: COCO's captions file, or a dataset, whose sample ids are the image ids.
        partial: judge the pictures that are predicted and leave out the others.

    Raises:
        InputError: a file is malformed, an id is not in the truth or stands there twice, or (unless `partial`) a
            picture has no prediction.
    """
    said = _by_id(predictions, "image_id", "caption")
    references = _captions(truth)
    ids, missing = _ids(predictions, said, references, partial)
    if len(ids) < 2:
        raise InputError(f"{predictions}: expected captions of two or more pictures")
    texts = [references[id] for id in ids]
    estimates, each, notes = score_against([said[id] for id in ids], texts, meteor_data=meteor_data, seed=seed)
    rows = list(range(len(ids)))
    values = {name: Values.of(rows, [0] * len(rows), numbers) for name, numbers in each.items()}
    cases = [
        Case(row, score, f"picture {id}", said[id], " | ".join(references[id]))
        for row, id, score in zip(rows, ids, each["caption/cider_d"].tolist())
    ]
    return Judged("caption", estimates, values, cases, [], {"picture without a prediction": missing}, None, notes)


def score_vqa(predictions: Path, truth: str, *, partial: bool = False, seed: int = 0) -> Judged:
    """Judge answers: `[{"question_id": 42001, "answer": "..."}, ...]`.

    Args:
        truth: VQA's annotations file, or a dataset, whose questions have ids.
        partial: judge the questions that are answered and leave out the others.

    Raises:
        InputError: as `score_captions`.
    """
    said = _by_id(predictions, "question_id", "answer")
    questions = _questions(truth)
    ids, missing = _ids(predictions, said, questions, partial)
    asked = [Asked(row, 0, questions[id]) for row, id in enumerate(ids)]
    judged = judge_answers([(one, Reply(said[id])) for one, id in zip(asked, ids)], seed)
    return Judged(**{**vars(judged), "skipped": {"question without a prediction": missing}})


def score_detections(predictions: Path, truth: str, *, iou_type: IouType = "bbox", seed: int = 0) -> Judged:
    """Judge detections: `[{"image_id": 42, "category_id": 18, "bbox": [x, y, width, height], "score": 0.9}, ...]`.

    A picture without detections counts: its things were missed.

    Args:
        truth: COCO's instances file, or a dataset with boxes, whose classes are numbered from 1 in alphabetical order.
        iou_type: compare boxes, or masks ("segm"; the truth is a COCO file then).

    Raises:
        InputError: a file is malformed, or names a picture or category that the truth has not.
    """
    results = load_json(predictions, list)
    found = _instances(truth)
    rng = np.random.default_rng(seed)
    score = average_precision(found, results, iou_type)
    estimates = {
        f"detect/{name}": estimate
        for name, estimate in average_precision_intervals(match_detections(found, results, iou_type), rng).items()
    }
    for name, number in score.numbers().items():
        if f"detect/{name}" not in estimates and not np.isnan(number):
            estimates[f"detect/{name}"] = Estimate(number, number, number, len(found["images"]))
    return Judged("detect", estimates, {}, [], [])


def _by_id(file: Path, id_field: str, text_field: str) -> dict[str, str]:
    """The text of each id, as text: 42 and "42" are one id."""
    said: dict[str, str] = {}
    for i, record in enumerate(load_json(file, list)):
        try:
            id = str(need(record, id_field, SCALAR, f"{file.name}[{i}]"))
            text = need(record, text_field, str, f"{file.name}[{i}]")
        except BadRow as error:
            raise InputError(f"{file}: {error}") from None
        if id in said:
            raise InputError(f"{file}: {id_field} {id} stands there twice")
        said[id] = text
    if not said:
        raise InputError(f"{file}: expected a list of objects with {id_field} and {text_field}, got an empty one")
    return said


def _ids(file: Path, said: Mapping[str, str], truth: Collection[str], partial: bool) -> tuple[list[str], int]:
    """The ids to judge, in the order of the truth, and how many have no prediction."""
    strange = [id for id in said if id not in truth]
    if strange:
        raise InputError(f"{file}: {len(strange)} ids are not in the truth; the first is {strange[0]}")
    ids = [id for id in truth if id in said]
    missing = len(truth) - len(ids)
    if missing and not partial:
        first = next(id for id in truth if id not in said)
        raise InputError(f"{file}: no prediction for {missing} of {len(truth)} ids, the first is {first}; --partial")
    return ids, missing


def _table(truth: str, field: str) -> list[Any] | None:
    """The annotations of a JSON file whose annotations have that field; None for anything else, which is a dataset."""
    path = Path(truth).expanduser()
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    content = load_json(path)
    rows = content.get("annotations")
    if isinstance(rows, list) and rows and isinstance(rows[0], dict) and field in rows[0]:
        return rows
    return None


def _read(truth: str, rows: Sequence[Any], take: Callable[[Any, str], None]) -> None:
    for i, record in enumerate(rows):
        try:
            take(record, f"annotations[{i}]")
        except BadRow as error:
            raise InputError(f"{truth}: {error}") from None


def _captions(truth: str) -> dict[str, list[str]]:
    rows = _table(truth, "caption")
    found: dict[str, list[str]] = defaultdict(list)
    if rows is None:
        dataset = open_dataset(truth)
        for id, texts in zip(dataset.ids, dataset.column("captions")):
            found[id] = [text for text in texts or () if text.strip()]
    else:

        def take(record: Any, where: str) -> None:
            found[str(need(record, "image_id", SCALAR, where))].append(need(record, "caption", str, where))

        _read(truth, rows, take)
    found = defaultdict(list, {id: texts for id, texts in found.items() if texts})
    if not found:
        raise InputError(f"{truth}: captions: expected some to judge by")
    return dict(found)


def _questions(truth: str) -> dict[str, Question]:
    rows = _table(truth, "question_id")
    found: dict[str, Question] = {}
    if rows is None:
        for id, question in _asked_of(open_dataset(truth)):
            found[id] = question
    else:

        def take(record: Any, where: str) -> None:
            id = str(need(record, "question_id", SCALAR, where))
            answers = [need(one, "answer", str, f"{where}: answers") for one in need(record, "answers", list, where)]
            found[id] = Question(f"question {id}", answers, str(record.get("question_type") or ""), id)

        _read(truth, rows, take)
    found = {id: question for id, question in found.items() if question.answers}
    if not found:
        raise InputError(f"{truth}: questions: expected some with an id and answers to judge by")
    return found


def _asked_of(dataset: Dataset) -> list[tuple[str, Question]]:
    """A dataset's questions by id; by place, as `diptych eval --predictions` names them, where there is none."""
    samples = dataset.take(range(len(dataset)), fields={"questions"})
    asked = [
        (question.id or f"{row}/{unit}", question)
        for row, sample in enumerate(samples)
        for unit, question in enumerate(sample.questions)
        if question.answerable is not False
    ]
    twice = [id for id, times in Counter(id for id, _ in asked).items() if times > 1]
    if twice:
        raise InputError(f"{dataset.name}: questions: {len(twice)} ids stand there twice; the first is {twice[0]}")
    return asked


def _instances(truth: str) -> dict[str, Any]:
    path = Path(truth).expanduser()
    if path.suffix.lower() == ".json" and path.is_file():
        content: dict[str, Any] = load_json(path)
        return content
    dataset = open_dataset(truth)
    samples = dataset.take(range(len(dataset)), fields={"id", "objects"})
    names = sorted({thing.name for one in samples for thing in one.objects if thing.box and thing.kind == "thing"})
    if not names:
        raise InputError(f"{truth}: objects: no sample has one with a box")
    found = coco_truth(samples, names)
    ids = [int(sample.id) if sample.id.isascii() and sample.id.isdigit() else None for sample in samples]
    if None in ids or len(set(ids)) < len(ids):
        raise InputError(f"{truth}: expected samples whose ids are numbers, as results name pictures by number")
    for image, id in zip(found["images"], ids):
        image["id"] = id
    for one in found["annotations"]:
        one["image_id"] = ids[one["image_id"] - 1]
    return found
