"""Answers by hand: choices, several annotators, question types, confidence, what is left out; files of predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from colours import Oracle, dataset, picture

from diptych.evaluation.answer import evaluate_answer
from diptych.evaluation.score import score_vqa
from diptych.types import EncodedImage, InputError, Question, Rejected, Reply, Sample

TEN = ["red"] * 2 + ["dark red"] * 8


class Speaker:
    """Says what a table has for the question; what it has not, it cannot say."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def answer(self, pictures, questions, choices=None):
        choices = choices or [[]] * len(questions)
        self.asked += list(zip(questions, map(tuple, choices)))
        found = [self.table.get(question) for question in questions]
        return [Rejected("", "server error", "500") if one is None else Reply(*one) for one in found]


def asked(id, *questions, data=None):
    return Sample(id, [EncodedImage(picture("red") if data is None else data)], questions=list(questions))


def world(folder):
    return dataset(
        folder,
        [
            asked("a", Question("colour?", TEN, "what", "1"), Question("how many?", ["Two."], "count", "2")),
            asked("b", Question("which?", ["cat"], "what", "3", ["dog", "cat"]), Question("unknown?", [], "what", "4")),
            asked("c", Question("is it?", ["yes"], "", "5"), Question("what car?", [], "", "6", answerable=False)),
            asked("broken", Question("colour?", ["red"], "what", "7"), data=b"no picture"),
            asked("silent", Question("failing?", ["red"], "what", "8")),
            Sample("mute", [EncodedImage(picture("red"))]),
        ],
    )


SAID = {"colour?": ("red", 0.9), "how many?": ("2", 0.8), "which?": ("dog", 0.6), "is it?": ("no", 0.1)}


def test_by_hand(tmp_path):
    model = Speaker(SAID)
    judged = evaluate_answer(model, world(tmp_path / "d"))
    found = judged.estimates
    # two of ten say red: leaving out one of them 1/3, leaving out one of the others 2/3
    colour = 0.2 * (1 / 3) + 0.8 * (2 / 3)
    assert found["answer/accuracy"].value == pytest.approx((colour + 1 + 0 + 0) / 4) and found["answer/accuracy"].n == 4
    assert found["answer/accuracy[what]"].value == pytest.approx(colour / 2)
    assert found["answer/accuracy[count]"].value == 1 and found["answer/accuracy[other]"].value == 0
    # blind: "dark red" is commonest of "what" and right once, one of two choices is drawn; the others are known
    assert found["answer/accuracy[what]"].chance == pytest.approx((1 + 1 / 2) / 2)
    assert found["answer/accuracy"].chance == pytest.approx((1 + 1 + 1 / 2 + 1) / 4)
    assert 0 < found["answer/ece"].value < 1 and found["answer/confidence_auroc"].chance == 0.5
    assert found["answer/confidence_auroc"].value == 1.0  # the two right ones are surest
    assert judged.left_out() == {
        "question whose answers are not known": 1,
        "question that the picture does not answer": 1,
        "sample without a question": 1,
        judged.rejected[0].reason: 1,
        "server error": 1,
    }
    assert {bad.id: bad.reason for bad in judged.rejected}["silent"] == "server error"
    assert [bad.id for bad in judged.rejected if bad.reason != "server error"] == ["broken"]
    assert ("which?", ("dog", "cat")) in model.asked and ("colour?", ()) in model.asked
    worst = judged.worst(1)[0]
    assert (worst.row, worst.asked, worst.said, worst.truth, worst.confidence) == (1, "which?", "dog", "cat", 0.6)
    assert next(case.truth for case in judged.cases if case.asked == "colour?") == "dark red (8), red (2)"
    assert judged.values["answer/accuracy"].rows.tolist() == [0, 0, 1, 2]
    assert judged.values["answer/accuracy"].units.tolist() == [0, 1, 0, 0]
    assert judged.predictions.entries[0] == {"question_id": 1, "answer": "red"}


def test_every_broken_picture_keeps_its_own_reason(tmp_path):
    samples = [asked(f"s{i}", Question("colour?" if i % 3 else "failing?", ["red"])) for i in range(9)]
    samples[4].images = [EncodedImage(b"no picture")]
    judged = evaluate_answer(Speaker(SAID), dataset(tmp_path / "d", samples), batch_size=4)
    assert {bad.id: bad.reason == "server error" for bad in judged.rejected} == {
        "s0": True, "s3": True, "s4": False, "s6": True,
    }  # fmt: skip


def test_without_confidence_or_kinds_there_are_no_such_numbers(tmp_path):
    data = dataset(tmp_path / "d", [asked("a", Question("is it?", ["yes"])), asked("b", Question("how many?", ["3"]))])
    judged = evaluate_answer(Speaker({"is it?": ("yes",), "how many?": ("3", 0.5)}), data)
    assert list(judged.estimates) == ["answer/accuracy"]
    assert judged.notes == ["1 of 2 answers came without a confidence: it is not judged"]
    assert evaluate_answer(Speaker({"is it?": ("yes",), "how many?": ("3",)}), data).notes == []
    one_kind = evaluate_answer(Speaker({"is it?": ("yes", 0.9), "how many?": ("3", 0.5)}), data).estimates
    assert list(one_kind) == ["answer/accuracy", "answer/ece"]  # all right: nothing to tell apart


def test_a_dual_encoder_is_asked_what_has_choices(tmp_path):
    colours = ["red", "blue"]
    samples = [
        asked("a", Question("colour", ["red"], choices=colours), Question("colour?", ["red"])),
        Sample("b", [EncodedImage(picture("blue"))], questions=[Question("colour", ["blue"], choices=colours)]),
    ]
    judged = evaluate_answer(Oracle(), dataset(tmp_path / "d", samples))
    assert judged.estimates["answer/accuracy"].value == 1 and judged.estimates["answer/accuracy"].chance == 0.5
    assert judged.left_out()["question without choices, which this model needs"] == 1
    with pytest.raises(InputError, match="cannot answer questions without choices"):
        evaluate_answer(Oracle(), dataset(tmp_path / "e", [asked("a", Question("colour?", ["red"]))]))


def test_chance_of_choices_that_are_all_worth_something(tmp_path):
    people = ["yes"] * 7 + ["maybe"] * 3
    questions = [
        Question("sure?", people, choices=["yes", "no", "maybe", "never"]),  # yes 1; maybe .3 x 2/3 + .7 x 1
        Question("which?", ["cat", "kitten"], choices=["cat", "kitten", "dog"]),  # two are right
        Question("lost?", ["bird"], choices=["cat", "dog"]),  # none is
    ]
    model = Speaker({"sure?": ("yes",), "which?": ("cat",), "lost?": ("cat",)})
    found = evaluate_answer(model, dataset(tmp_path / "d", [asked("a", *questions)])).estimates["answer/accuracy"]
    assert found.value == pytest.approx(2 / 3) and found.chance == pytest.approx((1.9 / 4 + 2 / 3 + 0) / 3)


def test_questions_about_one_picture_tell_nothing_of_others(tmp_path):
    questions = [Question("is it?", ["yes"]), Question("colour?", ["red"]), Question("how many?", ["3"])]
    found = evaluate_answer(Speaker(SAID), dataset(tmp_path / "d", [asked("a", *questions)])).estimates
    assert found["answer/accuracy"].value == pytest.approx(1 / 3) and np.isnan(found["answer/accuracy"].low)
    assert np.isnan(found["answer/ece"].high)
    assert found["answer/confidence_auroc"][:3] == (1, pytest.approx(0.025), 1)  # as if the picture were right or wrong


def test_refusals(tmp_path):
    data = world(tmp_path / "d")
    with pytest.raises(InputError, match="questions: no sample has one that can be answered"):
        evaluate_answer(Speaker(SAID), data.select([5]))
    with pytest.raises(InputError, match="none of 2 questions could be judged: 1 .*, 1 server error"):
        evaluate_answer(Speaker(SAID), data.select([3, 4]))
    with pytest.raises(InputError, match="cannot answer questions"):
        evaluate_answer(object(), data)


@pytest.mark.parametrize("ids", ["given", "none", "repeated"])
def test_predictions_are_scored_to_the_same_numbers(tmp_path, ids):
    rng = np.random.default_rng(0)
    samples = []
    for i in range(20):
        questions = [Question(f"q{i}.{j}?", [str(rng.integers(3))] * (1 + 9 * (j == 0)), f"kind {j}") for j in range(3)]
        for j, question in enumerate(questions):
            question.id = {"given": f"{i + 1}0{j}", "none": "", "repeated": f"q{j}"}[ids]
        questions[2].answerable = None if i % 4 else False
        samples.append(asked(f"picture {i}", *questions))
    data = dataset(tmp_path / "d", samples)
    said = {f"q{i}.{j}?": (str(rng.integers(3)),) for i in range(20) for j in range(3)}
    judged = evaluate_answer(Speaker(said), data)
    file = tmp_path / "vqa_results.json"
    file.write_text(json.dumps(judged.predictions.entries))
    scored = score_vqa(file, str(tmp_path / "d"))
    assert scored.estimates == judged.estimates and len(scored.estimates) == 4
    assert isinstance(judged.predictions.entries[0]["question_id"], int if ids == "given" else str)
