"""The parts of `diptych health`: what is asked, the blind control, the verdicts, the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import Answerer, BagOfWords, Oracle, Planted, words_of

from diptych.data import open_dataset
from diptych.data.store import DatasetWriter
from diptych.evaluation.health import claims, nonsense, perturb, spurious, unseen, word_order, worlds
from diptych.evaluation.health.blind import blind_hits
from diptych.evaluation.health.calibration import Sure, _row
from diptych.evaluation.health.choosing import Choice, choose
from diptych.evaluation.health.finding import Finding, above, all_of, below
from diptych.evaluation.health.page import page, summary, written
from diptych.evaluation.health.run import Health, check_health
from diptych.evaluation.health.training import held_out_of
from diptych.evaluation.match import hit
from diptych.images import decode
from diptych.types import EncodedImage, Estimate, InputError, Negative, Rejected, Sample


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# ---------------------------------------------------------------- verdicts


def test_a_verdict_needs_the_whole_interval() -> None:
    assert above(Estimate(0.8, 0.76, 0.9, 50), 0.75) == "good"
    assert above(Estimate(0.8, 0.70, 0.9, 50), 0.75) == "unclear"
    assert above(Estimate(0.6, 0.50, 0.74, 50), 0.75) == "bad"
    assert below(Estimate(0.2, 0.11, 0.3, 50), 0.1) == "bad"
    assert all_of("good", "unclear") == "unclear" and all_of("good", "bad") == "bad" and all_of("good") == "good"


def test_ties_are_broken_by_a_fair_die() -> None:
    assert hit(0.5, [0.5, 0.1]) == 0.5
    assert hit(0.5, [0.6, 0.1]) == 0.0
    assert hit(0.7, [0.6, 0.1]) == 1.0


# ---------------------------------------------------------------- the blind control


def test_the_control_learns_what_texts_give_away_and_nothing_else() -> None:
    lot = np.random.default_rng(1)
    words = ["red", "blue", "cube", "ball", "cone", "left", "right", "near"]
    given_away, balanced = [], []
    for i in range(120):
        a, b = lot.choice(words, 4), lot.choice(words, 4)
        given_away.append(Choice(i, (f"the {' '.join(a)}", f"{' '.join(a)} the"), i))  # grammar tells
        balanced.append(Choice(i, (" ".join(a), " ".join(b)), i))
    names = [str(i) for i in range(120)]
    assert blind_hits(given_away, names).mean() > 0.97
    assert 0.35 < blind_hits(balanced, names).mean() < 0.65


def test_the_control_never_learns_from_what_it_is_judged_on() -> None:
    twice = [Choice(i, (f"word{i // 2}", f"other{i // 2}"), i) for i in range(80)]  # each pair of texts stands twice
    assert blind_hits(twice, [c.texts[0] for c in twice]).mean() == pytest.approx(0.5)
    assert blind_hits(twice, [str(i) for i in range(80)]).mean() > 0.7  # leaks, if the two are split


# ---------------------------------------------------------------- what is asked


def test_mirrored_statements_are_true_once_and_false_once(planted: Planted) -> None:
    samples = planted.data.take(range(60), worlds.WANTED)
    for wrong in (claims.absent, claims.apart):
        choices = claims.mirrored(samples, wrong, rng())
        assert len(choices) > 40
        assert sorted(c.texts[0] for c in choices) == sorted(c.texts[1] for c in choices)
        for choice in choices:
            true, false = (dict([_thing(text)]) for text in choice.texts)
            seen = claims.seen_in(samples[choice.row])
            assert set(true.items()) <= seen.things
            assert not set(false.items()) & seen.things
            words = {word for thing in false.items() for word in thing}
            assert (words <= seen.words) == (wrong is claims.apart)


def _thing(text: str) -> tuple[str, str]:
    attribute, name = words_of(text)[-2:]
    return attribute, name


def test_unseen_asks_about_what_was_held_out_and_about_the_rest(planted: Planted) -> None:
    dials = worlds.dials_of_world(planted.data)
    assert dials is not None
    held = worlds.samples_of(dials, 20, held_out="yellow cone,blue cube", split="test")
    left_out = worlds.Dials(held_out="yellow cone,blue cube").combinations
    pairs = [unseen._pair(i, sample, left_out, rng()) for i, sample in enumerate(held)]
    asked = [pair for pair in pairs if pair]
    assert len(asked) > 10
    for new, known in asked:
        assert new.texts[0] in ("There is a yellow cone.", "There is a blue cube.")
        others = {*new.texts[1:], *known.texts}
        assert not others & {"There is a yellow cone.", "There is a blue cube."}


def test_a_trap_is_what_the_rule_expects(planted: Planted) -> None:
    dials = worlds.dials_of_world(planted.data)
    assert dials is not None
    biased = worlds.samples_of(dials, 15, bias=1.0, bias_kind="color-shape")
    asked = [spurious._ask(i, sample, ("color", "shape"), rng()) for i, sample in enumerate(biased)]
    assert all(found is None or found[1] for found in asked)  # at full bias the rule holds for all


def test_words_that_decline() -> None:
    for text in (
        "unanswerable",
        "There is no car.",
        "I can't tell.",
        "",
        "None",
        "I do not see a car.",
        "I don’t see it.",
    ):
        assert nonsense.declines(text), text
    for text in (
        "There’s no red cube.",
        "No red cube is visible.",
        "I cannot say",
        "No cars in the picture",
        "It shows no car.",
        "No idea",
    ):
        assert nonsense.declines(text), text
    for text in ("red", "3", "a cube", "yes", "northern lights", "no", "no, it is red"):
        assert not nonsense.declines(text), text


def test_damage_grows_with_its_grade_and_leaves_the_picture_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    before = picture.copy()
    for name, damage in perturb.DAMAGES.items():
        gaps = []
        for grade in range(perturb.GRADES):
            made = damage(picture, grade, rng())
            assert made.shape == picture.shape and made.dtype == np.uint8
            gaps.append(np.abs(made.astype(float) - picture).mean())
        assert 0 < gaps[0] < gaps[1] < gaps[2], name
    assert (picture == before).all()


def test_a_negative_that_another_caption_says_is_not_wrong() -> None:
    negatives = [Negative("a car", "swap", 0), Negative("a dog", "swap", 0), Negative("x", "swap", 9)]
    found = word_order._choices([Sample("a", [], ["a cat", "a dog"], negatives=negatives)])
    assert found == {"swap": [Choice(0, ("a cat", "a car"), 0)]}


# ---------------------------------------------------------------- the run


def test_unreadable_pictures_are_left_out_of_a_choice(planted: Planted) -> None:
    good = planted.data.take([0], worlds.WANTED)[0].images[0]
    choices = [Choice(0, ("a", "b"), 0), Choice(1, ("a", "b"), 1)]
    found = choose(BagOfWords(planted.world), [good, EncodedImage(b"no picture")], choices)
    assert [choice.row for choice in found.choices] == [0]
    with pytest.raises(InputError, match="none of 1 could be judged"):
        choose(BagOfWords(planted.world), [EncodedImage(b"no picture")], choices[:1])


class Refusing:
    """A model that gives no answer about some pictures or questions."""

    def __init__(self, model: Any, share: float = 0.0, silent: str = "\0") -> None:
        self.model, self.share, self.silent, self.lot = model, share, silent, np.random.default_rng(0)

    def answer(self, *asked: Any) -> list[Any]:
        return [
            Rejected("", "refused") if self.lot.random() < self.share or reply.text.startswith(self.silent) else reply
            for reply in self.model.answer(*asked)
        ]


def test_what_a_model_gives_no_answer_to_is_counted_on_its_row(planted: Planted) -> None:
    truthful = Answerer(planted.world, right=0.97)
    tests = ("robustness", "nonsense", "spurious", "calibration")
    health = check_health(Refusing(truthful, 0.02), planted.data, n=80, tests=tests)
    rows = {finding.name: finding for finding in health.findings}
    noise, confidence = rows["noise"], rows["confidence"]
    assert noise.verdict == "good" and noise.estimate is not None
    assert noise.estimate.n + sum(noise.left_out.values()) == 40 and noise.estimate.n < 40
    assert confidence.left_out["refused"] > 0 and rows["things that are not there"].left_out["refused"] > 0
    assert all(finding.left_out for finding in health.findings if finding.verdict != "not judged")
    assert f"Left out: {confidence.left_out['refused']} refused." in page(health)
    silent = check_health(Refusing(truthful, silent="There is no"), planted.data, n=60, tests=("nonsense",))
    row = {finding.name: finding for finding in silent.findings}["nonsense that is answered"]
    assert row.verdict == "not judged" and row.left_out["refused"] > 10

    class Mute:
        def caption(self, pictures: Any) -> list[Rejected]:
            return [Rejected("", "refused")] * len(pictures)

    findings = check_health(Mute(), planted.data, n=40, tests=("ambiguity",)).findings
    assert [dict(f.left_out) for f in findings if "written" in f.name] == [{"refused": 40}]


def test_a_model_whose_scores_are_no_numbers_gets_no_page(planted: Planted) -> None:
    class Broken:
        def match(self, pictures: Any, texts: Any) -> Any:
            return np.full(len(texts), np.nan, np.float32)

    with pytest.raises(InputError, match="could be judged: score is no number"):
        check_health(Broken(), planted.data, n=20)


def test_questions_about_one_picture_are_no_independent_evidence(planted: Planted) -> None:
    right, rows = np.repeat([1.0, 0.0] * 20, 10), np.repeat(np.arange(40), 10)
    sure = [Sure(np.full(400, 0.8), right, r, [], {}) for r in (rows, np.arange(400))]
    together, apart = (_row(one, rng()).estimate for one in sure)
    assert together is not None and apart is not None
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_data_in_order_of_kinds_is_not_judged_by_its_first_kind(planted: Planted, tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d") as writer:
        for i, sample in enumerate(planted.data.take(range(80), worlds.WANTED)):
            wrong = [replace(negative, kind="first" if i < 40 else "second") for negative in sample.negatives]
            writer.write(replace(sample, negatives=wrong))
    rows = examined(Oracle(planted.world), str(tmp_path / "d"), n=40, tests=("word-order",))
    numbers = {name: row.estimate.n for (_, name), row in rows.items() if row.estimate is not None}
    assert set(numbers) == {"first", "second"} and all(n > 10 for n in numbers.values())


def test_bad_input_is_one_sentence(planted: Planted) -> None:
    with pytest.raises(InputError, match="expected one that compares pictures with texts"):
        check_health(object(), planted.data)
    with pytest.raises(InputError, match="tests: expected some of word-order"):
        check_health(Oracle(planted.world), planted.data, tests=("word order",))
    with pytest.raises(InputError, match="n: expected 1 or more"):
        check_health(Oracle(planted.world), planted.data, n=0)


def test_the_same_seed_gives_the_same_page(planted: Planted) -> None:
    runs = [
        check_health(BagOfWords(planted.world), planted.data, n=40, tests=("word-order", "nonsense"), seed=3)
        for _ in range(2)
    ]
    assert json.dumps(runs[0].to_json()) == json.dumps(runs[1].to_json())


def saved(sample: Sample, to: Path) -> str:
    """The sample's picture as a PNG; its name."""
    to.parent.mkdir(parents=True, exist_ok=True)
    decode(sample.images[0].data or b"").save(to, "PNG")
    return to.name


def examined(model: Any, address: str, **options: Any) -> dict[tuple[str, str], Finding]:
    health = check_health(model, open_dataset(address), batch_size=64, **options)
    return {(finding.test, finding.name): finding for finding in health.findings}


def test_aro_s_layout_runs_the_rows_it_supports(planted: Planted, tmp_path: Path) -> None:
    items = [
        {
            "image_path": saved(sample, tmp_path / "images" / f"{i}.png"),
            "true_caption": sample.captions[negative.of],
            "false_caption": negative.text,
            "attributes": ["a", "b"],
        }
        for i, sample in enumerate(planted.data.take(range(60), worlds.WANTED))
        for negative in sample.negatives
        if negative.kind == "attributes swapped"
    ]
    (tmp_path / "visual_genome_attribution.json").write_text(json.dumps(items), encoding="utf-8")
    rows = examined(Oracle(planted.world), f"aro:{tmp_path}")
    assert rows["word order", "attribution"].verdict == "good"
    assert "which attribute belongs to which thing" in rows["word order", "attribution"].sentence
    assert rows["robustness", "blur"].verdict == "good" and rows["robustness", "style"].verdict == "not judged"
    waiting = {test: row.sentence for (test, _), row in rows.items() if row.verdict == "not judged"}
    assert "a world whose dials can be turned" in waiting["unseen combinations"]
    assert "`objects`" in rows["nonsense", "things that are not there"].sentence
    bag = examined(BagOfWords(planted.world), f"aro:{tmp_path}", tests=("word-order",))
    assert bag["word order", "attribution"].verdict == "bad"


def test_winoground_s_layout_counts_its_halves_together(planted: Planted, tmp_path: Path) -> None:
    lines = []
    samples = planted.data.take(range(80), worlds.WANTED)
    for i, (one, two) in enumerate(zip(samples[::2], samples[1::2])):
        for side, sample in enumerate((one, two)):
            saved(sample, tmp_path / "images" / f"ex_{i}_img_{side}.png")
        lines.append(
            {
                "id": i,
                "tag": "Object",
                **{f"image_{side}": f"ex_{i}_img_{side}" for side in (0, 1)},
                **{f"caption_{side}": sample.captions[4] for side, sample in enumerate((one, two))},
            }
        )
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    row = examined(Oracle(planted.world), f"winoground:{tmp_path}", tests=("word-order",))["word order", "Object"]
    assert row.verdict == "good" and row.estimate is not None and row.estimate.n == 80
    assert row.control is not None and row.control.value == 0.5  # each caption is as often right as wrong


def test_vizwiz_s_layout_asks_what_can_and_cannot_be_answered(planted: Planted, tmp_path: Path) -> None:
    items = [
        {
            "image": saved(sample, tmp_path / "val" / f"VizWiz_val_{i}.png"),
            "question": question.question,
            "answers": [{"answer": (question.answers or ["unanswerable"])[0]}] * 10,
            "answerable": int(bool(question.answerable)),
            "answer_type": "other",
        }
        for i, sample in enumerate(planted.data.take(range(60), worlds.WANTED))
        for question in sample.questions
        if question.kind.startswith("query")
    ]
    (tmp_path / "val.json").write_text(json.dumps(items), encoding="utf-8")
    tests = ("nonsense", "calibration")
    rows = examined(Answerer(planted.world, right=0.97), f"vizwiz:{tmp_path}", tests=tests)
    for row in (("nonsense", "nonsense that is answered"), ("calibration", "confidence")):
        assert rows[row].verdict == "good", rows[row]
    rows = examined(Answerer(planted.world, right=0.6, sure=0.99, declines=False), f"vizwiz:{tmp_path}", tests=tests)
    for row in (("nonsense", "nonsense that is answered"), ("calibration", "confidence")):
        assert rows[row].verdict == "bad", rows[row]


def test_a_model_at_chance_on_clean_pictures_is_not_judged_on_damaged_ones(planted: Planted) -> None:
    class Same:
        def match(self, pictures: Any, texts: Any) -> Any:
            return np.zeros(len(texts), np.float32)

    health = check_health(Same(), planted.data, n=60, tests=("robustness",))
    assert {f.verdict for f in health.findings} == {"not judged"}
    assert "beats guessing on clean pictures" in health.findings[0].sentence


def test_what_a_card_says_was_held_out(tmp_path: Path) -> None:
    assert held_out_of(tmp_path) == ""
    command = "diptych train clip --data 'scenes:?n=50&held_out=yellow+cone,blue+cube' --out runs/a"
    (tmp_path / "README.md").write_text(f"# A model\n\n```\n{command}\n```\n", encoding="utf-8")
    assert held_out_of(tmp_path) == "yellow cone,blue cube"


# ---------------------------------------------------------------- the page


def test_the_page_says_everything_and_needs_nothing_beside_itself(planted: Planted) -> None:
    health = check_health(BagOfWords(planted.world), planted.data, n=45, name="a <bag>", batch_size=64)
    html = page(health, "diptych health bag")
    assert "a &lt;bag&gt;" in html and "<bag>" not in html
    assert 'src="http' not in html and "<script" not in html
    for finding in health.findings:
        assert finding.name in html
    assert html.count("<svg") > 5 and "data:image/jpeg;base64" in html
    assert f"{health.counts()['bad']} bad" in summary(health)
    assert health.by_luck() == pytest.approx(0.025 * sum(f.looks for f in health.findings))
    rows = health.to_json()["rows"]
    assert len(rows) == len(health.findings)
    assert json.loads(json.dumps(rows))[0]["control"]["name"] == "guesser that never looks"


def test_numbers_are_written_with_their_unit() -> None:
    def finding(unit: str) -> Finding:
        return Finding("t", "n", "measured", "", unit=unit)

    assert written(finding("share"), 0.623) == "62 %"
    assert written(finding("points"), -0.0001) == "0 points"
    assert written(finding("MB"), 1234.5) == "1,234 MB"


def test_an_empty_health_has_a_page() -> None:
    assert "0 rows" in summary(Health("m", "d", 0, 0, [])) and page(Health("m", "d", 0, 0, []))
