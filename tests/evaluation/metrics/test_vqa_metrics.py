"""VQA accuracy against the official script, by golden values (tests/golden/vqa_accuracy.py made them)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.evaluation.metrics.vqa import (
    CONTRACTIONS,
    exact_match,
    mean_by_type,
    normalize_answer,
    soft_score,
    vqa_accuracy,
)
from diptych.types import InputError

GOLDEN = Path(__file__).parents[2] / "golden" / "vqa_accuracy.json"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text("utf-8"))


def test_every_case_is_normalised_as_the_official_script_does(golden: dict[str, Any]) -> None:
    expected = golden["normalized"][0]
    assert {text: normalize_answer(text) for text in expected} == expected
    assert len(expected) > 1000


def test_the_table_of_contractions_has_no_entry_of_its_own(golden: dict[str, Any]) -> None:
    assert set(CONTRACTIONS) <= set(golden["normalized"][0])


def test_accuracy_is_that_of_the_official_script(golden: dict[str, Any]) -> None:
    rows = golden["questions"]
    truths = [[text for text, count in row["truths"].items() for _ in range(count)] for row in rows]
    values = vqa_accuracy([row["answer"] for row in rows], truths)
    np.testing.assert_allclose(values, [row["accuracy"] for row in rows], atol=1e-11)
    official = golden["accuracy"][0]
    assert 100 * values.mean() == pytest.approx(official["overall"], abs=1e-9)
    for key, name in (("perQuestionType", "question_type"), ("perAnswerType", "answer_type")):
        by_type = mean_by_type(values, [row[name] for row in rows])
        assert {kind: 100 * mean for kind, mean in by_type.items()} == pytest.approx(official[key], abs=1e-9)


@pytest.mark.parametrize(("equal", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_accuracy_by_hand(equal: int, score: float) -> None:
    truths = ["red"] * equal + ["blue"] * (10 - equal)
    assert vqa_accuracy(["red"], [truths])[0] == pytest.approx(score)
    assert soft_score(["Red."], [truths])[0] == pytest.approx(min(1, equal / 3))
    assert exact_match(["the red"], [truths])[0] == (equal > 0)


def test_answers_are_compared_as_written_where_all_annotators_agree() -> None:
    assert vqa_accuracy(["yes", "Yes"], [["Yes"] * 10] * 2).tolist() == [0, 1]
    assert exact_match(["yes", "Yes"], [["Yes"]] * 2).tolist() == [1, 1]


def test_no_questions() -> None:
    assert vqa_accuracy([], []).shape == (0,)
    assert mean_by_type([], []) == {}


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="truths: expected 1 lists, one of each answer, got 2"):
        vqa_accuracy(["a"], [["a"], ["b"]])
    with pytest.raises(InputError, match="got none at position 1"):
        exact_match(["a", "b"], [["a"], []])
    with pytest.raises(InputError, match="types: expected 2"):
        mean_by_type([0, 1], ["number"])


def test_all_of_vqa_v2_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"a thing, number {i}" for i in range(60_000)])
    drawn = np.minimum(rng.zipf(1.3, size=(214_354, 11)), len(words)) - 1
    start = time.process_time()
    values = vqa_accuracy(words[drawn[:, 0]].tolist(), words[drawn[:, 1:]].tolist())
    assert time.process_time() - start < 10  # about 1.5 s on one idle core
    assert 0 < values.mean() < 1
