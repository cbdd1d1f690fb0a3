"""The bias report on data whose bias is known."""

import json
import math

import numpy as np
import pytest

from diptych.cli import main
from diptych.data import open_dataset
from diptych.data.curate import predicting
from diptych.data.curate.bias import associations, bag_of, bias_report, distribution, wilson
from diptych.data.curate.predicting import predict
from diptych.data.writer import DatasetWriter
from diptych.types import InputError, Object, Question, Sample

COLOURS, SHAPES = ["red", "blue", "green", "grey"], ["cube", "ball", "cone"]


def test_distribution_by_hand():
    found = distribution(bag_of("tags", [["a", "b"], ["a", "a"], [], ["a"], ["c", ""], None, ["b", None]]))
    assert (found.units, found.counts, found.once) == (5, {"a": 3, "b": 2, "c": 1}, 1)
    # Gini of 1, 2, 3: mean absolute difference (8 / 9) over twice the mean (4)
    assert found.gini == pytest.approx(2 / 9)
    assert found.effective == pytest.approx(math.exp(-sum(p * math.log(p) for p in (3 / 6, 2 / 6, 1 / 6))))
    even = distribution(bag_of("tags", [["a"], ["b"], ["c"]]))
    assert (even.gini, even.effective) == (pytest.approx(0), pytest.approx(3))


def test_an_association_by_hand():
    lists = [["x", "y"]] * 30 + [["x"]] * 10 + [["y"]] * 20 + [["z"]] * 40
    (pair, *_) = associations([bag_of("tags", lists)], "sample")
    assert (pair.first, pair.second, pair.together, pair.expected) == ("tags: x", "tags: y", 30, 20.0)
    assert (pair.share, pair.base) == (0.75, 0.5)
    assert pair.npmi == pytest.approx(math.log(30 * 100 / (40 * 50)) / -math.log(0.3))
    table = [(30, 20), (10, 20), (20, 30), (40, 30)]
    assert pair.evidence == pytest.approx(2 * sum(seen * math.log(seen / chance) for seen, chance in table))
    # Wilson's interval for 30 of 40, as printed in textbooks' tables
    assert (pair.low, pair.high) == (pytest.approx(0.5981, abs=1e-4), pytest.approx(0.8581, abs=1e-4))
    assert wilson(0, 10)[1] == 0 and wilson(10, 10)[2] == 1


def test_independent_concepts_are_not_called_associated():
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        lists = [[f"{letter}{rng.integers(4)}" for letter in "abcdef"] for _ in range(800)]
        bags = [bag_of(f"kind {i}", [[row[i]] for row in lists]) for i in range(6)]
        alarms += sum(pair.first.split(":")[0] != pair.second.split(":")[0] for pair in associations(bags, "sample"))
    assert alarms <= 4, "about one alarm in twenty sets is allowed"


def test_names_that_say_the_same_are_no_association():
    lists = [["dog", "dogs", "big dog"]] * 30 + [["cat"]] * 30
    bags = [bag_of("tags", lists), bag_of("labels", [[row[0]] for row in lists])]
    pairs = {(pair.first, pair.second) for pair in associations(bags, "sample") if pair.npmi > 0}
    assert not any("dog" in first and "dog" in second for first, second in pairs)


@pytest.fixture
def biased(tmp_path):
    """600 samples: a cube is red nine times of ten and never green; the caption names the label only in capitals."""
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "biased") as writer:
        for i in range(600):
            things = []
            for shape in rng.choice(SHAPES, 2):
                colour = rng.choice(COLOURS)
                if shape == "cube":
                    colour = "red" if rng.random() < 0.9 else "blue"
                things.append(Object(str(shape), attributes=[str(colour), "small" if rng.random() < 0.5 else "large"]))
            label = ["indoors", "outdoors"][int(rng.random() < 0.3)]
            words = " ".join(rng.choice(["tall", "old", "new", "near", "far"], 3))
            caption = f"{words} {'ROOF' if label == 'indoors' else 'sky'} {i}"
            answer = "yes" if rng.random() < 0.5 else "no"
            asked = [Question("Is it so?", [answer, answer, "no"], "exists"), Question("How many?", ["2"], "count")]
            sample = Sample(str(i), [], [caption], label, ["tag"], things, questions=asked)
            writer.write(sample)
    return open_dataset(tmp_path / "biased")


def test_a_planted_bias_is_found_and_nothing_else(biased):
    found = bias_report(biased)
    assert found.samples == 600
    assert [d.kind for d in found.distributions] == ["labels", "tags", "captions", "objects", "attributes"]
    assert found.distributions[3].units == 1200 and set(found.distributions[3].counts) == set(SHAPES)
    within = [pair for pair in found.together if pair.within == "object"]
    top = within[0]
    assert (top.first, top.second) == ("objects: cube", "attributes: red")
    assert top.low <= 0.9 <= top.high and 0.4 < top.base < 0.55
    assert not any("small" in pair.first + pair.second for pair in within)
    assert {("attributes: green", "objects: cube")} <= {(pair.first, pair.second) for pair in found.apart}
    never = next(pair for pair in found.apart if pair.first == "attributes: green")
    assert (never.together, never.npmi, never.share) == (0, -1.0, 0.0)
    across = {(pair.first, pair.second) for pair in found.together if pair.within == "sample"}
    assert ("captions: roof", "labels: indoors") in across or ("labels: indoors", "captions: roof") in across


def test_a_caption_that_names_the_label_tells_it(biased):
    told = bias_report(biased).prediction
    assert told is not None and told.target == "label"
    assert told.accuracy.value == 1.0 and told.accuracy.low > 0.99 and told.accuracy.n == 600
    assert told.accuracy.chance == max(told.classes.values()) / 600
    assert told.telling["indoors"][0] == ("roof", told.classes["indoors"], told.classes["indoors"])


def test_answers_are_told_no_better_than_their_kind_allows(biased):
    told = bias_report(biased, target="answer").prediction
    assert told is not None and told.accuracy.n == 1200 and set(told.classes) == {"2", "no", "yes"}
    majority = max(told.classes["no"], told.classes["yes"])
    assert told.accuracy.chance == (600 + majority) / 1200
    assert told.accuracy.low <= told.accuracy.chance <= told.accuracy.high + 0.02


def test_concepts_may_be_given(biased):
    found = bias_report(biased, entries=["sky", "near far", "roof"])
    captions = next(d for d in found.distributions if d.kind == "captions")
    assert set(captions.counts) == {"sky", "near far", "roof"}


def test_texts_that_say_nothing_tell_nothing_and_repeats_are_no_knowledge():
    rng = np.random.default_rng(0)
    values = rng.choice(["a", "b"], 1000, p=[0.6, 0.4]).tolist()
    noise = [" ".join(rng.choice(["x", "y", "z", "w"], 3)) for _ in values]
    told = predict(noise, values, "label")
    assert told is not None and told.accuracy.low < 0.6 < told.accuracy.high + 0.05
    # 50 names, each always of one class: known once seen, unknown when new
    names = [f"name{i % 50}" for i in range(1000)]
    classes = rng.permutation(["a", "b"] * 25).tolist()
    told = predict(names, [classes[i % 50] for i in range(1000)], "label")
    assert told is not None and told.accuracy.value == 1.0
    assert told.of_new_texts.low < 0.5 < told.of_new_texts.high
    assert told.of_new_texts.high - told.of_new_texts.low > 0.15, "a thousand rows are fifty observations"


def test_many_classes_and_words_take_bounded_memory(monkeypatch):
    """The commonest words are kept; in whatever parts texts are scored, the result is the same."""
    rng = np.random.default_rng(0)
    values = [f"class {i % 30}" for i in range(900)]
    texts = [
        f"{value.replace(' ', '')} {' '.join(f'w{k}' for k in rng.integers(0, 400, i % 5))}"
        for i, value in enumerate(values)
    ]
    plain = predict(texts, values, "label")
    monkeypatch.setattr(predicting, "_SCORES", 30 * 7)
    assert predict(texts, values, "label") == plain and plain.accuracy.value == 1
    monkeypatch.setattr(predicting, "_CELLS", 30 * 20)
    few = predict(texts, values, "label")
    assert 0.3 < few.accuracy.value < 0.8, "20 of the words are kept, all of them among those that tell"


def test_one_class_or_rare_ones_cannot_be_told():
    assert predict([], [], "label") is None
    assert predict(["a"] * 20, ["x"] * 20, "label") is None
    assert predict(["a"] * 21, ["x"] * 20 + ["y"], "label") is None
    told = predict(["a"] * 12 + ["b"] * 12 + ["c"], ["x"] * 12 + ["y"] * 12 + ["z"], "label")
    assert told is not None and (told.left_out, told.classes) == (1, {"x": 12, "y": 12})


def test_unknown_fields_are_refused_and_empty_sets_reported(biased, tmp_path):
    with pytest.raises(InputError, match="target: expected a field of one text, .*; got captions"):
        bias_report(biased, target="captions")
    with pytest.raises(InputError, match="no field 'labels'"):
        bias_report(biased, target="labels")
    with DatasetWriter(tmp_path / "empty") as writer:
        writer.write(Sample("a"))
    found = bias_report(open_dataset(tmp_path / "empty"))
    assert (found.samples, found.distributions, found.together, found.prediction) == (1, [], [], None)


def test_the_verb_prints_and_writes(biased, tmp_path, capsys):
    page = tmp_path / "bias.html"
    assert main(["data", "bias", str(biased.folder), "--html", str(page)]) == 0
    said = capsys.readouterr().out
    for words in ("objects: cube", "keep apart", "Text alone tells it", "100.0 %", "roof ("):
        assert words in said
    assert "Words that give it away" in page.read_text() and "attributes: red" in page.read_text()
    assert main(["data", "bias", str(biased.folder), "--target", "answer", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["prediction"]["target"] == "answer" and facts["together"][0]["evidence"] > 100
    listed = tmp_path / "concepts.txt"
    listed.write_text("sky\n")
    assert main(["data", "bias", str(biased.folder), "--concepts", str(listed)]) == 0
    assert main(["data", "bias", str(biased.folder), "--concepts", str(tmp_path / "none")]) == 2


def test_clipart_is_told_by_its_stamps():
    found = bias_report(open_dataset("clipart"))
    told = found.prediction
    assert told is not None and told.accuracy.value > 0.6 > told.of_new_texts.value
    assert ("gramastar", 1375, 1375) in told.telling["shapes"]
    assert any({"captions: gramastar", "labels: shapes"} == {pair.first, pair.second} for pair in found.together)
