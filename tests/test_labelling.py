"""Pseudo-labels: what is asked, what is kept, what stays, and how often the teacher is right."""

import io
import json

import pytest
from PIL import Image

import diptych
from diptych import models
from diptych.cli import main
from diptych.data.store import Dataset, DatasetWriter
from diptych.labelling import SURE, label
from diptych.models.clip import CLIP, PRESETS
from diptych.types import EncodedImage, InputError, Question, Rejected, Reply, Sample


class Teacher:
    """Says what a table has for the question, or of every picture the same caption."""

    def __init__(self, table, caption=None):
        self.table, self.said, self.asked = table, caption, []

    def answer(self, pictures, questions, choices=None):
        self.asked += questions
        found = [self.table.get(question) for question in questions]
        return [Rejected("", "server error", "500") if one is None else Reply(*one) for one in found]

    def caption(self, pictures):
        return [self.said] * len(pictures)


def picture():
    data = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 30)).save(data, "PNG")
    return EncodedImage(data.getvalue())


@pytest.fixture()
def source(tmp_path):
    known, unknown = Question("known?", ["yes"]), Question("unknown?")
    samples = [
        Sample("a", [picture()], ["red"], questions=[known, unknown, Question("none?", answerable=False)]),
        Sample("b", [picture()], questions=[Question("wrong?", ["cat"]), Question("doubtful?"), Question("silent?")]),
        Sample("c", [EncodedImage(b"broken")], questions=[Question("unknown?")]),
    ]
    with DatasetWriter(tmp_path / "source") as out:
        for sample in samples:
            out.write(sample)
    return Dataset.open(tmp_path / "source")


TABLE = {"known?": ("yes", 0.99), "unknown?": ("two", 0.95), "wrong?": ("dog", 0.92), "doubtful?": ("no", 0.4)}


def answers(dataset):
    return [[one.answers for one in sample.questions] for sample in dataset.take(range(len(dataset)))]


def test_what_is_known_stays_and_measures_the_teacher(source, tmp_path):
    teacher = Teacher(TABLE)
    found = label(teacher, source, tmp_path / "out")
    assert "none?" not in teacher.asked
    assert answers(found.dataset) == [[["yes"], ["two"], []], [["cat"], [], []], [[]]]
    assert (found.asked, found.kept, found.unsure) == (4, 1, 3)
    assert found.precision.value == 0.5 and found.precision.n == 2  # "yes" is right and "dog" is not
    assert {one.reason for one in found.rejected} >= {"server error"} and len(found.rejected) == 2
    first, second, _ = found.dataset.take(range(3))
    assert first.scores[SURE] == pytest.approx(0.95) and SURE not in second.scores
    assert first.captions == ["red"] and first.images[0].data == picture().data


def test_the_teacher_may_replace_what_is_known(source, tmp_path):
    found = label(Teacher(TABLE), source, tmp_path / "out", replace=True, sure=0.93)
    assert answers(found.dataset) == [[["yes"], ["two"], []], [[], [], []], [[]]]
    assert (found.asked, found.kept) == (6, 2) and found.precision.value == 1.0
    assert len(found.rejected) == 2, "the broken picture once, whatever was asked about it"
    again = label(Teacher(TABLE), found.dataset, tmp_path / "again", replace=True, sure=0.96)
    assert [SURE in sample.scores for sample in again.dataset.take(range(3))] == [True, False, False]
    assert again.dataset.take([0])[0].scores[SURE] == pytest.approx(0.99), "0.95 was of an answer that is gone"


def test_captions_of_what_has_none(source, tmp_path):
    found = label(Teacher({}, Reply("a thing", 0.7)), source, tmp_path / "out", "captions", sure=0.5)
    assert [sample.captions for sample in found.dataset.take(range(3))] == [["red"], ["a thing"], []]
    assert (found.asked, found.kept, found.precision) == (2, 1, None)
    assert label(Teacher({}, Reply("a thing")), source, tmp_path / "sure", "captions").kept == 1
    found = label(Teacher({}, Reply("a thing", 0.7)), source, tmp_path / "other", "captions", sure=0.5, replace=True)
    assert [sample.captions for sample in found.dataset.take(range(3))] == [["a thing"], ["a thing"], []]
    assert found.precision is None


@pytest.fixture()
def encoder(tmp_path):
    """A dual encoder that knows nothing."""
    models.save(CLIP.new(next(iter(PRESETS.values())), ["a cube", "a ball"]).eval(), tmp_path / "clip")
    return str(tmp_path / "clip")


def test_classes(encoder, tmp_path):
    world, names = "scenes:?n=6&size=64&objects=1", ["a cube", "a ball"]
    found = diptych.label(encoder, world, tmp_path / "out", "classes", sure=0.0, labels=names)
    assert {sample.label for sample in found.dataset.take(range(6))} <= set(names)
    assert found.kept == found.asked == 6 and found.precision is None


def test_what_does_not_fit_is_told(source, tmp_path):
    for options in ({"what": "classes"}, {"labels": ["a"]}, {"sure": 1.5}):
        with pytest.raises(InputError):
            label(Teacher(TABLE), source, tmp_path / "out", **options)


def test_the_command(encoder, tmp_path, capsys):
    code = main(
        ["data", "label", encoder, "scenes:?n=4&size=64", "--to", str(tmp_path / "out"), "--what", "classes"]
        + ["--labels", "a cube, a ball", "--sure", "0", "--json", str(tmp_path / "facts.json")]
    )
    assert code == 0 and "4 of 4 classes kept" in capsys.readouterr().out
    assert json.loads((tmp_path / "facts.json").read_text())["kept"] == 4
