"""LiT: what is locked stays locked, cached features stand in for pixels, and the letters mean what they say."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from diptych import models
from diptych.capabilities import DualEncoder, HasFrozenImageTower, TwoStage
from diptych.models import lit
from diptych.models.lit import PRESETS, LiT, LiTConfig
from diptych.processing import ImageConfig
from diptych.towers import EfficientNetConfig, HFTextConfig, ResNetConfig, TextTransformerConfig, fingerprint
from diptych.types import Batch, InputError

CAPTIONS = ["a red square", "a green square", "a blue square", "a white square"]
COLOURS = torch.tensor([[200, 30, 30], [30, 200, 30], [30, 30, 200], [240, 240, 240]], dtype=torch.uint8)
TEXT = TextTransformerConfig(vocab_size=300, context_length=12, width=24, layers=1, heads=2, eos_id=1)
# a convolutional tower with batch norm, whose statistics would move if it were not kept in eval mode
CONVOLUTIONAL = ResNetConfig(depths=(1, 1), stem_width=8, block="basic")
CONFIG = LiTConfig(CONVOLUTIONAL, TEXT, image=ImageConfig(size=16))


@pytest.fixture
def model() -> LiT:
    """A locked convolutional tower with weights of its own (as if pretrained) and a text tower from scratch."""
    config = dataclasses.replace(CONFIG, image_tower="u")
    scratch = LiT.new(config, CAPTIONS, seed=0)
    locked = LiT(dataclasses.replace(scratch.config, image_tower="L"), scratch.processor)
    locked.load_state_dict(scratch.state_dict())
    return locked


def squares(model: LiT, *, blank: bool = False) -> Batch:
    assert model.processor is not None
    pictures = COLOURS[:, None, None].expand(4, 16, 16, 3).clone()
    pictures = torch.full_like(pictures, 128) if blank else pictures
    return model.processor.collate(list("abcd"), list(pictures.numpy()), CAPTIONS)


def _train(model: LiT, batch: Batch, steps: int = 60) -> float:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(batch).total
        loss.backward()
        optimizer.step()
    return loss.item()


def test_locked_weights_are_bit_equal_after_training_and_the_rest_has_moved(model: LiT) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start = model.image_tower_fingerprint()
    assert _train(model, squares(model)) < 0.1
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("visual."))
    assert model.image_tower_fingerprint() == start
    assert all(not torch.equal(before[name], value) for name, value in after.items() if not name.startswith("visual."))


def test_blank_pictures_teach_nothing(model: LiT) -> None:
    assert _train(model, squares(model, blank=True)) > 0.9 * math.log(4)


def test_a_locked_tower_stays_in_eval_mode_without_gradient(model: LiT) -> None:
    model.train()
    assert model.training and model.textual.training
    assert not any(module.training for module in model.visual.modules())
    model(squares(model)).total.backward()
    assert all(parameter.grad is None for parameter in model.visual.parameters())
    assert all(parameter.grad is not None for parameter in model.textual.parameters())


def test_cached_features_stand_in_for_pixels(model: LiT) -> None:
    batch = squares(model)
    assert batch.pixels is not None
    features = model.image_features(batch.pixels)
    assert features.dtype == torch.float32 and not features.requires_grad
    cached = Batch(batch.ids, image_features=features, tokens=batch.tokens, token_mask=batch.token_mask)
    assert torch.equal(model(cached).total, model(batch).total)
    assert torch.equal(model.embed_image_features(features), model.encode_image(batch.pixels))


def test_micro_batches_equal_the_whole_in_value_and_gradient(model: LiT) -> None:
    batch = squares(model)
    whole = model(batch).total
    whole.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    parts = [model.encode(piece) for piece in batch.chunks(3)]
    chunked = model.objective(*(torch.cat(side) for side in zip(*parts))).total
    chunked.backward()
    torch.testing.assert_close(chunked, whole)
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4)


def test_loss_by_hand_and_at_chance(model: LiT) -> None:
    rows = torch.eye(model.visual.width)[:4]
    assert model.objective(rows, rows).total.item() == pytest.approx(math.log(1 + 3 * math.exp(-1 / 0.07)), abs=1e-6)
    same = rows[:1].expand(4, -1)
    losses = model.objective(same, same)
    assert losses.total.item() == pytest.approx(math.log(4), abs=1e-5) == losses.chance["loss/itc"]


@pytest.mark.parametrize("letters", ["Lu", "LU", "LL", "Uu", "UU", "uu", "uU"])
def test_letters(letters: str, vision_folder: Path, text_folder: Path) -> None:
    image, text = letters
    config = dataclasses.replace(
        CONFIG,
        image_tower=image,
        text_tower=text,
        image_address=None if image == "u" else str(vision_folder),
        text_address=None if text == "u" else str(text_folder),
        image=None if image != "u" else CONFIG.image,
        embed_dim=10,
        image_head=True,
    )
    net = LiT.new(config, CAPTIONS)
    assert isinstance(net, DualEncoder) and isinstance(net, TwoStage)
    assert isinstance(net, HasFrozenImageTower) == (image == "L")
    assert all(p.requires_grad == (image != "L") for p in net.visual.parameters())
    assert all(p.requires_grad == (text != "L") for p in net.textual.parameters())
    batch = squares(net)
    net(batch).total.backward()
    assert net.image_head.weight.grad is not None
    # pretrained towers hold the folder's weights: another seed changes only what is from scratch
    other = LiT.new(config, CAPTIONS, seed=1)
    assert (fingerprint(net.visual) == fingerprint(other.visual)) == (image != "u")
    assert (fingerprint(net.textual) == fingerprint(other.textual)) == (text != "u")
    assert fingerprint(net.text_head) != fingerprint(other.text_head)


def test_preprocessing_and_text_length_come_from_the_pretrained_towers(vision_folder: Path, text_folder: Path) -> None:
    net = lit.build(str(vision_folder), str(text_folder))
    assert (net.config.image_tower, net.config.text_tower) == ("L", "U")
    assert net.processor is not None and net.config.image == net.processor.image.config
    assert net.processor.image.config.mean == (0.5, 0.5, 0.5) and net.processor.text.context_length == 24
    assert isinstance(net.config.text, HFTextConfig)
    scratch = lit.build(str(vision_folder), captions=CAPTIONS, image=ImageConfig(size=8), text=TEXT)
    assert (scratch.config.image_tower, scratch.config.text_tower) == ("L", "u")
    assert scratch.processor is not None and scratch.processor.image.config.size == 8


def test_pretrained_features_are_the_folders(vision_folder: Path) -> None:
    from transformers import ViTModel

    net = lit.build(str(vision_folder), captions=CAPTIONS, text=TEXT)
    pixels = torch.randn(2, 3, 16, 16)
    theirs = ViTModel.from_pretrained(vision_folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(net.image_features(pixels), theirs(pixels).pooler_output, atol=1e-5, rtol=0)


def test_mlp_head_and_sigmoid(model: LiT) -> None:
    config = dataclasses.replace(CONFIG, image_tower="u", text_head="mlp", objective="sigmoid")
    net = LiT.new(config, CAPTIONS)
    assert len([module for module in net.text_head.modules() if isinstance(module, torch.nn.Linear)]) == 2
    losses = net(squares(net))
    assert losses.chance["loss/itc"] == pytest.approx(math.log(4) + 3 * math.log(4 / 3))
    assert 5 < losses.total.item() < 30


def test_learning_towers_refuse_cached_features() -> None:
    net = LiT.new(dataclasses.replace(CONFIG, image_tower="u"), CAPTIONS)
    batch = squares(net)
    batch.image_features = torch.zeros(4, net.visual.width)
    with pytest.raises(InputError, match="image_tower 'u' learns"):
        net(batch)


@pytest.mark.parametrize(("letter", "address"), [("L", None), ("U", None), ("u", "somewhere")])
def test_letters_and_addresses_must_agree(letter: str, address: str | None) -> None:
    config = dataclasses.replace(CONFIG, image_tower=letter, image_address=address)
    with pytest.raises(InputError, match="lit: image_address"):
        LiT.new(config, CAPTIONS)


def test_save_and_load_give_the_same_output(vision_folder: Path, tmp_path: Path) -> None:
    net = lit.build(str(vision_folder), captions=CAPTIONS, text=TEXT, image_head=True, embed_dim=12).eval()
    models.save(net, tmp_path / "m")
    loaded = models.load(tmp_path / "m")
    assert loaded.config == net.config and loaded.image_tower_fingerprint() == net.image_tower_fingerprint()
    assert not any(p.requires_grad for p in loaded.visual.parameters())
    for ours, theirs in zip(net.encode(squares(net)), loaded.encode(squares(net))):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets(name: str) -> None:
    config = PRESETS[name]
    assert (config.image_tower, config.text_tower) == tuple(name)
    assert (config.image_address is None) == (name[0] == "u") and (config.text_address is None) == (name[1] == "u")
    with torch.device("meta"):
        net = LiT(config)
    assert isinstance(config.vision, EfficientNetConfig) and config.vision.lite
    assert net.text_head.weight.shape[0] == net.visual.width == 1280
