"""Judge a file of predictions that any program made, in the formats of COCO's and VQA's servers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data import open_dataset
from diptych.data.formats.records import BadRow, load_json, maybe, need
from diptych.evaluation.answer import Asked, judge_answers, questions_of, why_not
from diptych.evaluation.caption import score_against
from diptych.evaluation.detect import class_names, coco_truth
from diptych.evaluation.judged import Case, Judged, Values, without_interval
from diptych.evaluation.metrics.detection import IouType, average_precision
from diptych.evaluation.metrics.detection_intervals import average_precision_intervals, match_detections
from diptych.types import InputError, Question, Reply

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
    estimates, each, _, notes = score_against([said[id] for id in ids], texts, meteor_data=meteor_data, seed=seed)
    rows = list(range(len(ids)))
    values = {name: Values.of(rows, [0] * len(rows), numbers) for name, numbers in each.items()}
    cases = [
        Case(row, score, f"picture {id}", said[id], "\n".join(references[id]))
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
    skipped = Counter(reason for id in said if id in questions and (reason := why_not(questions[id].question)))
    known = {id: one for id, one in questions.items() if not why_not(one.question)}
    ids, missing = _ids(predictions, {id for id in said if id not in questions or id in known}, known, partial)
    judged = judge_answers([known[id] for id in ids], [Reply(said[id]) for id in ids], seed)
    return replace(judged, skipped={**skipped, "question without a prediction": missing})


def score_detections(predictions: Path, truth: str, *, iou_type: IouType = "bbox", seed: int = 0) -> Judged:
    """Judge detections: `[{"image_id": 42, "category_id": 18, "bbox": [x, y, width, height], "score": 0.9}, ...]`.

    A picture without detections counts: its things were missed. Average recall has no interval here.

    Args:
        truth: COCO's instances file, or a dataset with boxes, whose sample ids are the image ids and whose classes are
            numbered from 1 in alphabetical order.
        iou_type: compare boxes, or masks ("segm"; the truth is a COCO file then).

    Raises:
        InputError: a file is malformed, has nothing to find, or names a picture or category that the truth has not.
    """
    results = load_json(predictions, list)
    found, names = _instances(truth, iou_type)
    if names is not None:
        results = [_renamed(result, names, predictions, i) for i, result in enumerate(results)]
    rng = np.random.default_rng(seed)
    try:
        score = average_precision(found, results, iou_type)
        matches = match_detections(found, results, iou_type)
    except InputError as error:
        raise InputError(f"{predictions} against {truth}: {error}") from None
    estimates = {f"detect/{name}": estimate for name, estimate in average_precision_intervals(matches, rng).items()}
    if not estimates:
        raise InputError(f"{truth}: annotations: expected things to find")
    for name, value in score.numbers().items():
        if f"detect/{name}" not in estimates and not np.isnan(value):
            estimates[f"detect/{name}"] = without_interval(value, len(found["images"]))
    return Judged("detect", estimates, {}, [], [], matches=matches)


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


def _ids(file: Path, said: Collection[str], truth: Collection[str], partial: bool) -> tuple[list[str], int]:
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
    content = load_json(path, object)
    rows = content.get("annotations") if isinstance(content, dict) else None
    if isinstance(rows, list) and (not rows or (isinstance(rows[0], dict) and field in rows[0])):
        return rows
    return None


def _read(truth: str, rows: Sequence[Any], take: Callable[[Any, str], None]) -> None:
    for i, record in enumerate(rows):
        try:
            take(record, f"annotations[{i}]")
        except BadRow as error:
            raise InputError(f"{truth}: {error}") from None


def _captions(truth: str) -> dict[str, list[str]]:
    """The captions of each picture that has some."""
    rows = _table(truth, "caption")
    found: dict[str, list[str]] = defaultdict(list)
    if rows is None:
        dataset = open_dataset(truth)
        for id, texts in zip(dataset.ids, dataset.column("captions")):
            found[id] += texts or ()
    else:

        def take(record: Any, where: str) -> None:
            found[str(need(record, "image_id", SCALAR, where))].append(need(record, "caption", str, where))

        _read(truth, rows, take)
    kept = {id: [text for text in texts if text.strip()] for id, texts in found.items()}
    if not any(kept.values()):
        raise InputError(f"{truth}: captions: expected some to judge by")
    return {id: texts for id, texts in kept.items() if texts}


def _questions(truth: str) -> dict[str, Asked]:
    """All questions by name."""
    rows = _table(truth, "question_id")
    found = {one.name: one for one in questions_of(open_dataset(truth))} if rows is None else _annotated(truth, rows)
    if all(why_not(one.question) for one in found.values()):
        raise InputError(f"{truth}: questions: expected some with answers to judge by")
    return found


def _annotated(truth: str, rows: Sequence[Any]) -> dict[str, Asked]:
    """The questions of VQA's annotations, their kind as the importer has it; a picture's are drawn together."""
    found: dict[str, Asked] = {}
    pictures: dict[str, int] = {}

    def take(record: Any, where: str) -> None:
        id = str(need(record, "question_id", SCALAR, where))
        answers = [need(one, "answer", str, f"{where}: answers") for one in need(record, "answers", list, where)]
        if id in found:
            raise BadRow("duplicate id", f"{where}: question_id {id} stands there twice")
        picture = str(maybe(record, "image_id", SCALAR, where) or f"of question {id}")
        row = pictures.setdefault(picture, len(pictures))
        kind = maybe(record, "answer_type", str, where) or maybe(record, "question_type", str, where) or ""
        found[id] = Asked(row, len(found), Question(f"question {id}", answers, kind, id), id)

    _read(truth, rows, take)
    return found


def _instances(truth: str, iou_type: IouType) -> tuple[dict[str, Any], dict[str, int] | None]:
    """The truth in COCO's format; of a dataset also the number that each sample's id stands for."""
    path = Path(truth).expanduser()
    if path.suffix.lower() == ".json" and path.is_file():
        content = load_json(path, object)
        if isinstance(content, dict) and "categories" in content:
            return content, None
    dataset = open_dataset(truth)
    if iou_type == "segm":
        raise InputError(f"{truth}: masks are judged against COCO's instances file only, not against a dataset")
    samples = dataset.take(range(len(dataset)), fields={"objects"})
    names = class_names(samples)
    if not names:
        raise InputError(f"{truth}: objects: no sample has one with a box")
    return coco_truth(samples, names), {sample.id: i for i, sample in enumerate(samples, 1)}


def _renamed(result: Any, names: Mapping[str, int], file: Path, place: int) -> dict[str, Any]:
    """A detection whose picture is named by its number in the truth."""
    try:
        id = str(need(result, "image_id", SCALAR, f"{file.name}[{place}]"))
    except BadRow as error:
        raise InputError(f"{file}: {error}") from None
    if id not in names:
        raise InputError(f"{file}: {file.name}[{place}]: image_id {id} is not in the truth")
    return {**result, "image_id": names[id]}
