"""Each sign that nothing is learnt is said once, when it is there and not when it is not."""

import math

import pytest
import torch

from diptych.training.watch import NonFiniteLoss, Watch, duplicate_share

LN = math.log(128)
WELL = {"loss/itc": 0.5 * LN, "chance/loss/itc": LN, "grad_norm": 1.0, "duplicate_captions": 0.0, "skipped": 0.0}


def said(lines, warmup=0.1, start=0, steps=100):
    """The warnings of log lines at `start + 1, start + 2, ...` of `steps`, by step; "end" for those at the end."""
    watch, found = Watch(warmup), {}
    for step, values in enumerate(lines, start + 1):
        if new := watch.look(step, step / steps, WELL | values):
            found[step] = new
    if new := watch.end(step, WELL | lines[-1]):
        found["end"] = new
    assert watch.warnings == [sentence for new in found.values() for sentence in new]
    return found


def test_a_run_that_learns_is_left_alone():
    assert said([{"loss/itc": LN * max(0.1, 1 - step / 50)} for step in range(100)]) == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"loss/itc": 0.985 * LN}, "nothing is learnt: loss/itc is 4.779, and guessing gives 4.852"),
        ({"loss/itc": 1.5 * LN}, "nothing is learnt"),
        ({"logit_scale_at_clamp": 1.0}, "the temperature sits at its clamp"),
        ({"duplicate_captions": 0.25}, "25% of the captions in a batch repeat"),
        ({"grad_norm": 0.0}, "the gradient is zero"),
        ({"skipped": 0.75}, "75% of the steps are skipped"),
    ],
)
def test_every_sign_is_said_once_after_it_has_stayed(values, words):
    found = said([values] * 60)
    assert list(found) == [16]  # warm-up ends with step 10; then five lines that span 5 % of the run
    assert len(found[16]) == 1
    assert words in found[16][0]
    assert found[16][0].startswith("Step 16: ")


@pytest.mark.parametrize(
    "values", [{"loss/itc": 0.975 * LN}, {"logit_scale_at_clamp": 0.3}, {"duplicate_captions": 0.01}, {"skipped": 0.2}]
)
def test_what_is_near_a_sign_is_none(values):
    assert said([values] * 60) == {}


def test_a_sign_in_warm_up_or_for_a_moment_is_none():
    assert said([{"loss/itc": LN}] * 10 + [{}] * 50) == {}
    assert said(([{"loss/itc": LN}] * 4 + [{}]) * 12) == {}


def test_a_loss_without_chance_level_is_not_judged():
    watch = Watch(0.0)
    for step in range(1, 50):
        assert watch.look(step, step / 50, {"loss/lm": 9.0}) == []


def test_a_short_run_is_judged_at_its_end():
    found = said([{"loss/itc": LN}] * 3, steps=3)
    assert list(found) == ["end"]
    assert "nothing is learnt" in found["end"][0]
    assert said([{"loss/itc": LN}, {}, {"loss/itc": LN}], steps=3) == {}


def test_a_late_start_is_said_too():
    found = said([{"loss/itc": LN}] * 30 + [{"loss/itc": 0.96 * LN}] * 5 + [{"loss/itc": 0.9 * LN}] * 30)
    assert list(found) == [16, 36]
    assert found[36] == ["Step 36: loss/itc has left its chance level after all."]


def test_an_interruption_changes_nothing():
    lines = [{"loss/itc": LN}] * 30 + [{}] * 20
    watch, found = Watch(0.1), []
    for step, values in enumerate(lines, 1):
        found += watch.look(step, step / 100, WELL | values)
        copy = Watch(0.1)
        copy.load(watch.state())
        watch = copy
    assert found == watch.warnings == [s for new in said(lines).values() for s in new]


def test_repeated_captions_are_counted():
    tokens = torch.tensor([[1, 2, 0], [1, 2, 0], [1, 2, 3], [1, 2, 0]])
    assert duplicate_share(tokens) == 0.5
    assert duplicate_share(tokens[1:3]) == 0.0


def test_the_sentence_of_a_loss_that_is_not_finite():
    assert "the samples behind it: a, b" in str(NonFiniteLoss(7, ["a", "b"], 8, "last checkpoint: none"))
    assert "the weights have diverged" in str(NonFiniteLoss(7, ["a", "b"], 2, "last checkpoint: none"))
    assert "no single sample is to blame" in str(NonFiniteLoss(7, [], 8, "last checkpoint: none"))
