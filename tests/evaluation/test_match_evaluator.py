"""True captions against wrong ones: by hand, with ties, broken pictures, several negatives, Winoground's groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
from colours import Blind, Oracle, dataset, picture, sample

from diptych.evaluation.match import evaluate_match
from diptych.types import EncodedImage, InputError, Negative, Sample


class Table:
    """Scores texts by a table, whatever the picture."""

    def __init__(self, scores):
        self.scores = scores

    def match(self, pictures, texts):
        return np.array([self.scores[text] for text in texts], np.float32)


def with_negatives(id, colour, captions, *negatives, group=None, data=None):
    made = sample(id, colour, captions, data=data)
    made.negatives = [Negative(*one) for one in negatives]
    made.group = group
    return made


def test_by_hand(tmp_path):
    data = dataset(
        tmp_path / "d",
        [
            with_negatives("a", "red", ["t1", "t2"], ("n1", "order"), ("n2", "order"), ("n3", "swap", 1)),
            with_negatives("b", "red", ["t3"], ("n4", "swap")),
            sample("c", "red", ["no negatives"]),
        ],
    )
    model = Table({"t1": 0.5, "n1": 0.4, "n2": 0.5, "t2": 0.1, "n3": 0.2, "t3": 0.9, "n4": 0.8})
    judged = evaluate_match(model, data)
    found = judged.estimates
    assert list(found) == ["match/accuracy", "match/accuracy[order]", "match/accuracy[swap]"]
    assert (
        found["match/accuracy[order]"].value == 0.5 and found["match/accuracy[order]"].n == 1
    )  # a tie with one of two
    assert found["match/accuracy[order]"].chance == pytest.approx(1 / 3)
    assert found["match/accuracy[swap]"].value == 0.5 and found["match/accuracy[swap]"].chance == 0.5
    assert found["match/accuracy"].value == pytest.approx((0.5 + 0 + 1) / 3)
    assert found["match/accuracy"].chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert judged.left_out() == {"sample without negatives": 1}
    assert [(case.row, case.score, case.said, case.truth) for case in judged.worst(2)] == [
        (0, 0.0, "n3", "t2"),
        (0, 0.5, "undecided", "t1"),
    ]


def test_an_oracle_and_a_blind_model(tmp_path):
    samples = [
        with_negatives("a", "red", ["a red thing"], ("a blue thing",), ("a green thing",)),
        with_negatives("b", "blue", ["a blue thing"], ("a pink thing",)),
    ]
    data = dataset(tmp_path / "d", samples)
    assert evaluate_match(Oracle(), data).estimates["match/accuracy"].value == 1.0
    blind = evaluate_match(Blind(), data).estimates["match/accuracy"]
    assert blind.value == pytest.approx(blind.chance) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_what_cannot_be_judged_is_counted_and_not_wrong(tmp_path):
    data = dataset(
        tmp_path / "d",
        [
            with_negatives("good", "red", ["t"], ("n",)),
            with_negatives("broken", "red", ["t"], ("n",), data=b"no picture"),
            with_negatives("strange", "red", ["t"], ("m",)),
            Sample("without picture", captions=["t"], negatives=[Negative("n")]),
            with_negatives("same", "red", ["t", "n"], ("n",)),  # true of the picture as well
            with_negatives("astray", "red", ["t"], ("n", "order", 7)),
            with_negatives("mute", "red", [], ("n",)),
        ],
    )
    judged = evaluate_match(Table({"t": 1.0, "n": 0.0, "m": math.nan}), data)
    assert judged.estimates["match/accuracy"][:1] == (1.0,) and judged.estimates["match/accuracy"].n == 1
    assert judged.left_out() == {
        "sample without negatives": 3,
        judged.rejected[0].reason: 1,
        judged.rejected[1].reason: 1,
        "score is no number": 1,
    }
    assert [bad.id for bad in judged.rejected] == ["broken", "without picture", "strange"]
    with pytest.raises(InputError, match="none of 1 samples could be judged: 1 score is no number"):
        evaluate_match(Table({"t": math.nan, "m": 0.0}), data.select([2]))
    with pytest.raises(InputError, match="negatives: no sample has a caption and texts that are close to it"):
        evaluate_match(Table({}), data.select([4, 5, 6]))
    with pytest.raises(InputError, match="cannot compare pictures with texts"):
        evaluate_match(object(), data)


def pair(name, group, one, two, colours=("red", "blue")):
    return [
        Sample(f"{name}/{i}", [EncodedImage(picture(colour))], [own], negatives=[Negative(other)], group=group)
        for i, (own, other, colour) in enumerate(((one, two, colours[0]), (two, one, colours[1])))
    ]


class Pairs:
    """Scores by colour and text."""

    def __init__(self, table):
        self.table = table

    def match(self, pictures, texts):
        names = ["red" if one[0, 0, 0] > 100 else "blue" for one in pictures]
        return np.array([self.table[name, text] for name, text in zip(names, texts)], np.float32)


def test_winoground(tmp_path):
    samples = [
        *pair("0", "a", "x", "y"),
        *pair("1", "b", "u", "v"),
        *pair("2", "c", "p", "q"),
        *pair("3", "d", "k", "l"),
    ]
    model = Pairs(
        {
            # all right
            ("red", "x"): 3, ("red", "y"): 1, ("blue", "x"): 1, ("blue", "y"): 3,
            # texts right, but the blue picture always wins
            ("red", "u"): 2, ("red", "v"): 1, ("blue", "u"): 3, ("blue", "v"): 4,
            # pictures right, but the text p always wins
            ("red", "p"): 4, ("red", "q"): 1, ("blue", "p"): 3, ("blue", "q"): 2,
            # all the same: a tie is a miss
            ("red", "k"): 1, ("red", "l"): 1, ("blue", "k"): 1, ("blue", "l"): 1,
        }
    )  # fmt: skip
    judged = evaluate_match(model, dataset(tmp_path / "d", samples))
    scores = {name: judged.estimates[f"match/{name}_score"] for name in ("text", "image", "group")}
    assert {name: (one.value, one.n) for name, one in scores.items()} == {
        "text": (0.5, 4),
        "image": (0.5, 4),
        "group": (0.25, 4),
    }
    assert [one.chance for one in scores.values()] == [1 / 4, 1 / 4, pytest.approx(1 / 6)]
    assert judged.values["match/text_score"].numbers.tolist() == [1, 1, 0, 0]
    assert judged.values["match/image_score"].numbers.tolist() == [1, 0, 1, 0]


def test_groups_that_are_no_pairs_have_no_winoground_scores(tmp_path):
    samples = [
        *pair("0", "a", "x", "y")[:1],  # half a pair
        *pair("1", None, "x", "y"),
        with_negatives("2/0", "red", ["x"], ("y",), group="c"),  # of each other's captions they hold one only
        with_negatives("2/1", "blue", ["z"], ("y",), group="c"),
    ]
    judged = evaluate_match(Table(dict.fromkeys("xyz", 1.0)), dataset(tmp_path / "d", samples))
    assert list(judged.estimates) == ["match/accuracy"]
