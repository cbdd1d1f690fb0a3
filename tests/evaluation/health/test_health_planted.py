"""Models whose faults are known come out as what they are, and a model without a fault is not accused of any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planted import HELD_OUT, SCENES, Answerer, BagOfWords, Biased, Blind, Captioner, Oracle, Planted

from diptych.evaluation.health.finding import Finding
from diptych.evaluation.health.run import Health, check_health
from diptych.types import Reply

Rows = dict[tuple[str, str], Finding]


def examine(model: Any, planted: Planted, **options: Any) -> tuple[Health, Rows]:
    health = check_health(model, planted.data, n=SCENES, held_out=HELD_OUT, batch_size=64, **options)
    return health, {(finding.test, finding.name): finding for finding in health.findings}


def verdicts(rows: Rows, test: str) -> dict[str, str]:
    return {name: finding.verdict for (of, name), finding in rows.items() if of == test}


def of_kind(health: Health, verdict: str) -> list[tuple[str, str]]:
    return [(finding.test, finding.name) for finding in health.findings if finding.verdict == verdict]


WORDS = ("attributes swapped", "relation reversed")
SHUFFLES = (
    "nouns and adjectives shuffled",
    "other words shuffled",
    "words shuffled within trigrams",
    "trigrams shuffled",
)


def test_an_oracle_is_accused_of_nothing(planted: Planted) -> None:
    health, rows = examine(Oracle(planted.world), planted)
    assert of_kind(health, "bad") == []
    # what is not green is a shuffle, which a guesser that never looks finds out as well
    assert {name for _, name in of_kind(health, "unclear")} <= set(SHUFFLES)
    assert all(rows["word order", kind].verdict == "good" for kind in WORDS)
    assert len(of_kind(health, "good")) >= 14


def test_a_truthful_answerer_is_accused_of_nothing(planted: Planted) -> None:
    tests = ("word-order", "nonsense", "unseen", "calibration")
    health, rows = examine(Answerer(planted.world, right=0.97), planted, tests=tests)
    assert of_kind(health, "bad") == []
    assert rows["nonsense", "nonsense that is answered"].verdict == "good"
    assert rows["nonsense", "confidence tells nonsense"].verdict == "good"
    assert rows["calibration", "confidence"].verdict == "good"
    assert all(rows["word order", kind].verdict == "good" for kind in WORDS)


def test_a_bag_of_words_knows_things_and_not_their_order(planted: Planted) -> None:
    _, rows = examine(BagOfWords(planted.world), planted, tests=("word-order", "nonsense", "spurious", "ambiguity"))
    assert set(verdicts(rows, "word order").values()) == {"bad"}
    swapped = rows["word order", "attributes swapped"].estimate
    assert swapped is not None and swapped.value == 0.5  # both orders are one text to it
    assert rows["nonsense", "things that are not there"].verdict == "good"
    assert rows["nonsense", "attributes of another thing"].verdict == "bad"
    assert rows["ambiguity", "own caption among 10"].verdict == "good"
    assert "bad" not in verdicts(rows, "spurious correlation").values()


def test_a_blind_guesser_gets_no_credit_for_its_scores(planted: Planted) -> None:
    health, rows = examine(Blind(planted.captions), planted)
    assert all(rows["word order", kind].verdict == "bad" for kind in WORDS)
    for kind in SHUFFLES:  # nearly perfect, as is the control
        finding = rows["word order", kind]
        assert finding.estimate is not None and finding.estimate.low > 0.9
        assert finding.verdict == "unclear"
        assert finding.control is not None and finding.control.value > 0.9
    for name in ("things that are not there", "attributes of another thing"):
        finding = rows["nonsense", name]
        assert finding.verdict == "bad" and finding.estimate is not None
        assert finding.estimate.value == 0.5  # each text is as often true as false
    assert rows["ambiguity", "own caption among 10"].verdict == "bad"
    assert set(verdicts(rows, "robustness").values()) == {"not judged"}
    assert set(of_kind(health, "good")) <= {("spurious correlation", "a bare list of things")}  # it likes long texts


def test_who_says_yes_to_everything_or_scores_all_alike_gets_no_green_row(planted: Planted) -> None:
    class Yes:
        def answer(self, pictures: Any, questions: Any, choices: Any = None) -> list[Reply]:
            return [Reply("yes", 1.0) for _ in questions]

    class Same:
        def match(self, pictures: Any, texts: Any) -> Any:
            return np.zeros(len(texts), np.float32)

    for model in (Yes(), Same()):
        health, rows = examine(model, planted)
        assert of_kind(health, "good") == [] and len(of_kind(health, "bad")) >= 10
        assert rows["nonsense", "things that are not there"].estimate.value == 0.5  # type: ignore[union-attr]


def test_an_overconfident_answerer_is_caught(planted: Planted) -> None:
    model = Answerer(planted.world, right=0.6, sure=0.99, declines=False)
    _, rows = examine(model, planted, tests=("nonsense", "calibration"))
    calibration = rows["calibration", "confidence"]
    assert calibration.verdict == "bad" and "overconfident" in calibration.sentence
    assert calibration.estimate is not None and calibration.estimate.value == pytest.approx(0.39, abs=0.06)
    answered = rows["nonsense", "nonsense that is answered"]
    assert answered.verdict == "bad" and answered.estimate is not None and answered.estimate.value == 1.0
    assert rows["nonsense", "confidence tells nonsense"].verdict == "bad"


def test_a_truthful_answerer_that_is_often_wrong_is_calibrated(planted: Planted) -> None:
    _, rows = examine(Answerer(planted.world, right=0.6), planted, tests=("calibration",))
    assert rows["calibration", "confidence"].verdict == "good"


def test_a_model_that_reads_the_ground_leans_on_it_and_on_nothing_else(planted: Planted) -> None:
    _, rows = examine(Biased(planted.world), planted, tests=("spurious", "word-order"))
    finding = rows["spurious correlation", "color guessed from background"]
    assert finding.verdict == "bad" and finding.estimate is not None and finding.control is not None
    assert finding.estimate.high < 0.5 < finding.control.low  # worse than guessing where the rule is broken
    turning = [point.value for point in finding.curves[0].y]
    assert turning[-1] - turning[0] > 0.4  # the more bias, the better it seems
    assert rows["spurious correlation", "shape guessed from color"].verdict != "bad"
    assert all(rows["word order", kind].verdict == "good" for kind in WORDS)


def test_captions_that_fit_any_picture_are_generic(planted: Planted) -> None:
    name = "written captions find their picture"
    _, rows = examine(Captioner(planted.world), planted, tests=("ambiguity", "word-order", "cost"))
    assert rows["ambiguity", name].verdict == "good"
    assert set(verdicts(rows, "word order").values()) == {"not judged"}
    assert rows["cost", "time"].verdict == "measured"
    _, rows = examine(Captioner(planted.world, "Some things."), planted, tests=("ambiguity",))
    assert rows["ambiguity", name].verdict == "bad"


def test_a_model_that_falls_apart_under_noise_is_red_there(planted: Planted) -> None:
    class Fragile(Oracle):
        """Sees nothing in pictures with noise: there every text scores the same."""

        def match(self, pictures: Any, texts: Any) -> Any:
            rough = [np.abs(np.diff(np.asarray(p, float), axis=1)).mean() > 14 for p in pictures]
            return np.where(rough, 0.0, super().match(pictures, texts))

    _, rows = examine(Fragile(planted.world), planted, tests=("robustness",))
    assert rows["robustness", "noise"].verdict == "bad"
    assert rows["robustness", "blur"].verdict == "good"
    assert [len(rows["robustness", name].curves[0].y) for name in ("noise", "style")] == [4, 3]
