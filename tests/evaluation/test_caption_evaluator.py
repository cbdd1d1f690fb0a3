"""Captions: perfect, generic and none; chance, the judge, what is true of a scene, files of predictions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from colours import NAMES, Oracle, dataset, picture, sample

from diptych.data import open_dataset
from diptych.evaluation import caption as evaluators
from diptych.evaluation.caption import evaluate_caption
from diptych.evaluation.judged import differences
from diptych.evaluation.score import score_captions
from diptych.images import decode
from diptych.types import InputError, Rejected, Reply, Sample


@pytest.fixture(autouse=True)
def without_paraphrases(monkeypatch):
    """METEOR's table is large; that it is read is tested elsewhere."""
    monkeypatch.setattr(evaluators, "find_meteor_data", lambda folder: None)


class Teller:
    """Says of each picture what a table has for its colour."""

    def __init__(self, table):
        self.table = table

    def caption(self, pictures):
        found = [self.table.get(tuple(one[0, 0].tolist()), "") for one in pictures]
        return [one if isinstance(one, Rejected) else Reply(one, 0.5) for one in found]


def seen(colour):
    """The pixel of a picture of that colour."""
    return tuple(np.asarray(decode(picture(colour)))[0, 0].tolist())


def pairs(count=8):
    return [
        sample(str(i), name, [f"a thing that is {name} all over", f"{name} it is"])
        for i, name in enumerate(NAMES[:count])
    ]


RIGHT = {seen(name): f"A thing that is {name} all over." for name in NAMES}


def test_a_perfect_and_a_generic_writer(tmp_path):
    data = dataset(tmp_path / "d", pairs())
    perfect = evaluate_caption(Teller(RIGHT), data).estimates
    generic = evaluate_caption(Teller(dict.fromkeys(RIGHT, "a thing that is red all over")), data).estimates
    assert {f"caption/bleu_{n}" for n in (1, 2, 3, 4)} < set(perfect)
    for name in ("bleu_1", "bleu_4", "rouge_l", "meteor"):
        found = perfect[f"caption/{name}"]
        assert found.value == pytest.approx(1, abs=0.01) and found.chance < 0.9 and found.n == 8
        assert found.low < 0.95 < found.high, "eight perfect captions are not certainty"
        generic_found = generic[f"caption/{name}"]
        assert generic_found.value == pytest.approx(generic_found.chance), "it says the same of every picture"
    assert perfect["caption/cider_d"].value > 4 > generic["caption/cider_d"].value
    assert perfect["caption/length"].value == 7 and np.isnan(perfect["caption/length"].low), "all alike: not known"
    # 6 words that all share and 8 colours, of 7 words a caption; pairs: 4 shared, and 2 of each of 8
    assert perfect["caption/distinct_1"].value == pytest.approx((6 + 8) / 56)
    assert perfect["caption/distinct_2"].value == pytest.approx((4 + 16) / 48)
    assert np.isnan(perfect["caption/distinct_1"].low)
    assert generic["caption/distinct_1"].value == pytest.approx(7 / 56)


def test_the_difference_of_two_writers_is_that_of_their_scores(tmp_path):
    data = dataset(tmp_path / "d", pairs())
    vague = {pixel: text if i % 2 else "some thing or other" for i, (pixel, text) in enumerate(RIGHT.items())}
    right, other = (evaluate_caption(Teller(table), data) for table in (RIGHT, vague))
    found = differences({"right": right, "other": other})["other"]
    assert {f"caption/{name}" for name in ("bleu_1", "bleu_4", "meteor", "rouge_l", "cider_d")} <= set(found)
    for name, gap in found.items():
        assert gap.estimate.value == pytest.approx(other.estimates[name].value - right.estimates[name].value), name
        assert gap.estimate.low < gap.estimate.value < gap.estimate.high < 0 and gap.p == pytest.approx(1 / 8, abs=0.03)


def test_who_is_rejected_is_counted_and_not_wrong(tmp_path):
    samples = [*pairs(3), sample("mute", "pink", [" "]), sample("broken", "red", ["red"], data=b"no picture")]
    samples += [sample("refused", "grey", ["a grey thing"]), Sample("blind", captions=["no picture at all"])]
    model = Teller({**RIGHT, seen("grey"): Rejected("", "server error", "500")})
    judged = evaluate_caption(model, dataset(tmp_path / "d", samples))
    assert judged.estimates["caption/rouge_l"].n == 3
    assert judged.left_out()["sample without a caption"] == 1 and judged.left_out()["server error"] == 1
    assert [bad.id for bad in judged.rejected] == ["broken", "blind", "refused"]
    assert judged.values["caption/cider_d"].rows.tolist() == [0, 1, 2]
    assert judged.cases[1].said == "A thing that is green all over."
    assert judged.cases[1].truth == "a thing that is green all over\ngreen it is" and judged.cases[1].confidence == 0.5
    assert judged.predictions.entries[2] == {"image_id": 2, "caption": "A thing that is blue all over."}


def test_empty_captions_are_judged(tmp_path):
    found = evaluate_caption(Teller({}), dataset(tmp_path / "d", pairs(4))).estimates
    assert [found[f"caption/{name}"].value for name in ("rouge_l", "cider_d", "meteor", "length", "distinct_1")] == [
        0
    ] * 5
    assert found["caption/bleu_1"].value < 1e-6


def test_a_judge_adds_whether_captions_fit(tmp_path):
    data = dataset(tmp_path / "d", pairs())
    found = evaluate_caption(Teller(RIGHT), data, judge=Oracle()).estimates
    assert found["caption/clip_score"].value == pytest.approx(2.5) and found["caption/clip_score"].chance == 0
    assert found["caption/ref_clip_score"].value == pytest.approx(2 * 2.5 / 3.5)
    assert found["caption/finds_own_picture"].value == 1 and found["caption/finds_own_picture"].chance == 1 / 8
    generic = evaluate_caption(Teller(dict.fromkeys(RIGHT, "red")), data, judge=Oracle()).estimates
    assert generic["caption/finds_own_picture"].value == pytest.approx(1 / 8)
    with pytest.raises(InputError, match="judge: expected a dual encoder"):
        evaluate_caption(Teller(RIGHT), data, judge=object())


def test_refusals(tmp_path):
    data = dataset(tmp_path / "d", [*pairs(2), sample("broken", "red", ["red"], data=b"no")])
    with pytest.raises(InputError, match="cannot write captions"):
        evaluate_caption(object(), data)
    with pytest.raises(InputError, match="captions: expected two or more samples that have one, got 1"):
        evaluate_caption(Teller(RIGHT), data.select([0]))
    with pytest.raises(InputError, match="none of 2 samples but one could be judged: 1 image"):
        evaluate_caption(Teller(RIGHT), data.select([0, 2]))


class SceneTeller:
    """Finds the scene by its picture and says a caption of it, or of the next one."""

    def __init__(self, data, shift, which):
        samples = data.take(range(len(data)))
        self.said = {
            np.asarray(decode(one.images[0].data)).tobytes(): samples[(i + shift) % len(samples)].captions[which]
            for i, one in enumerate(samples)
        }

    def caption(self, pictures):
        return [Reply(self.said[one.tobytes()] + " Wow.") for one in pictures]


def test_captions_of_scenes_are_checked_against_the_scene():
    data = open_dataset("scenes:?n=12&size=32&objects=2-4")
    true = evaluate_caption(SceneTeller(data, 0, 4), data)
    assert true.estimates["caption/claims_right"].value == 1 and true.estimates["caption/objects_right"].value == 1
    for name in ("claims_right", "objects_right", "tuple_f1"):
        assert true.estimates[f"caption/{name}"].chance < 0.7 * true.estimates[f"caption/{name}"].value
    assert "most often: wow" in " ".join(true.notes)
    false = evaluate_caption(SceneTeller(data, 1, 4), data).estimates
    assert false["caption/claims_right"].value < 0.6 and false["caption/objects_right"].value < 0.6
    gist = evaluate_caption(SceneTeller(data, 0, 0), data).estimates
    assert gist["caption/claims_right"].value == 1 and gist["caption/objects_right"].value == 0


def test_predictions_are_scored_to_the_same_numbers(tmp_path):
    data = dataset(tmp_path / "d", pairs())
    judged = evaluate_caption(Teller({seen(n): f"a {n} thing {n}" for n in NAMES[:5]}), data, seed=3)
    file = tmp_path / "captions_results.json"
    file.write_text(json.dumps(judged.predictions.entries))
    scored = score_captions(file, str(tmp_path / "d"), seed=3)
    assert list(scored.estimates) == list(judged.estimates)
    for name, estimate in scored.estimates.items():
        np.testing.assert_equal(tuple(estimate), tuple(judged.estimates[name]))
    assert scored.notes == judged.notes
