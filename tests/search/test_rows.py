"""Ids, fields and filters, row by row."""

import pytest

from diptych.search.rows import Rows
from diptych.types import InputError

FIELDS = [
    {"year": 1990, "name": "one", "score": 0.5},
    {"year": 1995, "name": "two"},
    {"year": 2001.5, "name": "three", "score": 2},
    {"name": "four"},
    {},
]


@pytest.fixture
def rows():
    rows = Rows()
    ids = ["a", "b", "c", "d", "é"]
    for id, fields in zip(ids, rows.check(ids, FIELDS)):
        rows.put(id, fields)
    return rows


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, "abcdé"),
        ({"name": "two"}, "b"),
        ({"name": {"!=": "two"}}, "acd"),
        ({"name": ["two", "four", "never"]}, "bd"),
        ({"name": {"in": ["one"]}}, "a"),
        ({"name": []}, ""),
        ({"name": {">=": "three"}}, "bc"),
        ({"year": 1995}, "b"),
        ({"year": 1995.0}, "b"),
        ({"year": [1990, 2001.5]}, "ac"),
        ({"year": {">": 1990, "<": 2001.5}}, "b"),
        ({"year": {">=": 1990, "<=": 2001.5}}, "abc"),
        ({"year": {">": 0}, "score": {">": 0}}, "ac"),
        ({"score": 2.0}, "c"),
        ({"id": ["é", "a"]}, "aé"),
        ({"id": {"!=": "a"}, "name": "four"}, "d"),
        (lambda f: f["id"] in "bc" and f["year"] > 2000, "c"),
    ],
)
def test_filters(rows, where, expected):
    assert "".join(rows.ids[row] for row in rows.select(where)) == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"yaer": 1}, "no row has the field 'yaer'; fields are: name, score, year"),
        ({"year": "1990"}, "'year' holds numbers, got '1990'"),
        ({"name": 3}, "'name' holds text, got 3"),
        ({"name": ["a", 3]}, "'name' holds text, got 3"),
        ({"year": {"~": 3}}, "expected one of ==, !=, <, <=, >, >=, in, got '~'"),
    ],
)
def test_a_filter_that_does_not_fit_gets_a_sentence(rows, where, message):
    with pytest.raises(InputError, match=message):
        rows.select(where)


def test_a_filter_over_no_rows_selects_none():
    assert len(Rows().select({"anything": 3})) == 0


def test_rows_stay_dense_and_a_filter_sees_every_change(rows):
    assert rows.select({"name": "two"}).tolist() == [1]
    assert rows.remove("b") == 1
    assert rows.ids == ["a", "é", "c", "d"] and rows.row("é") == 1 and rows.row("b") is None
    assert rows.select({"name": "two"}).tolist() == []
    assert rows.remove("d") == 3
    assert rows.put("c", {"name": "two"}) == 2
    assert rows.select({"name": "two"}).tolist() == [2]


def test_what_was_written_is_read(rows):
    again = Rows.from_table(rows.table())
    assert again.ids == rows.ids and again.fields == rows.fields
    assert again.select({"year": {"<": 2000}}).tolist() == [0, 1]
    with pytest.raises(InputError, match="expected text as in other rows"):
        again.check(["x"], [{"name": 3}])


@pytest.mark.parametrize(
    ("ids", "fields", "message"),
    [
        (["x", "y", "x"], None, "'x' twice"),
        ([3], None, "valid Unicode, got 3"),
        (["\ud800"], None, "valid Unicode"),
        (["x"], [{}, {}], "one entry for each of 1 ids, got 2"),
        (["x"], [{"when": [1]}], "expected text or a 64-bit number"),
        (["x"], [{"big": 2**63}], "expected text or a 64-bit number"),
        (["x"], [{"id": "y"}], "names other than 'id'"),
        (["x"], [{"year": "MCM"}], "expected a number as in other rows, got text: 'MCM'"),
        (["x", "y"], [{"new": 1}, {"new": "1"}], "expected a number as in other rows"),
        (["x"], [{"bad": "\udcff"}], "expected text"),
    ],
)
def test_what_does_not_fit_is_refused(rows, ids, fields, message):
    with pytest.raises(InputError, match=message):
        rows.check(ids, fields)


def test_none_is_no_value_and_numpy_numbers_are_numbers(rows):
    import numpy as np

    assert rows.check(["x"], [{"a": None, "b": np.float32(0.5), "c": np.int64(3), "d": True}]) == [
        {"b": 0.5, "c": 3, "d": 1}
    ]
