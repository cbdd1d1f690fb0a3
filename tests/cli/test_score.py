"""`diptych score` on files in the official layouts: the right numbers, and one sentence for whatever is wrong."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from said import Call

from diptych.evaluation import caption

CAPTIONS = {
    "images": [{"id": 7, "file_name": "7.jpg"}, {"id": 8, "file_name": "8.jpg"}, {"id": 9, "file_name": "9.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 7, "caption": "A dog runs on the grass."},
        {"id": 2, "image_id": 7, "caption": "the dog is running"},
        {"id": 3, "image_id": 8, "caption": "Two cats sleep on a red sofa."},
        {"id": 4, "image_id": 9, "caption": "A boat in the harbour."},
    ],
}
SAID = [
    {"image_id": 7, "caption": "A dog runs on the grass"},
    {"image_id": "8", "caption": "Two cats sleep on a red sofa"},
    {"image_id": 9, "caption": "some tree"},
]
VQA = {
    "annotations": [
        {
            "question_id": 70,
            "image_id": 7,
            "question_type": "what",
            "answers": [{"answer": "red", "answer_id": i} for i in range(10)],
        },
        {
            "question_id": 71,
            "image_id": 7,
            "question_type": "how many",
            "answers": [{"answer": "2" if i < 3 else "3", "answer_id": i} for i in range(10)],
        },
    ],
}
ANSWERS = [{"question_id": 70, "answer": "red"}, {"question_id": 71, "answer": "Two"}]
INSTANCES = {
    "images": [{"id": 7, "width": 40, "height": 30}, {"id": 8, "width": 40, "height": 30}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
        {"id": 2, "image_id": 8, "category_id": 3, "bbox": [5, 5, 20, 10], "area": 200, "iscrowd": 0},
    ],
}
BOXES = [
    {"image_id": 7, "category_id": 18, "bbox": [0, 0, 10, 10], "score": 0.9},
    {"image_id": 8, "category_id": 3, "bbox": [30, 20, 5, 5], "score": 0.9},
]
TASKS = {"captions": (SAID, CAPTIONS), "vqa": (ANSWERS, VQA), "detections": (BOXES, INSTANCES)}


@pytest.fixture(autouse=True)
def without_paraphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR's table is large; that it is read is tested elsewhere."""
    monkeypatch.setattr(caption, "find_meteor_data", lambda folder: None)


@pytest.fixture
def score(call: Call, tmp_path: Path) -> Any:
    """`score(task, predictions, truth, *more)`, both written as JSON unless they are text or bytes."""

    def run(task: str, predictions: Any, truth: Any, *more: object) -> Any:
        files = tmp_path / "predictions.json", tmp_path / "truth.json"
        for file, content in zip(files, (predictions, truth)):
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            file.write_bytes(data)
        return call("score", task, files[0], "--against", files[1], *more)

    return run


def test_captions(score: Any) -> None:
    found = score("captions", SAID, CAPTIONS, "--json").json
    assert {"caption/bleu_4", "caption/rouge_l", "caption/cider_d", "caption/meteor"} < set(found)
    assert found["caption/rouge_l"]["value"] == pytest.approx(2 / 3) and found["caption/rouge_l"]["n"] == 3
    assert found["caption/distinct_1"]["low"] is None
    said = score("captions", SAID, CAPTIONS)
    assert "ROUGE-L" in said.out and "METEOR matched words by: exact, stem" in said.err


def test_vqa(score: Any) -> None:
    found = score("vqa", ANSWERS, VQA, "--json").json
    two = 0.3 * (2 / 3) + 0.7 * 1
    assert found["answer/accuracy[how many]"]["value"] == pytest.approx(two)
    assert found["answer/accuracy"]["value"] == pytest.approx((1 + two) / 2) and found["answer/accuracy"]["n"] == 2


def test_answers_are_told_apart_by_their_type_as_in_an_imported_dataset(score: Any, call: Call, tmp_path: Path) -> None:
    truth = copy.deepcopy(VQA)
    for one, kind in zip(truth["annotations"], ("other", "number")):
        one["answer_type"] = kind
    folder = tmp_path / "vqa"
    (folder / "val2014").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "val2014" / "COCO_val2014_000000000007.jpg")
    asked = [{"question_id": one["question_id"], "image_id": 7, "question": "?"} for one in truth["annotations"]]
    (folder / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps({"questions": asked}))
    (folder / "v2_mscoco_val2014_annotations.json").write_text(json.dumps(truth))
    found = score("vqa", ANSWERS, truth, "--json").json
    assert set(found) == {"answer/accuracy", "answer/accuracy[number]", "answer/accuracy[other]"}
    again = call("score", "vqa", tmp_path / "predictions.json", "--against", f"vqa:{folder}", "--json")
    assert again.json == found, again.err


def test_detections(score: Any) -> None:
    found = score("detections", BOXES, INSTANCES, "--json").json
    assert found["detect/ap"]["value"] == pytest.approx(0.5) and found["detect/ap[dog]"]["value"] == pytest.approx(1)
    assert found["detect/ap"]["n"] == 2 and found["detect/ar_100"] == {
        "value": 0.5, "low": None, "high": None, "n": 2, "chance": None,
    }  # fmt: skip
    assert score("detections", [], INSTANCES, "--json").json["detect/ap"]["value"] == 0
    for empty in ({**INSTANCES, "annotations": []}, {"images": [], "categories": [], "annotations": []}):
        said = score("detections", [], empty)
        assert said.code == 2 and "truth.json: annotations: expected things to find" in said.err
    polygon = copy.deepcopy(INSTANCES)
    for one in polygon["annotations"]:
        x, y, width, height = one["bbox"]
        one["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    masks = [{**one, "segmentation": polygon["annotations"][i]["segmentation"]} for i, one in enumerate(BOXES)]
    assert score("detections", masks, polygon, "--masks", "--json").json["detect/ap"]["value"] == pytest.approx(1)


def test_partial_predictions(score: Any) -> None:
    said = score("captions", SAID[:2], CAPTIONS)
    assert said.code == 2 and "no prediction for 1 of 3 ids, the first is 9; --partial" in said.err
    said = score("captions", SAID[:2], CAPTIONS, "--partial", "--json")
    assert said.json["caption/rouge_l"]["value"] == 1 and "1 picture without a prediction" in said.err
    assert "no prediction for 1 of 2 ids, the first is 71" in score("vqa", ANSWERS[:1], VQA).err
    assert score("vqa", ANSWERS[:1], VQA, "--partial", "--json").json["answer/accuracy"]["n"] == 1
    assert "nothing was found" in score("detections", BOXES, INSTANCES, "--partial").err


def changed(task: str, side: int, path: list[Any], value: Any) -> tuple[Any, Any]:
    """Predictions and truth with one value replaced, or taken away where it is `...`."""
    both = copy.deepcopy(TASKS[task])
    place: Any = both[side]
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return both


@pytest.mark.parametrize(
    ("task", "side", "path", "value", "sentence"),
    [
        ("captions", 0, [0, "image_id"], 99, "1 ids are not in the truth; the first is 99"),
        ("captions", 0, [0, "image_id"], 8, "image_id 8 stands there twice"),
        ("captions", 0, [1, "caption"], ..., "field missing: predictions.json[1]: caption"),
        ("captions", 0, [1, "caption"], 5, "wrong type: predictions.json[1]: caption: expected str, got int"),
        ("captions", 0, [1, "image_id"], 7.0, "wrong type: predictions.json[1]: image_id: expected str or int"),
        ("captions", 0, [2], "a tree", "wrong type: predictions.json[2]: expected an object, got str"),
        ("captions", 1, ["annotations", 1, "caption"], None, "truth.json: field missing: annotations[1]: caption"),
        ("captions", 1, ["annotations"], [], "captions: expected some to judge by"),
        ("vqa", 0, [0, "question_id"], 5, "1 ids are not in the truth; the first is 5"),
        ("vqa", 0, [0, "answer"], True, "wrong type: predictions.json[0]: answer: expected str, got bool"),
        ("vqa", 1, ["annotations", 0, "answers"], "red", "annotations[0]: answers: expected list, got str"),
        ("vqa", 1, ["annotations", 0, "answers", 3], "red", "annotations[0]: answers: expected an object, got str"),
        ("vqa", 1, ["annotations", 1, "question_id"], 70, "annotations[1]: question_id 70 stands there twice"),
        ("vqa", 1, ["annotations"], [], "questions: expected some with answers to judge by"),
        ("detections", 0, [0, "image_id"], 99, "image_id"),
        ("detections", 0, [0, "category_id"], 99, "category_id"),
        ("detections", 0, [0, "bbox"], [0, 0, 10], "bbox: expected [x, y, width, height]"),
        ("detections", 0, [0, "score"], "high", "score"),
        ("detections", 0, [0], 3, "results[0]"),
        ("detections", 1, ["annotations", 0, "bbox"], ..., "annotations[0]"),
        ("detections", 1, ["images"], {}, "images: expected a list"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    score: Any, task: str, side: int, path: list[Any], value: Any, sentence: str
) -> None:
    said = score(task, *changed(task, side, path, value))
    assert said.code == 2 and said.out == "" and len(said.err.splitlines()) == 1
    assert sentence in said.err and ("predictions.json" in said.err or "truth.json" in said.err)


@pytest.mark.parametrize("task", TASKS)
def test_broken_files(score: Any, call: Call, tmp_path: Path, task: str) -> None:
    predictions, truth = TASKS[task]
    for broken, sentence in ((b'[{"image_id": 7,', "expected JSON"), (b"{}", "expected a list at the top, got dict")):
        said = score(task, broken, truth)
        assert said.code == 2 and sentence in said.err and "predictions.json" in said.err
    for broken in (b'{"annotations": [', b"[]", b"{}", b'{"annotations": [3]}'):
        said = score(task, predictions, broken)
        assert said.code == 2 and len(said.err.splitlines()) == 1 and "truth.json" in said.err, broken
    assert "no such file" in call("score", task, tmp_path / "none.json", "--against", tmp_path / "truth.json").err
    said = call("score", task, tmp_path / "predictions.json", "--against", tmp_path / "nowhere")
    assert said.code == 2 and "nowhere" in said.err
    if task != "detections":
        assert "got an empty one" in score(task, [], truth).err
        assert "only detections have them" in score(task, predictions, truth, "--masks").err


def test_two_captions_are_the_least(score: Any) -> None:
    said = score("captions", SAID[:1], CAPTIONS, "--partial")
    assert said.code == 2 and "expected captions of two or more pictures" in said.err


def test_a_dataset_is_a_truth_too(call: Call, tmp_path: Path) -> None:
    data = "scenes:?n=3&size=32"
    file = tmp_path / "p.json"
    file.write_text(json.dumps([{"image_id": f"scene-train-0-{i}", "caption": "a cube on sand"} for i in range(3)]))
    assert call("score", "captions", file, "--against", data, "--json").json["caption/cider_d"]["n"] == 3
    boxes = [{"image_id": "scene-train-0-0", "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1}]
    file.write_text(json.dumps(boxes))
    assert call("score", "detections", file, "--against", data, "--json").json["detect/ap"]["n"] == 3
    assert "against COCO's instances file only" in call("score", "detections", file, "--against", data, "--masks").err
    file.write_text(json.dumps([{**boxes[0], "image_id": 7}]))
    assert "image_id 7 is not in the truth" in call("score", "detections", file, "--against", data).err


def test_answers_that_cannot_be_judged_are_counted(call: Call, tmp_path: Path) -> None:
    from diptych.data import open_dataset
    from diptych.evaluation.answer import questions_of

    asked = questions_of(open_dataset("scenes:?n=3&size=32"))
    file = tmp_path / "p.json"
    file.write_text(json.dumps([{"question_id": one.name, "answer": "yes"} for one in asked]))
    said = call("score", "vqa", file, "--against", "scenes:?n=3&size=32", "--json")
    nonsense = sum(one.question.answerable is False for one in asked)
    assert said.json["answer/accuracy"]["n"] == len(asked) - nonsense > 0
    assert f"{nonsense} question that the picture does not answer" in said.err


def test_no_torch_is_needed() -> None:
    script = "import sys; import diptych.evaluation.score; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "False"
