"""VirTex: both directions learn, one image tower comes out, and it serves other families."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import diptych
from diptych import models
from diptych.capabilities import AnswersQuestions, EncodesImages, WritesCaptions
from diptych.data.loader import Loader
from diptych.data.store import Dataset
from diptych.decoding import write
from diptych.models.lit import LiT, LiTConfig
from diptych.models.virtex import PRESETS, VirTex, VirTexConfig, reverse
from diptych.processing import ImageConfig, PairProcessor
from diptych.towers import DecoderConfig, ResNetConfig, TextTransformerConfig, build_vision, load_vision
from diptych.training.config import TrainConfig
from diptych.training.step import Stepper
from diptych.types import Batch, InputError

DECODER = DecoderConfig(vocab_size=400, context_length=64, width=64, layers=1, heads=4, activation="gelu", norm="post")
CONFIG = VirTexConfig(
    ResNetConfig(depths=(1, 1), stem_width=24, block="basic"), DECODER, ImageConfig(size=32), flip=False
)


@pytest.fixture(scope="module")
def world() -> Dataset:
    return diptych.open_dataset("scenes:?n=64&size=32&objects=1&detail=5")


@pytest.fixture(scope="module")
def captions(world: Dataset) -> list[str]:
    return [sample.captions[0] for sample in world.take(range(64), ["captions"])]


@pytest.fixture
def model(captions: list[str]) -> VirTex:
    return VirTex.new(CONFIG, captions, seed=0)


@pytest.fixture(scope="module")
def pairs(world: Dataset, captions: list[str]) -> Batch:
    fresh = VirTex.new(CONFIG, captions, seed=0)
    return next(Loader(world, fresh.processor, 64, shuffle=False, drop_last=True).epoch(0))


def fit(model: VirTex, batch: Batch, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps, pct_start=0.1)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def test_the_loss_is_the_sum_of_both_directions_by_hand(model: VirTex, pairs: Batch) -> None:
    model.eval()
    batch = pairs.chunks(3)[0]
    memory = model.grid(batch.pixels)
    expected = []
    for decoder, backwards in ((model.decoder, False), (model.backward_decoder, True)):
        nats = []
        for row, kept, seen in zip(batch.tokens, batch.token_mask, memory):
            text = row[kept].flip(0) if backwards else row[kept]
            x = decoder.token_embedding(text[:-1]) + decoder.positions[: len(text) - 1]
            x = decoder.embedding_norm(x)[None]
            for layer in decoder.layers:  # post-norm: attention, attention to the grid, MLP, each with its norm after
                causal = torch.ones(x.shape[1], x.shape[1]).tril().bool()[None, None]
                x = layer.norm1(x + layer.attention(x, mask=causal))
                x = layer.cross.norm(x + layer.cross.attention(x, seen[None]))
                x = layer.norm2(x + layer.mlp(x))
            nats.append(F.cross_entropy(x[0] @ decoder.token_embedding.weight.T, text[1:], reduction="none"))
        expected.append(torch.cat(nats).mean())
    losses = model(batch)
    torch.testing.assert_close(losses.parts["loss/forward"], expected[0])
    torch.testing.assert_close(losses.parts["loss/backward"], expected[1])
    torch.testing.assert_close(losses.total, expected[0] + expected[1])


def test_a_fresh_model_knows_nothing(model: VirTex, pairs: Batch) -> None:
    losses = model(pairs)
    chance = math.log(model.decoder.vocab_size)
    assert losses.chance == {"loss/forward": chance, "loss/backward": chance}
    assert all(abs(loss.item() - chance) < 0.25 for loss in losses.parts.values())


def test_reverse_keeps_the_padding_on_the_right() -> None:
    tokens = torch.tensor([[2, 5, 6, 1, 0], [2, 7, 1, 0, 0]])
    assert reverse(tokens, tokens > 0).tolist() == [[1, 6, 5, 2, 0], [1, 7, 2, 0, 0]]


def test_the_directions_share_embedding_projection_and_output_and_nothing_else(model: VirTex) -> None:
    one, other = model.decoder, model.backward_decoder
    assert one.token_embedding is other.token_embedding and one.positions is other.positions
    assert one.head_weight() is one.token_embedding.weight and other.head_weight() is one.head_weight()
    own = {id(p) for p in one.layers.parameters()}
    assert own.isdisjoint(id(p) for p in other.layers.parameters())


def test_no_direction_sees_what_it_is_to_say_next(model: VirTex, pairs: Batch) -> None:
    """Perturbation: a token changes no state of its direction that stands before it, and the picture changes all."""
    model.eval()
    batch = pairs.chunks(4)[0]
    grid = model.grid(batch.pixels)
    changed = batch.tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 200 + 3
    for decoder, turned, place in ((model.decoder, False, 5), (model.backward_decoder, True, None)):
        rows = [reverse(t, batch.token_mask) if turned else t for t in (batch.tokens, changed)]
        place = place if place is not None else int((rows[0] != rows[1]).int().argmax(dim=1).min())
        states = [decoder(decoder.embed(row), memory=grid) for row in rows]
        assert torch.equal(states[0][:, :place], states[1][:, :place])
        assert not torch.allclose(states[0][:, place:], states[1][:, place:])
        blind = decoder(decoder.embed(rows[0]), memory=grid.flip(0))
        assert (states[0] - blind).abs().amax(dim=2).min() > 1e-4


def test_forward_only_is_the_same_model_without_the_other_half(model: VirTex, pairs: Batch) -> None:
    alone = VirTex(dataclasses.replace(model.config, backward=False), model.processor)
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("backward_decoder.")})
    losses = alone.eval()(pairs)
    assert list(losses.parts) == ["loss/forward"]
    assert torch.equal(losses.total, model.eval()(pairs).parts["loss/forward"])


def test_what_stands_beside_a_row_does_not_change_it(model: VirTex, pairs: Batch) -> None:
    model.eval()
    alone = [model(piece).parts["loss/forward"] for piece in pairs.chunks(1)[:4]]
    counts = pairs.token_mask[:4].sum(dim=1) - 1
    together = model(pairs.chunks(4)[0]).parts["loss/forward"]
    torch.testing.assert_close((torch.stack(alone) * counts).sum() / counts.sum(), together)


def test_accumulated_is_the_plain_step_where_texts_are_equally_long(model: VirTex, pairs: Batch) -> None:
    """In evaluation mode: batch norm in training sees its micro-batch alone, as `Stepper` says."""
    model.eval()
    tokens = pairs.tokens[:8, :6]
    batch = Batch(pairs.ids[:8], pixels=pairs.pixels[:8], tokens=tokens, token_mask=torch.ones_like(tokens).bool())
    grads = []
    for micro in (None, 2):
        model.zero_grad()
        step = Stepper(model, TrainConfig(steps=1, micro_batch=micro, precision="fp32"), torch.device("cpu"))
        step(batch, 0, [8])
        grads.append([p.grad.clone() for p in model.parameters()])
    for plain, accumulated in zip(*grads):
        torch.testing.assert_close(accumulated, plain, atol=1e-6, rtol=1e-3)


def test_it_writes_scenes_that_it_learnt_by_heart_and_nothing_true_of_blank_ones(
    model: VirTex, pairs: Batch, captions: list[str], tmp_path: Path
) -> None:
    pictures = list(pairs.pixels.permute(0, 2, 3, 1).numpy())
    grey = [picture * 0 + 128 for picture in pictures]
    fit(model, pairs, 160)
    said = [reply.text for reply in model.caption(pictures)]
    right = sum(a == b.lower() for a, b in zip(said, captions))
    assert right >= 58  # of 64
    assert sum(reply.text == b.lower() for reply, b in zip(model.caption(grey), captions)) <= 3
    assert [reply.text for reply in model.caption(pictures[:1])] == said[:1]  # batched equals single
    rest = model.complete(pictures[:4], [text[:12].rsplit(" ", 1)[0] for text in captions[:4]])
    begun = [text[:12].rsplit(" ", 1)[0].lower() + " " + reply.text for text, reply in zip(captions, rest)]
    assert begun == said[:4]
    _cached_equals_uncached(model, pictures[:6])

    again = models.load(models.save(model, tmp_path / "saved"))
    assert [reply.text for reply in again.caption(pictures)] == said
    assert torch.equal(again.encode_image(pairs.pixels), model.encode_image(pairs.pixels))


@torch.no_grad()
def _cached_equals_uncached(model: VirTex, pictures: list[torch.Tensor]) -> None:
    """Token for token: the model asked for the whole text at once gives the same next tokens."""
    prompts = [[model.processor.text.bos_id]] * len(pictures)
    texts = write(model.read([[p] for p in pictures], prompts), end=model.processor.text.eos_id, most=40)
    for picture, text in zip(pictures, texts):
        tokens = torch.tensor([[model.processor.text.bos_id, *text.tokens]])
        pixels = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
        hidden = model.decoder(model.decoder.embed(tokens), memory=model.grid(pixels))
        logs = model.decoder.logits(hidden)[0].log_softmax(dim=-1)
        wanted = [*text.tokens, model.processor.text.eos_id][: len(logs)]
        assert logs.argmax(dim=-1).tolist() == wanted
        given = logs.gather(1, torch.tensor(wanted)[:, None])[:, 0]
        torch.testing.assert_close(given[: len(text.log_probs)], torch.tensor(text.log_probs), atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------ flips


def test_half_of_the_pairs_are_mirrored_and_their_sides_swapped(captions: list[str], world: Dataset) -> None:
    model = VirTex.new(dataclasses.replace(CONFIG, flip=True), captions)
    pictures = [torch.zeros(32, 32, 3, dtype=torch.uint8).numpy() for _ in range(40)]
    for picture in pictures:
        picture[:, :16] = 255
    options = {"augment": True, "generator": torch.Generator().manual_seed(0)}
    batch = model.processor.collate(list(map(str, range(40))), pictures, ["a ball on the left"] * 40, **options)
    words = [model.processor.text.decode(row[kept].tolist()) for row, kept in zip(batch.tokens, batch.token_mask)]
    bright_left = (batch.pixels[:, 0, :, 0] > 128).all(dim=1)
    assert 10 < int(bright_left.sum()) < 30
    assert [word.endswith("left") for word in words] == bright_left.tolist()
    asked = model.processor.collate(["a"] * 40, pictures, ["left"] * 40, prompts=["where?"] * 40, **options)
    assert bool((asked.pixels[:, 0, :, 0] > 128).all())  # a question cannot be swapped, so nothing is mirrored


def test_the_wish_for_flips_is_saved_with_the_model(captions: list[str], tmp_path: Path) -> None:
    for flip in (True, False):
        saved = models.save(VirTex.new(dataclasses.replace(CONFIG, flip=flip), captions), tmp_path / str(flip))
        assert models.load(saved).processor.flip is flip
    file = tmp_path / "True" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"diptych_flip": "yes"}))
    with pytest.raises(InputError, match="diptych_flip: expected true or false, got 'yes'"):
        PairProcessor.load(tmp_path / "True")


# ------------------------------------------------------------ what it is for


def test_what_it_can_do(model: VirTex) -> None:
    assert isinstance(model, WritesCaptions) and isinstance(model, EncodesImages)
    assert not isinstance(model, AnswersQuestions)
    paper = PRESETS["r50-l1-h1024"]
    assert (paper.decoder.width, paper.decoder.heads, paper.decoder.context_length) == (1024, 16, 30)


def test_questions_are_refused_in_one_sentence(model: VirTex, pairs: Batch) -> None:
    with pytest.raises(InputError, match=r"virtex: expected pictures with captions alone; set loader\.texts=captions"):
        model(dataclasses.replace(pairs, target_mask=pairs.token_mask))


def test_its_vision_network_serves_other_families(model: VirTex, pairs: Batch, tmp_path: Path) -> None:
    folder = models.save(model.eval(), tmp_path / "run" / "model")
    (tmp_path / "run" / "config.json").write_text('{"family": "virtex", "training": {}}')  # the run's own settings
    text = TextTransformerConfig(vocab_size=300, context_length=12, width=24, layers=1, heads=2, eos_id=1)
    for address in (folder, folder.parent):  # the model, and the run that holds it
        lit = LiT.new(LiTConfig(text=text, image_address=str(address)), ["a cube", "a ball"])
        assert lit.config.image == model.config.image
        torch.testing.assert_close(lit.eval().encode_image(pairs.pixels), model.encode_image(pairs.pixels))
    lit_folder = models.save(lit, tmp_path / "lit")
    for source in (lit_folder, models.save(models.family("clip").new(_clip(), ["a cube"]), tmp_path / "clip")):
        pretrained = load_vision(source)
        build_vision(pretrained.config).load_state_dict(pretrained.state_dict)


def test_a_model_without_a_vision_tower_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"family": "x", "version": 1, "config": {"text": {}}}')
    with pytest.raises(InputError, match=r"config\.json: config\.vision: expected a model with a vision tower"):
        load_vision(tmp_path)
    vision = {"kind": "resnet", "depths": [1], "stem_width": 8, "block": "basic"}
    (tmp_path / "config.json").write_text(json.dumps({"family": "x", "config": {"vision": vision}}))
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be read as safetensors"):
        load_vision(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"family": "x", "config": {"vision": {**vision, "stem": 3}}}))
    with pytest.raises(InputError, match=r"config\.json: unknown key 'vision.resnet.stem'"):
        load_vision(tmp_path)


def _clip() -> object:
    small = models.family("clip").PRESETS["tiny"]
    text = dataclasses.replace(small.text, vocab_size=300, width=32, heads=2, layers=1)
    vision = dataclasses.replace(small.vision, width=32, heads=2, layers=1)
    return dataclasses.replace(small, text=text, vision=vision, embed_dim=16)
