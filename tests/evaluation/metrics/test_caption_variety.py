"""distinct-n, lengths, and F1 of tuples, on examples that can be counted by eye."""

from __future__ import annotations

import pytest

from diptych.evaluation.metrics.diversity import distinct_n, lengths, vocabulary_size
from diptych.evaluation.metrics.tuples import tuple_f1
from diptych.types import InputError


def test_distinct_n() -> None:
    captions = ["a dog a dog", "a cat", ""]
    assert distinct_n(captions, 1) == 3 / 6
    assert distinct_n(captions, 2) == 3 / 4  # a dog, dog a, a cat
    assert distinct_n(captions, 3) == 1.0
    assert distinct_n(["a b"], 3) == 0.0 and distinct_n([], 1) == 0.0
    with pytest.raises(InputError, match="n: expected 1 to 4, got 5"):
        distinct_n(captions, 5)


def test_lengths_and_vocabulary() -> None:
    assert lengths(["a dog a dog", "", "one"]).tolist() == [4, 0, 1]
    assert vocabulary_size(["a dog a dog", "", "one"]) == 3


def test_tuple_f1() -> None:
    said = [{("dog",), ("dog", "red"), ("dog", "on", "mat")}, set(), set(), {("cat",)}]
    there = [{("dog",), ("dog", "on", "mat"), ("mat",), ("mat", "old")}, set(), {("dog",)}, set()]
    found = tuple_f1(said, there)
    assert found.precision.tolist() == pytest.approx([2 / 3, 1, 0, 0])
    assert found.recall.tolist() == pytest.approx([2 / 4, 1, 0, 0])
    assert found.each.tolist() == pytest.approx([4 / 7, 1, 0, 0])
    assert found.value == pytest.approx(sum(found.each) / 4)


def test_tuple_f1_of_bad_input() -> None:
    with pytest.raises(InputError, match="one set for each image on both sides, got 1 and 2"):
        tuple_f1([set()], [set(), set()])
    with pytest.raises(InputError, match="got 0 and 0"):
        tuple_f1([], [])
