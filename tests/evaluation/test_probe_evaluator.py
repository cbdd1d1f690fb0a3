"""The linear probe as a task: an encoder that knows, one that does not, what has no class."""

import pytest
from colours import NAMES, Blind, Oracle, dataset, sample

from diptych.evaluation.probe import evaluate_probe
from diptych.types import InputError, Object


def labelled(folder, times=20, colours=3, **more):
    rows = [
        sample(f"{name}{i}", name, [f"a {name} thing"], label=name) for name in NAMES[:colours] for i in range(times)
    ]
    return dataset(folder, [*rows, *more.get("others", [])])


def test_an_oracle_is_told_apart_and_a_blind_model_is_not(tmp_path):
    data = labelled(
        tmp_path / "d", others=[sample("none", "red", ["x"]), sample("bad", "red", ["y"], "red", b"broken")]
    )
    judged = evaluate_probe(Oracle(), data)
    for side in ("image", "text"):
        found = judged.estimates[f"probe/{side}"]
        assert found.value == 1.0 and found.chance < 0.7 and found.n in (30, 31)
    assert judged.left_out()["sample without a class"] == 1 and len(judged.rejected) == 1
    blind = evaluate_probe(Blind(), data).estimates["probe/image"]
    assert blind.value == pytest.approx(blind.chance)


def test_the_only_object_is_the_class(tmp_path):
    rows = []
    for i, name in enumerate(NAMES[:2] * 20):
        one = sample(str(i), name, [])
        one.objects = [Object(name)]
        rows.append(one)
    judged = evaluate_probe(Oracle(), dataset(tmp_path / "d", rows))
    assert set(judged.estimates) == {"probe/image"} and judged.estimates["probe/image"].value == 1.0


def test_one_class_is_not_enough(tmp_path):
    with pytest.raises(InputError, match="two classes"):
        evaluate_probe(Oracle(), labelled(tmp_path / "d", colours=1))
    with pytest.raises(InputError, match="encodes neither"):
        evaluate_probe(object(), labelled(tmp_path / "e"))
