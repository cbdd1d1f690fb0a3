"""Tables and sentences about estimates: signs, words, what is marked, unknown intervals."""

from __future__ import annotations

import math

import pytest

from diptych.cli.estimates import show_differences, show_estimates, show_side_by_side
from diptych.evaluation.metrics.intervals import Difference
from diptych.evaluation.report.labels import metric
from diptych.types import Estimate


def gap(value, low, high, p):
    return Difference(Estimate(value, low, high, 100, 0.0), p)


@pytest.mark.parametrize(
    ("name", "found", "sentence"),
    [
        (
            "answer/accuracy",
            gap(0.05, 0.02, 0.08, 0.001),
            "Answers, accuracy: new is better than old (+5.0 points, 95 % interval +2.0 to +8.0, p = 0.001)",
        ),
        (
            "answer/accuracy",
            gap(-0.05, -0.08, -0.02, 0.001),
            "Answers, accuracy: new is worse than old (-5.0 points, 95 % interval -8.0 to -2.0, p = 0.001)",
        ),
        (
            "answer/accuracy",
            gap(0.01, -0.02, 0.04, 0.4),
            "Answers, accuracy: new cannot be told apart from old (+1.0 points, 95 % interval -2.0 to +4.0, p = 0.4)",
        ),
        (
            "answer/ece",  # an error: lower is better
            gap(-0.05, -0.08, -0.02, 0.001),
            "Confidence is off by (ECE): new is better than old (-5.0 points, 95 % interval -8.0 to -2.0, p = 0.001)",
        ),
        (
            "retrieval/i2t_median_rank",
            gap(3, 1, 5, 0.001),
            "Picture to text, median rank: new is worse than old (+3.000, 95 % interval +1.000 to +5.000, p = 0.001)",
        ),
        (
            "caption/cider_d",
            gap(0.2, 0.1, 0.3, 0.0005),
            "CIDEr-D: new is better than old (+0.200, 95 % interval +0.100 to +0.300, p = 0.0005)",
        ),
    ],
)
def test_differences_in_words(name: str, found: Difference, sentence: str) -> None:
    assert show_differences({"new": {name: found, f"{name}[part]": found}}, "old", "") == [sentence]
    label, rest = sentence.split(": ", 1)
    assert show_differences({"new": {name: found}}, "old", "pets") == [f"{label} on pets: {rest}"]


def test_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    one = {
        "answer/accuracy": Estimate(0.8, 0.75, 0.85, 1200, 0.5),
        "caption/distinct_1": Estimate(0.1, *[math.nan] * 2, 9),
    }
    two = {"answer/accuracy": Estimate(0.5, 0.45, 0.55, 1100, 0.52), "answer/ece": Estimate(0.1, 0.05, 0.2, 1100)}
    show_side_by_side({"pets [v2]": {"a[b]": one, "c": two}})
    said = capsys.readouterr().out
    words = " ".join(said.split())
    assert "pets [v2]" in words and "a[b]" in words and "[yellow]" not in words and "[/]" not in words
    assert "80.0 %" in words and "50.0 % *" in words and "1,200; 1,100" in words and "50.0 %; 52.0 %" in words
    assert "known)" in words and "not shown to be better than chance" in words
    show_estimates("x", {"answer/accuracy": one["answer/accuracy"]})
    assert "better than chance" not in capsys.readouterr().out


def test_models_and_data_sets_are_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = (
        {"answer/accuracy": Estimate(value, value - 0.1, value + 0.1, n, 0.25)} for value, n in ((0.8, 90), (0.3, 70))
    )
    show_side_by_side({"pets": {"old": bad, "new": good}, "cars": {"new": bad}})
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines() if line.strip()]
    assert lines[0] == ["old", "new", "n", "chance"] and ["pets"] in lines and ["cars"] in lines
    pets, cars = (line for line in said.splitlines() if "Answers" in line)
    assert pets.index("30.0 %") + 10 < pets.index("80.0 %") and "70; 90" in pets
    assert abs(cars.index("30.0 %") - pets.index("80.0 %")) < 5, "in the column of its model"
    assert said.count("not shown to be better than chance") == 1


@pytest.mark.parametrize(
    ("value", "written"), [(0, "0.0 %"), (1e-17, "0.0 %"), (-1e-9, "-0.0 %"), (0.0002, "0.02 %"), (1, "100.0 %")]
)
def test_shares_are_written_for_people(value: float, written: str) -> None:
    assert metric("caption/bleu_4").write(value).replace("-0.0", "0.0") == written.replace("-0.0", "0.0")
