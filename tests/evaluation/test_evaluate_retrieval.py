"""The retrieval evaluator on models that are known to be right, blind or wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from colours import COLOURS, NAMES, Blind, OffByOne, Oracle, dataset, sample

from diptych.evaluation import to_json
from diptych.evaluation.retrieve import RetrievalResult, evaluate_retrieval
from diptych.types import InputError

KEYS = {f"retrieval/{way}_{what}" for way in ("i2t", "t2i") for what in ("r@1", "r@5", "r@10", "median_rank")}


def pairs(folder: Path, captions: int = 1) -> list:
    forms = ["a {} picture", "something {}", "{} all over"]
    return [sample(name, name, [form.format(name) for form in forms[:captions]]) for name in NAMES]


def test_an_oracle_is_right(tmp_path: Path) -> None:
    result = evaluate_retrieval(Oracle(), dataset(tmp_path / "d", pairs(tmp_path, captions=2)), batch_size=3)
    assert set(result.estimates) == KEYS
    assert result.estimates["retrieval/i2t_r@1"][:1] == (1.0,) and result.estimates["retrieval/t2i_r@1"].value == 1.0
    assert result.estimates["retrieval/i2t_r@1"].n == 10 and result.estimates["retrieval/t2i_r@1"].n == 20
    assert result.estimates["retrieval/i2t_r@1"].chance == pytest.approx(2 / 20)
    assert result.estimates["retrieval/t2i_r@5"].chance == pytest.approx(5 / 10)
    assert result.estimates["retrieval/t2i_median_rank"][:4] == (1.0, 1.0, 1.0, 20)
    assert result.estimates["retrieval/t2i_median_rank"].chance == 5.5


def test_a_blind_model_is_at_chance_and_not_above(tmp_path: Path) -> None:
    result = evaluate_retrieval(Blind(), dataset(tmp_path / "d", pairs(tmp_path)))
    for k in (1, 5, 10):
        estimate = result.estimates[f"retrieval/t2i_r@{k}"]
        assert estimate.value == pytest.approx(estimate.chance) == pytest.approx(k / 10)
    assert result.estimates["retrieval/t2i_median_rank"].value == 5.5


def test_a_wrong_model_is_below_chance(tmp_path: Path) -> None:
    result = evaluate_retrieval(OffByOne(), dataset(tmp_path / "d", pairs(tmp_path)))
    assert result.estimates["retrieval/i2t_r@1"].value == 0.0
    assert (
        result.estimates["retrieval/i2t_median_rank"].value == 6.0
    )  # one is better, eight are tied with the right one


class Looks:
    """Scores each pair: an oracle, of which the first `known` colours are known; the others get 0."""

    def __init__(self, known: int = len(NAMES)) -> None:
        self.known, self.pairs = NAMES[:known], 0

    def match(self, pictures, texts):
        self.pairs += len(texts)
        colours = [NAMES[self._nearest(picture)] for picture in pictures]
        return np.array([float(c in t.split() and c in self.known) for c, t in zip(colours, texts)], np.float32)

    @staticmethod
    def _nearest(picture) -> int:
        return int(np.argmin([np.abs(picture.mean(axis=(0, 1)) - COLOURS[name]).sum() for name in NAMES]))


def test_a_shortlist_is_put_in_order_by_pairs(tmp_path: Path) -> None:
    """A wrong encoder, whose right answer is never first, is set right where it is among the candidates looked at."""
    looks, data = Looks(), dataset(tmp_path / "d", pairs(tmp_path))
    found = evaluate_retrieval(OffByOne(), data, by=looks, shortlist=10).estimates
    assert looks.pairs == 100 and found["retrieval/i2t_r@1"].value == 0.0
    assert found["retrieval/i2t_r@1_by_pairs"].value == found["retrieval/t2i_r@1_by_pairs"].value == 1.0
    looks = Looks()
    found = evaluate_retrieval(OffByOne(), data, by=looks, shortlist=1).estimates
    assert looks.pairs <= 20, "the first of each query, which is wrong, is all that is looked at"
    for way in ("i2t", "t2i"):
        assert found[f"retrieval/{way}_r@1_by_pairs"].value == 0.0
    half = evaluate_retrieval(OffByOne(), data, by=Looks(5), shortlist=10).estimates
    assert 0.5 <= half["retrieval/t2i_r@1_by_pairs"].value < 0.7  # of the others all candidates are tied


def test_what_cannot_be_judged_is_counted(tmp_path: Path) -> None:
    samples = [
        sample("mute", "red", []),
        *pairs(tmp_path)[:4],
        sample("broken", "red", ["a red thing"], data=b"no picture"),
        sample("blank", "red", ["  "]),
        *pairs(tmp_path)[4:],
    ]
    data = dataset(tmp_path / "d", samples)
    result = evaluate_retrieval(Oracle(), data)
    assert [row.id for row in result.rejected] == ["broken"]
    assert result.without_caption == 2
    assert result.left_out() == {"sample without a caption": 2, result.rejected[0].reason: 1}
    assert [data[row].id for row in result.rows] == NAMES
    assert result.estimates["retrieval/i2t_r@1"].value == 1.0


def test_the_same_words_on_two_pictures_are_right_for_both(tmp_path: Path) -> None:
    samples = [sample("a", "red", ["clip art"]), sample("b", "blue", ["clip art"]), sample("c", "green", ["green"])]
    result = evaluate_retrieval(Oracle(), dataset(tmp_path / "d", samples))
    assert result.text_ids.tolist() == [0, 0, 1]
    assert result.ranks.t2i.right.tolist() == [2, 2, 1]
    # "clip art" scores 0 with every picture: two right ones and a wrong one are tied.
    assert result.ranks.t2i.rank().tolist() == pytest.approx([4 / 3, 4 / 3, 1])


def test_best_worst_and_answers_agree_with_the_ranks(tmp_path: Path) -> None:
    samples = pairs(tmp_path)
    samples[3].captions = ["a black thing"]  # a wrong caption: it finds the black picture, and its own among the rest
    result = evaluate_retrieval(Oracle(), dataset(tmp_path / "d", samples))
    assert result.worst("t2i", 1) == [3] and result.worst("i2t", 1) == [3]
    assert 3 not in result.best("t2i", 9)
    first = result.answers("t2i", 3)[0]
    assert (first.candidate, first.score, first.right) == (4, 1.0, False)
    assert [a.candidate for a in result.answers("t2i", 3) if a.right] == [3]
    assert_places(result)


def assert_places(result: RetrievalResult) -> None:
    """The place of the first right answer lies where the counts say: behind the better ones, within the tied ones."""
    for way, side in (("i2t", result.ranks.i2t), ("t2i", result.ranks.t2i)):
        for query in range(len(side)):
            place = next(i for i, answer in enumerate(result.answers(way, query)) if answer.right)
            assert side.better[query] <= place <= side.better[query] + side.tied[query]


def test_the_seed_decides_the_intervals(tmp_path: Path) -> None:
    samples = pairs(tmp_path)
    samples[3].captions = ["a black thing"]
    data = dataset(tmp_path / "d", samples)
    one, again, other = (evaluate_retrieval(Oracle(), data, seed=seed).estimates for seed in (1, 1, 2))
    assert one == again
    assert {key: e.value for key, e in one.items()} == {key: e.value for key, e in other.items()}


def test_to_json_is_plain(tmp_path: Path) -> None:
    result = evaluate_retrieval(Oracle(), dataset(tmp_path / "d", pairs(tmp_path)))
    plain = to_json(result.estimates)["retrieval/i2t_r@10"]
    assert set(plain) == {"value", "low", "high", "n", "chance"}
    assert all(type(number) in (int, float) and math.isfinite(number) for number in plain.values())


def test_refusals(tmp_path: Path) -> None:
    data = dataset(tmp_path / "d", [sample("a", "red", [])])
    with pytest.raises(InputError, match="captions: no sample has one"):
        evaluate_retrieval(Oracle(), data)
    with pytest.raises(InputError, match="object cannot be judged by retrieval"):
        evaluate_retrieval(object(), data)
    broken = dataset(tmp_path / "e", [sample("a", "red", ["red"], data=b"nothing")])
    with pytest.raises(InputError, match="none of 1 could be read"):
        evaluate_retrieval(Oracle(), broken)


def test_rows_are_normalised_and_in_order(tmp_path: Path) -> None:
    result = evaluate_retrieval(Oracle(), dataset(tmp_path / "d", pairs(tmp_path, captions=3)), batch_size=4)
    assert result.image_of_text.tolist() == np.repeat(np.arange(10), 3).tolist()
    assert result.captions[3:6] == ["a green picture", "something green", "green all over"]
    assert result.texts.argmax(axis=1).tolist() == np.repeat(np.arange(10), 3).tolist()
    np.testing.assert_allclose(np.linalg.norm(result.images, axis=1), 1)
