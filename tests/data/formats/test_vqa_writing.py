"""Questions written as VQA v2 come back as they were, and what a model says of them is scored as VQA's server would."""

import json

import pytest

import diptych
from diptych.data.formats.written import bytes_of
from diptych.data.store import Dataset, DatasetWriter
from diptych.evaluation.answer import evaluate_answer
from diptych.evaluation.score import score_vqa
from diptych.types import EncodedImage, InputError, Question, Reply, Sample


@pytest.fixture(scope="module")
def world():
    return diptych.open_dataset("scenes:?n=12&size=32&objects=1-2")


def asked(dataset):
    samples = dataset.take(range(len(dataset)), fields={"questions"})
    return [[(one.question, one.answers) for one in sample.questions if one.answers] for sample in samples]


def test_questions_come_back(world, tmp_path):
    report = diptych.export_dataset(world, f"vqa:{tmp_path / 'out'}")
    unanswered = sum(not one.answers for sample in world.take(range(12)) for one in sample.questions)
    assert report.left_out == {"question without an answer": unanswered}
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "train2014",
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "v2_mscoco_train2014_annotations.json",
    }
    again = diptych.open_dataset(f"vqa:{tmp_path / 'out'}")
    assert asked(again) == asked(world)
    for before, after in zip(world.take(range(12)), again.take(range(12))):
        assert bytes_of(after.images[0]) == before.images[0].data
    kinds = {one.kind for sample in again.take(range(12)) for one in sample.questions}
    assert kinds <= {"yes/no", "number", "other"} and "yes/no" in kinds


def test_splits_ids_and_what_has_no_place(world, tmp_path):
    picture = world.take([0], fields={"images"})[0].images[0]
    samples = [
        Sample("a", [picture], questions=[Question("two?", ["2", "2", "3"], id="7")], split="validation"),
        Sample("b", [picture], questions=[Question("open?", id="9")], split="test"),
        Sample("c", [picture], ["no question"]),
        Sample("d", [EncodedImage(path=str(tmp_path / "gone.jpg"))], questions=[Question("gone?", ["x"], id="3")]),
    ]
    with DatasetWriter(tmp_path / "in") as out:
        for sample in samples:
            out.write(sample)
    report = diptych.export_dataset(Dataset.open(tmp_path / "in"), f"vqa:{tmp_path / 'out'}")
    assert report.left_out == {"sample without a question": 1, "image missing": 1}
    names = {file.name for file in (tmp_path / "out").rglob("*.json")}
    assert names == {
        "v2_OpenEnded_mscoco_val2014_questions.json",
        "v2_mscoco_val2014_annotations.json",
        "v2_OpenEnded_mscoco_test2015_questions.json",
    }
    (row,) = json.loads((tmp_path / "out" / "v2_mscoco_val2014_annotations.json").read_text())["annotations"]
    assert (row["question_id"], row["multiple_choice_answer"], row["answer_type"]) == (7, "2", "number")
    assert [one["answer"] for one in row["answers"]] == ["2", "2", "3"]
    (test,) = diptych.open_dataset(f"vqa:{tmp_path / 'out'}?split=test").take(range(1))
    assert [(one.question, one.answers) for one in test.questions] == [("open?", [])]
    with pytest.raises(InputError):
        diptych.export_dataset(Dataset.open(tmp_path / "in"), f"vqa:{tmp_path / 'out'}")


def test_the_official_file_is_scored_as_the_evaluator_does(world, tmp_path):
    class Yes:
        def answer(self, pictures, questions, choices=None):
            return [Reply("yes", 0.6)] * len(questions)

    diptych.export_dataset(world, f"vqa:{tmp_path / 'out'}")
    judged = evaluate_answer(Yes(), diptych.open_dataset(f"vqa:{tmp_path / 'out'}"))
    results = tmp_path / judged.predictions.file
    results.write_text(json.dumps(judged.predictions.entries))
    truth = tmp_path / "out" / "v2_mscoco_train2014_annotations.json"
    scored = score_vqa(results, str(truth))
    found, expected = scored.estimates["answer/accuracy"], judged.estimates["answer/accuracy"]
    assert (found.value, found.n) == (expected.value, expected.n) and 0 < found.value < 1
