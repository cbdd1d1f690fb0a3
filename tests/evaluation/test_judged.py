"""What evaluators share: comparing models unit by unit, the worst cases, names in official files."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from diptych.evaluation import to_json
from diptych.evaluation.judged import Case, Judged, Values, compare, differences, none_left, number, without_interval
from diptych.types import Estimate, Rejected


def values(numbers, rows=None, units=None):
    count = len(numbers)
    return Values.of(range(count) if rows is None else rows, [0] * count if units is None else units, numbers)


def result(**named):
    return SimpleNamespace(values={name: values(numbers) for name, numbers in named.items()})


def test_equal_models_are_equal_and_a_planted_difference_is_found():
    rng = np.random.default_rng(0)
    base = rng.random(5000) < 0.6
    other = np.where(rng.random(5000) < 0.06, ~base, base)  # as often better as worse, on the average
    gained = base | (rng.random(5000) < 0.05)  # 2 points more
    found = differences({"a": result(m=base), "b": result(m=base), "c": result(m=gained), "d": result(m=other)})
    assert list(found) == ["b", "c", "d"]
    same, more = found["b"]["m"], found["c"]["m"]
    assert same.estimate.value == 0 and same.p == 1 and -0.002 < same.estimate.low <= 0 <= same.estimate.high < 0.002
    assert more.estimate.value == pytest.approx(gained.mean() - base.mean()) and more.estimate.low > 0.01
    assert more.p < 0.001
    assert (found["d"]["m"].estimate.value > 0) == (other.mean() > base.mean())


def test_only_what_both_were_judged_on_is_compared():
    first = {"m": values([1, 0, 1, 1], rows=[0, 0, 1, 2], units=[0, 1, 0, 0]), "mine": values([1])}
    second = {"m": values([0, 1, 1], rows=[0, 2, 0], units=[1, 0, 0]), "yours": values([1])}
    found = compare(first, second, np.random.default_rng(0))
    assert list(found) == ["m"]
    assert found["m"].estimate.n == 3 and found["m"].estimate.value == 0  # units (0, 0), (0, 1) and (2, 0)
    assert compare({"m": values([1], rows=[3])}, {"m": values([1], rows=[4])}, np.random.default_rng(0)) == {}


def test_units_of_one_row_are_drawn_together():
    rng = np.random.default_rng(0)
    per_row = rng.random(60) - 0.4
    alone = compare({"m": values(per_row)}, {"m": values(np.zeros(60))}, np.random.default_rng(1))["m"]
    rows, units = np.repeat(np.arange(60), 5), np.tile(np.arange(5), 60)
    five = {"m": values(np.repeat(per_row, 5), rows, units)}
    none = {"m": values(np.zeros(300), rows, units)}
    together = compare(five, none, np.random.default_rng(1))["m"]
    width = [one.estimate.high - one.estimate.low for one in (alone, together)]
    assert width[1] == pytest.approx(width[0], rel=0.1) and together.p > alone.p / 5


def test_the_seed_decides():
    models = {"a": result(m=[1, 0, 1, 1, 0, 1], n=[0, 0, 1, 1, 1, 1]), "b": result(m=[1, 1, 0, 1, 0, 0], n=[1] * 6)}
    assert differences(models, 3) == differences(models, 3)
    assert differences({"a": models["a"]}) == {}


def test_worst_are_the_lowest_and_of_these_the_surest():
    cases = [Case(0, 1.0, "", "", "", 0.9), Case(1, 0.0, "", "", ""), Case(2, 0.0, "", "", "", 0.7)]
    judged = Judged("answer", {}, {}, cases, [Rejected("x", "image truncated")], {"no caption": 2})
    assert [case.row for case in judged.worst(2)] == [2, 1] and len(judged.worst()) == 3
    assert judged.left_out() == {"no caption": 2, "image truncated": 1}


def test_what_was_left_out_is_said_where_nothing_is_left():
    rejected = [
        Rejected("a", "image truncated", "cut at 9 bytes"),
        Rejected("b", "server error"),
        Rejected("c", "server error"),
    ]
    said = str(none_left("mine", "samples", 3, rejected))
    assert (
        said == "mine: none of 3 samples could be judged: 1 image truncated, 2 server error; the first: cut at 9 bytes"
    )


@pytest.mark.parametrize(("id", "name"), [("42", 42), ("042", "042"), ("a1", "a1"), ("", ""), ("-3", "-3"), ("٣", "٣")])
def test_ids_that_are_numbers_become_numbers(id, name):
    assert number(id) == name and str(number(id)) == id


def test_an_unknown_interval_is_null():
    plain = to_json({"a": without_interval(0.5, 3), "b": Estimate(0.1, 0.0, 0.2, 3, 0.1)})
    assert plain["a"] == {"value": 0.5, "low": None, "high": None, "n": 3, "chance": None}
    assert plain["b"]["chance"] == 0.1 and "NaN" not in json.dumps(plain)
