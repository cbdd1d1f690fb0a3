"""Classification metrics on tables that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.evaluation.metrics.classification import confusion_matrix, per_class_accuracy, top_k
from diptych.types import InputError


def test_top_k_by_eye() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.3, 0.3, 0.4]])
    assert top_k(scores, [1, 2, 0], 1).tolist() == [1, 0, 0]
    assert top_k(scores, [1, 2, 0], 2).tolist() == [1, 0, 0.5]  # classes 0 and 1 share the second and third place
    assert top_k(scores, [1, 2, 0], 5).tolist() == [1, 1, 1]


@pytest.mark.parametrize("k", [1, 5])
def test_a_constant_scorer_is_at_chance(k: int) -> None:
    assert top_k(np.zeros((4, 10)), [0, 3, 9, 9], k).tolist() == [k / 10] * 4


def test_rounding_does_not_break_a_tie() -> None:
    assert top_k(np.array([[0.5, 0.5 + 1e-8]]), [0], 1, tie=1e-6).tolist() == [0.5]


def test_confusion_by_hand() -> None:
    truth, predicted = [0, 0, 0, 1, 3], [0, 0, 1, 1, 0]
    confusion = confusion_matrix(predicted, truth, 4)
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    np.testing.assert_allclose(per_class_accuracy(confusion), [2 / 3, 1, np.nan, 0])


@pytest.mark.parametrize(
    ("predicted", "truth", "words"),
    [([0, 4], [0, 1], "predicted: expected class numbers from 0 to 3"), ([0], [0, 1], "expected 2 class numbers")],
)
def test_bad_class_numbers_are_refused(predicted: list[int], truth: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        confusion_matrix(predicted, truth, 4)
