"""Durations and the learning rate by hand."""

import math

import pytest

from diptych.config import override, parse
from diptych.training.budget import Budget, budget, rate
from diptych.training.config import TrainConfig
from diptych.types import InputError


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"epochs": 3}, 30),
        ({"epochs": 0.25}, 3),
        ({"steps": 7}, 7),
        ({"samples": 100}, 13),
        ({"epochs": 3, "steps": 12, "samples": 1000}, 12),
    ],
)
def test_every_unit_becomes_steps(given, steps):
    assert budget(TrainConfig(**given), batch_size=8, batches_per_epoch=10) == Budget(steps=steps)


def test_minutes_become_seconds_and_may_cap_steps():
    both = budget(TrainConfig(epochs=1, minutes=0.5), 8, 10)
    assert both == Budget(steps=10, seconds=30.0)
    assert both.progress(5, 0) == 0.5
    assert both.progress(5, 27) == 0.9
    assert not both.done(9, 29.9)
    assert both.done(10, 0)
    assert both.done(0, 30)
    assert str(both) == "10 steps or 0.5 minutes"


def test_a_run_without_end_or_data_is_refused():
    with pytest.raises(InputError, match="one of epochs, steps, samples or minutes"):
        budget(TrainConfig(), 8, 10)
    with pytest.raises(InputError, match="at least one full batch of 8 samples"):
        budget(TrainConfig(steps=1), 8, 0)


def test_the_rate_rises_linearly_and_falls_by_a_cosine():
    assert rate(0.0, 0.2) == 0.0
    assert rate(0.05, 0.2) == pytest.approx(0.25)
    assert rate(0.2, 0.2) == 1.0
    assert rate(0.6, 0.2) == pytest.approx(0.5)  # half of the way down
    assert rate(0.4, 0.2) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert rate(1.0, 0.2) == pytest.approx(0.0)
    assert rate(0.0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("epochs", -1.0),
        ("warmup", 1.0),
        ("ema", 1.0),
        ("betas", (0.9, 1.0)),
        ("groups", (("x", -0.1),)),
        ("log_every", 0),
        ("lr", -1.0),
        ("clip", 0.0),
    ],
)
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(InputError, match=f"training config: {field}: expected"):
        TrainConfig(**{field: value})


def test_the_config_reads_from_plain_data_and_the_command_line():
    config = parse(TrainConfig, {"steps": 5, "groups": [["visual", None], ["bias", 0.1]]})
    assert config.groups == (("visual", None), ("bias", 0.1))
    assert override(config, {"groups": '[["text", 0.5]]', "lr": "1e-4"}) == TrainConfig(
        steps=5, groups=(("text", 0.5),), lr=1e-4
    )
    with pytest.raises(InputError, match="unknown key"):
        parse(TrainConfig, {"step": 5})
    with pytest.raises(InputError, match="precision"):
        parse(TrainConfig, {"precision": "fp16"})
    with pytest.raises(InputError, match="warmup: expected"):
        parse(TrainConfig, {"warmup": 3})
