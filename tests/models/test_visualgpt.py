"""VisualGPT: what its loss is, who sees what, how it writes, what of it is saved, and that it learns from pictures."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
import transformers as hf
from tiny_hf import IDS, WORDS, save_model, save_tokenizer

import diptych
from diptych import models
from diptych.blocks.srau import MeshedSRAU
from diptych.capabilities import AnswersQuestions, WritesCaptions
from diptych.data.loader import Loader
from diptych.decoding import write
from diptych.models.visualgpt import PRESETS, VisualGPT, VisualGPTConfig
from diptych.processing import ImageConfig
from diptych.towers import DecoderConfig, EfficientNetConfig, HFLanguageConfig, ResNetConfig, load_language
from diptych.training.config import TrainConfig
from diptych.training.step import Stepper
from diptych.types import Batch, InputError

CONFIG = VisualGPTConfig(
    vision=ResNetConfig(depths=(1, 1), stem_width=32, block="basic"),
    lm=DecoderConfig(vocab_size=400, context_length=64, width=64, layers=2, heads=4, positions="rotary"),
    image=ImageConfig(size=32),
    cross="srau-code",
)
CROSSES = ("srau", "srau-code", "plain", "aoa")
LEARNT = 60  # steps


@pytest.fixture(scope="module")
def world():
    return diptych.open_dataset("scenes:?n=64&size=32&objects=1&detail=4")


@pytest.fixture(scope="module")
def texts(world):
    return [caption for captions in world.column("captions") for caption in captions]


def new(texts, **changes):
    return VisualGPT.new(dataclasses.replace(CONFIG, **changes), texts, seed=0)


def batch_of(world, model, size=64, texts="captions"):
    return next(Loader(world, model.processor, size, shuffle=False, drop_last=True, texts=texts).epoch(0))


def train(model, batch, steps, lr=4e-3):
    optimizer = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.98))
    model.train()
    for _ in range(steps):
        losses = model(batch)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return losses


@pytest.fixture(scope="module")
def learnt(world, texts):
    """A model that has seen 64 scenes many times, its batch and its last losses."""
    model = new(texts)
    batch = batch_of(world, model)
    losses = train(model, batch, LEARNT)
    return model.eval(), batch, losses


@pytest.mark.parametrize("cross", CROSSES)
def test_the_loss_starts_at_chance_and_is_that_of_its_logits(world, texts, cross):
    model = new(texts, cross=cross).eval()
    batch = batch_of(world, model, 8, "questions")
    with torch.no_grad():
        losses = model(batch)
    assert losses.chance["loss/lm"] == math.log(model.processor.text.vocab_size)
    assert abs(float(losses.total) - losses.chance["loss/lm"]) < 0.3
    log_probs = model.lm.logits(model.states(batch)).log_softmax(-1)
    picked = log_probs[:, :-1].gather(2, batch.tokens[:, 1:, None])[..., 0]
    assert float(losses.total) == pytest.approx(float(-picked[batch.target_mask[:, 1:]].detach().mean()), abs=1e-5)
    assert losses.stats == {}, "gates are watched in training only"


@pytest.mark.parametrize("cross", CROSSES)
def test_a_token_sees_what_came_before_it_and_the_whole_picture(world, texts, cross):
    model = new(texts, cross=cross).eval()
    batch = batch_of(world, model, 2)
    states = model.states(batch)
    later = dataclasses.replace(batch, tokens=batch.tokens.clone())
    later.tokens[:, 5:] = 9
    changed = (model.states(later) != states).any(dim=2)
    assert not changed[:, :5].any() and changed[:, 5].all()
    painted = dataclasses.replace(batch, pixels=batch.pixels.clone())
    painted.pixels[0, :, -8:, -8:] = 255  # one corner of the first picture
    changed = (model.states(painted) != states).any(dim=2)
    assert changed[0].all() and not changed[1].any()


@pytest.mark.parametrize("cross", CROSSES)
def test_written_with_a_cache_is_what_the_whole_text_gives(world, texts, cross):
    model = new(texts, cross=cross).eval()
    pictures = [np.asarray(picture) for picture in batch_of(world, model, 3).pixels.permute(0, 2, 3, 1)]
    prompts = model.processor.text.prompts(["", "What is there?", "What colour is the cube?"])
    written = write(model.read([[picture] for picture in pictures], prompts), end=-1, most=6)
    with torch.no_grad():
        for picture, prompt, text in zip(pictures, prompts, written):
            pixels = torch.from_numpy(picture).permute(2, 0, 1)[None]
            ids = list(prompt)
            for token, log_prob in zip(text.tokens, text.log_probs):
                hidden = model.states(Batch([""], pixels, tokens=torch.tensor([ids])))[0, -1]
                log_probs = model.lm.logits(hidden).log_softmax(-1)
                assert int(log_probs.argmax()) == token and float(log_probs.max()) == pytest.approx(log_prob, abs=1e-4)
                ids.append(token)


def test_micro_batches_give_the_gradient_of_the_whole_batch(world, texts):
    found = []
    for micro in (None, 4):
        model = new(texts).train()
        for module in model.modules():  # statistics of a batch differ from those of its pieces
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        batch = batch_of(world, model, 8)
        lengths = torch.tensor([8, 8, 7, 8, 3, 4, 3, 5])  # more to be said in one piece than in the other
        batch.tokens, batch.token_mask = batch.tokens[:, :8], torch.arange(8) < lengths[:, None]
        config = TrainConfig(epochs=1, micro_batch=micro, precision="fp32")
        Stepper(model, config, torch.device("cpu"))(batch, 0, [8])
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in found[0].items():
        assert torch.allclose(found[1][name], grad, atol=1e-6), name


def test_it_learns_64_scenes_and_needs_the_pictures(learnt, world):
    model, batch, losses = learnt
    assert float(losses.total.detach()) < 0.8
    gates = {name: float(value) for name, value in losses.stats.items()}
    assert set(gates) == {"gate/visual", "gate/visual_open", "gate/language_open"}
    assert 0 < gates["gate/visual"] < 1 and gates["gate/visual_open"] + gates["gate/language_open"] >= 1
    with torch.no_grad():
        seen = float(model(batch).total)
        blank = float(model(dataclasses.replace(batch, pixels=torch.full_like(batch.pixels, 128))).total)
    assert blank > seen + 0.3, f"{seen} with pictures, {blank} without"


def test_it_captions_and_answers_alone_as_in_a_batch(learnt):
    model, batch, _ = learnt
    assert isinstance(model, WritesCaptions) and isinstance(model, AnswersQuestions)
    pictures = list(batch.pixels[:4].permute(0, 2, 3, 1).numpy())
    together = diptych.caption(model, pictures).replies
    alone = [diptych.caption(model, [picture]).replies[0] for picture in pictures]
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert [reply.confidence for reply in together] == pytest.approx([reply.confidence for reply in alone], abs=1e-4)
    assert len({reply.text for reply in together}) > 1
    several = diptych.answer(model, [pictures[:2]], ["What is it?"])
    assert several.rejected[0].reason == "too many pictures"


def test_saved_and_loaded_it_says_the_same(learnt, tmp_path):
    model, batch, _ = learnt
    again = diptych.load(models.save(model, tmp_path / "model"))
    with torch.no_grad():
        assert torch.equal(again(batch).total, model(batch).total)


def test_a_frozen_decoder_stays_as_it_is(world, texts):
    model = new(texts)
    model.lm.requires_grad_(False)
    before = copy.deepcopy(model.lm.state_dict())
    train(model, batch_of(world, model, 8), 3)
    assert all(torch.equal(value, before[name]) for name, value in model.lm.state_dict().items())


def test_the_decoder_can_be_a_pretrained_gpt2(tmp_path):
    save_tokenizer(tmp_path, 32)
    config = hf.GPT2Config(vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=4, n_positions=32, **IDS)
    save_model(tmp_path, lambda: hf.GPT2LMHeadModel(config))
    found = load_language(tmp_path)
    model = VisualGPT.new(dataclasses.replace(CONFIG, lm_address=str(tmp_path)))
    state = model.lm.state_dict()
    assert all(torch.equal(state[name], value) for name, value in found.state_dict.items())
    assert {name.split(".")[2] for name in state.keys() - found.state_dict.keys()} == {"cross"}
    reply = diptych.caption(model, [np.zeros((32, 32, 3), dtype=np.uint8)]).replies[0]
    assert 0 < reply.confidence <= 1


def test_its_decoder_starts_another_model_and_what_looks_at_pictures_stays_there(texts, tmp_path):
    model = new(texts)
    models.save(model, tmp_path / "trained")
    again = VisualGPT.new(dataclasses.replace(CONFIG, lm_address=str(tmp_path / "trained")), seed=1)
    mine, other = model.lm.state_dict(), again.lm.state_dict()
    same = {name for name, value in mine.items() if torch.equal(other[name], value) and value.std() > 0}
    assert same and not any(".cross." in name for name in same)


def test_of_a_question_that_is_too_long_the_end_is_read(texts):
    model = new(texts).eval()
    picture, length = np.zeros((32, 32, 3), np.uint8), model.processor.text.context_length
    long = "is it so " * length
    free = model.answer([[picture]] * 3, ["what?", long, f"more {long}"])
    assert free[1] == free[2]
    choices = ["red " * 20, "blue"]
    assert model.answer([[picture]] * 2, [long, f"more {long}"], [choices] * 2)[1].text in choices


def test_configs_that_cannot_be_are_refused(texts):
    with pytest.raises(InputError, match="threshold"):
        VisualGPTConfig(threshold=0.5)
    with pytest.raises(InputError, match=r"lm\.kind"):
        new(texts, lm=HFLanguageConfig(config={}))
    assert isinstance(new(texts, vision=EfficientNetConfig(lite=True)).lm.layers[0].cross, MeshedSRAU)


def test_presets_are_small_where_they_say_so():
    for name, preset in PRESETS.items():
        if name.startswith("tiny"):
            assert 1e6 < sum(p.numel() for p in VisualGPT(preset).parameters()) < 6e6
