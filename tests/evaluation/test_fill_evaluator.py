"""Hidden words: which are hidden, what counts as right, what guessing reaches."""

import pytest
from colours import dataset, sample

from diptych.evaluation.fill import evaluate_fill, hidden_of
from diptych.types import InputError, Object


class Says:
    """Fills every mask with what a table has for the text."""

    def __init__(self, table):
        self.table = table

    def fill(self, pictures, texts):
        return [[self.table[text]] for text in texts]


def thing(id, caption, *objects, data=None):
    made = sample(id, "red", [caption], data=data)
    made.objects = [Object(name, attributes=list(attributes)) for name, *attributes in objects]
    return made


def test_names_and_attributes_are_hidden_one_at_a_time():
    shown = thing("a", "A red ball is near two dogs.", ("sphere", "red", "metal"), ("dog", "furry"))
    assert [(one.text, one.word, one.kind) for one in hidden_of(3, shown)] == [
        ("A <mask> ball is near two dogs.", "red", "color"),
        ("A red <mask> is near two dogs.", "ball", "shape"),
        ("A red ball is near two <mask>.", "dogs", "thing"),
    ]
    assert hidden_of(0, thing("b", "Nothing of it is named.", ("cube", "blue"))) == []


def test_by_hand(tmp_path):
    data = dataset(
        tmp_path / "d",
        [
            thing("a", "red ball", ("sphere", "red")),
            thing("b", "blue ball", ("sphere", "blue")),
            thing("c", "red cube", ("cube", "red")),
            thing("d", "no word of it", ("cube", "red")),
            thing("e", "red cube", ("cube", "red"), data=b"broken"),
        ],
    )
    table = {"<mask> ball": "red", "red <mask>": "Spheres", "blue <mask>": "cube", "<mask> cube": "red"}
    judged = evaluate_fill(Says(table), data)
    found = judged.estimates
    # colours: red (right), red for blue (wrong), red (right); shapes: sphere for ball (right), cube (wrong), sphere
    assert found["fill/right[color]"].value == pytest.approx(2 / 3)
    assert found["fill/right[shape]"].value == pytest.approx(1 / 3)
    assert found["fill/right"].value == pytest.approx(3 / 6) and found["fill/right"].n == 6
    assert [found[f"fill/right[{kind}]"].chance for kind in ("color", "shape")] == pytest.approx([2 / 3, 2 / 3])
    assert judged.left_out()["caption that names no object"] == 1
    assert {one.id for one in judged.rejected} == {"e"}


def test_data_without_objects_is_told(tmp_path):
    bare = dataset(tmp_path / "bare", [sample("a", "red", ["red ball"])])
    with pytest.raises(InputError, match="no caption names an object"):
        evaluate_fill(Says({}), bare)
