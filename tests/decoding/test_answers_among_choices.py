"""Answers of a family that writes text, among choices."""

import math

import numpy as np
import pytest
import torch

from diptych.models.frozen import Frozen, FrozenConfig
from diptych.processing import ImageConfig
from diptych.towers import DecoderConfig, ViTConfig
from diptych.types import Reply

CONFIG = FrozenConfig(
    ViTConfig(image_size=16, patch_size=8, width=12, layers=1, heads=2, pooling="mean"),
    DecoderConfig(vocab_size=300, context_length=64, width=16, layers=2, heads=2, positions="rotary"),
    lm_tuning="u",
    image=ImageConfig(size=16),
)
QUESTIONS = ["which colour?", "how many?", "what is it?", ""]
CHOICES = [["Red", "red cube", "blue"], [], ["a cone", "a ball"], ["a red cube and a ball", "x"]]


@pytest.fixture(scope="module")
def model() -> Frozen:
    family = Frozen.new(CONFIG, ["a red cube and a blue ball", "two green cones", "what is this?"] * 2, seed=0).eval()
    with torch.no_grad():
        for weight in family.lm.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)
    return family


@pytest.fixture(scope="module")
def pictures() -> list[list[np.ndarray]]:
    draw = np.random.default_rng(0)
    return [[draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)] for _ in QUESTIONS]


@torch.no_grad()
def likelihood(model: Frozen, picture: list[np.ndarray], question: str, choice: str) -> float:
    """ln p of the tokens that training asks for, token by token, nothing else in the batch."""
    words = model.processor.text
    tokens, _, wanted = words.answers([question], [choice])
    count = int(wanted.sum())
    source = model.read([picture], [tokens[0][:-count].tolist()])
    total = 0.0
    for token in tokens[0][-count:]:
        total += float(source.logits().log_softmax(-1)[0, token])
        source.advance(token[None])
    return total


def test_the_likeliest_choice_and_its_share(model: Frozen, pictures: list[list[np.ndarray]]) -> None:
    replies = model.answer(pictures, QUESTIONS, CHOICES)
    for reply, picture, question, some in zip(replies, pictures, QUESTIONS, CHOICES):
        assert isinstance(reply, Reply)
        if some:
            shares = [math.exp(likelihood(model, picture, question, choice)) for choice in some]
            assert reply.text == some[int(np.argmax(shares))]
            assert reply.confidence == pytest.approx(max(shares) / sum(shares), rel=1e-3)
    own = model.answer(pictures, QUESTIONS)[1]  # no choices: own words; rounding depends on the batch
    assert replies[1].text == own.text and replies[1].confidence == pytest.approx(own.confidence, rel=1e-5)


def test_no_choices_at_all(model: Frozen, pictures: list[list[np.ndarray]]) -> None:
    own = model.answer(pictures, QUESTIONS)
    assert model.answer(pictures, QUESTIONS, [[]] * 4) == own
    assert model.answer(pictures, QUESTIONS, []) == own


def test_a_very_unlikely_choice_is_no_trouble(model: Frozen, pictures: list[list[np.ndarray]]) -> None:
    long = "zq " * 10  # its likelihood is below what a float can hold beside the other's
    reply = model.answer(pictures[:1], ["what?"], [[long + "a", long + "b"]])[0]
    assert isinstance(reply, Reply) and reply.confidence is not None and 0.5 <= reply.confidence <= 1


def test_one_choice_is_sure(model: Frozen, pictures: list[list[np.ndarray]]) -> None:
    assert model.answer(pictures[:1], ["what?"], [["a Cat"]]) == [Reply("a Cat", 1.0)]


def test_choices_beside_a_question_that_is_turned_down(model: Frozen, pictures: list[list[np.ndarray]]) -> None:
    replies = model.answer([[], pictures[1]], ["a?", "b?"], [["x"], ["y"]])
    assert not isinstance(replies[0], Reply) and replies[1] == Reply("y", 1.0)
