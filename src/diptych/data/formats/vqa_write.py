"""Writing VQA v2: pictures as files, one JSON file of questions and one of annotations for each split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from diptych.data.formats.written import bytes_of, numbering
from diptych.images import BadImage
from diptych.types import InputError, Question, Sample

SPLITS = {"train": "train2014", "validation": "val2014", "valid": "val2014", "val": "val2014", "dev": "val2014"}
SPLITS |= {"test": "test2015", "test-dev": "test2015"}


def write(samples: Iterable[Sample], folder: Path) -> dict[str, int]:
    """Write `v2_OpenEnded_mscoco_<split>_questions.json`, `v2_mscoco_<split>_annotations.json` and pictures.

    Returns what was left out: reason -> number of samples or questions.

    Splits are called as VQA's: "train2014", "val2014", "test2015"; what has none of these goes to "train2014". Ids of
    questions are kept if all of them are different positive integers, and are counted from 1 otherwise; pictures are
    counted from 1. The type of an answer ("yes/no", "number", "other") is that of the commonest one; the question's
    kind becomes its question type. Questions without an answer are left out, unless no question of the split has one.

    Deviation: a picture keeps its bytes under the name that readers look for, "COCO_<split>_<number>.jpg", whatever
    its format. A question has the answers that it has, where VQA has ten. Captions, choices and the other fields that
    VQA has no place for are not written.

    Raises:
        InputError: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: expected an empty or a new folder to write VQA into")
    folder.mkdir(parents=True, exist_ok=True)
    left: Counter[str] = Counter()
    asked: dict[str, list[tuple[int, Question]]] = {}
    pictures = 0
    for sample in samples:
        if not sample.questions:
            left["sample without a question"] += 1
            continue
        try:
            if len(sample.images) != 1:
                raise BadImage("not one picture", f"sample '{sample.id}' has {len(sample.images)}")
            data = bytes_of(sample.images[0])
        except BadImage as error:
            left[error.reason] += 1
            continue
        pictures += 1
        split = _split(sample.split)
        (folder / split).mkdir(exist_ok=True)
        (folder / split / f"COCO_{split}_{pictures:012d}.jpg").write_bytes(data)
        asked.setdefault(split, []).extend((pictures, one) for one in sample.questions)
    number = numbering([one.id for some in asked.values() for _, one in some])
    for split, some in asked.items():
        _save(folder, split, some, number, left)
    return dict(left)


def _split(name: str | None) -> str:
    return SPLITS.get((name or "train").lower(), "train2014")


def _save(
    folder: Path, split: str, asked: list[tuple[int, Question]], number: Callable[[str], int], left: Counter[str]
) -> None:
    answered = any(one.answers for _, one in asked)
    questions, annotations = [], []
    for picture, one in asked:
        if answered and not one.answers:
            left["question without an answer"] += 1
            continue
        name = {"image_id": picture, "question_id": number(one.id)}
        questions.append(name | {"question": one.question})
        if one.answers:
            commonest = Counter(one.answers).most_common(1)[0][0]
            given = [
                {"answer": answer, "answer_confidence": "yes", "answer_id": i}
                for i, answer in enumerate(one.answers, 1)
            ]
            types = {"question_type": one.kind, "answer_type": _type(commonest)}
            annotations.append(name | types | {"multiple_choice_answer": commonest, "answers": given})
    facts = {"info": {"description": "written by Diptych"}, "data_type": "mscoco", "data_subtype": split}
    _dump(folder / f"v2_OpenEnded_mscoco_{split}_questions.json", facts | {"questions": questions})
    if answered:
        _dump(folder / f"v2_mscoco_{split}_annotations.json", facts | {"annotations": annotations})


def _type(answer: str) -> str:
    if answer.lower() in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def _dump(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
