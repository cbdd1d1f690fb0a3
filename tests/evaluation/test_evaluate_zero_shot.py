"""The zero-shot evaluator on models that are known to be right, blind or wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from colours import NAMES, Blind, OffByOne, Oracle, dataset, sample

from diptych.evaluation.zero_shot import evaluate_zero_shot
from diptych.types import InputError, Sample


def labelled() -> list[Sample]:
    return [sample(f"{name}{i}", name, [], label=name) for name in NAMES for i in range(3)]


def test_an_oracle_is_right(tmp_path: Path) -> None:
    result = evaluate_zero_shot(Oracle(), dataset(tmp_path / "d", labelled()))
    assert set(result.estimates) == {"zero_shot/top1", "zero_shot/top5", "zero_shot/mean_per_class"}
    for name, chance in (("top1", 0.1), ("top5", 0.5), ("mean_per_class", 0.1)):
        estimate = result.estimates[f"zero_shot/{name}"]
        assert (estimate.value, estimate.n) == (1.0, 30) and estimate.chance == pytest.approx(chance)
    assert result.labels == sorted(NAMES)
    np.testing.assert_array_equal(result.confusion, 3 * np.eye(10, dtype=int))


def test_a_blind_model_is_at_chance(tmp_path: Path) -> None:
    result = evaluate_zero_shot(Blind(), dataset(tmp_path / "d", labelled()))
    assert result.estimates["zero_shot/top1"].value == pytest.approx(0.1)
    assert result.estimates["zero_shot/top5"].value == pytest.approx(0.5)
    assert result.estimates["zero_shot/mean_per_class"].value == pytest.approx(0.1)


@pytest.mark.parametrize("model", [Blind, Oracle, OffByOne])
def test_estimates_are_means_of_the_values(tmp_path: Path, model: type) -> None:
    samples = [*labelled(), *(sample(f"more{i}", sorted(NAMES)[0], [], label=sorted(NAMES)[0]) for i in range(20))]
    result = evaluate_zero_shot(model(), dataset(tmp_path / "d", samples))
    for name in ("zero_shot/top1", "zero_shot/top5"):
        assert result.values[name].numbers.mean() == pytest.approx(result.estimates[name].value)


def test_a_wrong_model_fills_the_confusion_matrix_off_the_diagonal(tmp_path: Path) -> None:
    result = evaluate_zero_shot(OffByOne(), dataset(tmp_path / "d", labelled()))
    assert result.estimates["zero_shot/top1"].value == 0.0
    blue, green = result.labels.index("blue"), result.labels.index("green")
    assert result.confusion[blue, green] == 3 and np.trace(result.confusion) == 0


def test_rare_classes_count_as_much_in_the_mean_over_classes(tmp_path: Path) -> None:
    samples = [sample(f"r{i}", "red", [], label="red") for i in range(9)]
    samples.append(sample("g", "blue", [], label="green"))  # the only green one is not green
    result = evaluate_zero_shot(Oracle(), dataset(tmp_path / "d", samples), labels=["red", "green", "blue"])
    assert result.estimates["zero_shot/top1"].value == pytest.approx(0.9)
    assert result.estimates["zero_shot/mean_per_class"].value == pytest.approx(0.5)
    assert result.estimates["zero_shot/mean_per_class"].chance == pytest.approx(1 / 3)


def test_prompts_are_averaged_and_compared_with_one(tmp_path: Path) -> None:
    model = Oracle()  # but it takes a bare name for the next colour
    plain = model.processor.colour_of
    model.processor.colour_of = lambda text: plain(text) if len(text.split()) > 2 else (plain(text) + 1) % len(NAMES)
    data = dataset(tmp_path / "d", labelled())
    result = evaluate_zero_shot(model, data, templates=["{}", "a picture in {}", "something of {}"])
    assert result.one_prompt["zero_shot/top1"].value == 0.0
    assert result.estimates["zero_shot/top1"].value == 1.0
    assert result.gain.estimate.value == 1.0 and result.gain.p < 0.001
    assert result.templates == 3


def test_what_cannot_be_judged_is_counted(tmp_path: Path) -> None:
    samples = [sample("bare", "red", []), *labelled(), sample("broken", "red", [], label="red", data=b"no picture")]
    result = evaluate_zero_shot(Oracle(), dataset(tmp_path / "d", samples))
    assert result.without_label == 1 and [row.id for row in result.rejected] == ["broken"]
    assert result.rows == list(range(1, 31))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="label: no sample has one"):
        evaluate_zero_shot(Oracle(), dataset(tmp_path / "d", [sample("a", "red", ["red"])]))
    with pytest.raises(InputError, match="'red' is not among the 1 given labels"):
        evaluate_zero_shot(Oracle(), dataset(tmp_path / "e", [sample("a", "red", [], label="red")]), labels=["blue"])
    with pytest.raises(InputError, match="object cannot classify"):
        evaluate_zero_shot(object(), dataset(tmp_path / "f", [sample("a", "red", [], label="red")]))
