"""A language model on texts alone: packing, the contrastive loss, completions, and its folder as an address."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import diptych
from diptych import models
from diptych.blocks import masks
from diptych.models.lm import LM, LMConfig
from diptych.objectives.language import contrastive_search_loss
from diptych.objectives.packing import pack
from diptych.towers import DecoderConfig, build_language, load_language
from diptych.training.config import TrainConfig
from diptych.training.step import Stepper
from diptych.types import Batch

TEXTS = ["a red cube", "a blue ball behind a green cone and a red cube", "two balls", "a cone left of a ball", "one"]
SMALL = DecoderConfig(vocab_size=300, context_length=64, width=48, layers=2, heads=4, positions="rotary")


def model(**changes: Any) -> LM:
    return LM.new(LMConfig(lm=SMALL, **changes), TEXTS * 4)


def batch(lm: LM, texts: list[str] = TEXTS) -> Batch:
    assert lm.processor is not None
    return lm.processor.collate([str(i) for i in range(len(texts))], None, texts)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@torch.no_grad()
def test_packed_texts_are_what_each_is_alone(positions: Any) -> None:
    torch.manual_seed(0)
    lm = build_language(
        DecoderConfig(vocab_size=90, context_length=32, width=32, layers=2, heads=4, positions=positions)
    ).eval()
    lengths = torch.tensor([3, 9, 2, 5, 7, 1])
    tokens, keep = torch.randint(0, 90, (6, 9)), torch.arange(9) < lengths[:, None]
    packed = pack(tokens, keep, length=14)
    assert packed.shared and packed.tokens.shape == (2, 14)
    together = lm(lm.embed(packed.tokens), mask=masks.blocks(packed.text), positions=packed.positions)
    apart = lm(lm.embed(tokens))
    for text, length in enumerate(lengths.tolist()):
        own = packed.text == text
        assert packed.tokens[own].tolist() == tokens[text, :length].tolist()
        assert packed.target_mask[own].tolist() == [False] + [True] * (length - 1)
        torch.testing.assert_close(together[own], apart[text, :length], rtol=0, atol=1e-5)


def test_targets_are_packed_with_their_texts() -> None:
    tokens, keep = torch.arange(12).view(3, 4), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    wanted = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]]).bool()
    packed = pack(tokens, keep, wanted)
    assert packed.tokens.tolist() == [[4, 5, 6, 7], [0, 1, 8, 9]] and packed.positions[1].tolist() == [0, 1, 0, 1]
    assert packed.target_mask.tolist() == [[False, False, True, True], [False, True, False, True]]
    alone = pack(tokens, torch.ones(3, 4, dtype=torch.bool))
    assert not alone.shared and torch.equal(alone.tokens, tokens)


def test_the_loss_is_the_mean_over_all_tokens_however_they_are_packed() -> None:
    lm = model().eval()
    some = batch(lm)
    assert some.tokens is not None and some.token_mask is not None and some.pixels is None
    losses = lm(some)
    assert losses.stats["packed_rows"] < len(TEXTS)
    logits = lm.lm.logits(lm.lm(lm.lm.embed(some.tokens)))[:, :-1][some.token_mask[:, 1:]]
    plain = F.cross_entropy(logits, some.tokens[:, 1:][some.token_mask[:, 1:]])
    torch.testing.assert_close(losses.total, plain, rtol=1e-5, atol=0)
    assert abs(losses.total.item() - math.log(lm.lm.vocab_size)) < 0.2
    first = torch.autograd.grad(losses.total, list(lm.parameters()))
    for a, b in zip(first, torch.autograd.grad(plain, list(lm.parameters()))):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_contrastive_loss_by_hand() -> None:
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [1.0, 0.0], [5.0, 0.0], [9.0, 9.0]]])
    text = torch.tensor([[0, 0, 0, 1, 1, -1]])
    half = 0.5 - 1 + math.sqrt(0.5)  # two of three pairs of the first text; the third is apart enough
    expected = (2 * half / 3 + 0.5) / 2  # the second text's tokens are alike: the whole margin
    assert contrastive_search_loss(hidden, text).item() == pytest.approx(expected, rel=1e-6)
    assert contrastive_search_loss(hidden, torch.full_like(text, -1)).item() == 0
    lm = model(contrastive=1.0)
    losses = lm(batch(lm))
    assert losses.total.item() == pytest.approx(sum(part.item() for part in losses.parts.values()), rel=1e-6)


def test_learns_its_texts_and_completes_them_alone_or_together() -> None:
    lm = model(contrastive=0.1)
    optimiser = torch.optim.AdamW(lm.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        losses = lm(batch(lm))
        losses.total.backward()
        optimiser.step()
    assert losses.parts["loss/lm"] < 0.5  # the first word of five texts stays open: ln 4 over some five tokens
    lm.eval()
    replies = lm.complete(["a blue", "two", "a cone left"])
    assert [reply.text for reply in replies] == ["ball behind a green cone and a red cube", "balls", "of a ball"]
    assert [lm.complete([start])[0].text for start in ("a blue", "two")] == [reply.text for reply in replies[:2]]
    assert lm.complete([]) == [] and lm.complete([""])[0].text


def test_a_saved_model_is_an_address(tmp_path: Path) -> None:
    lm = model().eval()
    models.save(lm, tmp_path / "own")
    again = diptych.load(tmp_path / "own")
    assert torch.equal(again(batch(lm)).total, lm(batch(lm)).total)
    found = load_language(tmp_path / "own")
    assert (found.config, found.bos, found.eos, found.max_length) == (lm.config.lm, "<bos>", "<eos>", 64)
    started = LM.new(LMConfig(lm_address=str(tmp_path / "own"), context_length=32)).eval()
    assert started.processor is not None and started.processor.text.context_length == 32
    assert torch.equal(started(batch(lm)).total, lm(batch(lm)).total)


def test_micro_batches_give_the_step_of_the_whole() -> None:
    texts = ["a red cube", "a cube", "a red cube and a red ball", "ball"]
    gradients = []
    for micro in (None, 2):
        lm = model()
        config = TrainConfig(epochs=1, micro_batch=micro, precision="fp32")
        Stepper(lm, config, torch.device("cpu"))(batch(lm, texts), 0, [4])
        gradients.append([parameter.grad for parameter in lm.parameters()])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_trains_on_texts_without_pictures(tmp_path: Path) -> None:
    overrides = {"training.steps": "3", "loader.batch_size": "8", "training.precision": "fp32"}
    recipe = diptych.recipe("lm", overrides=overrides)
    trained = diptych.train(recipe, "scenes:?n=24&size=64", tmp_path / "run", show="silent")
    assert load_language(tmp_path / "run").config == trained.model.config.lm
    assert "lm" in (trained.folder / "README.md").read_text()
