"""CLIP: its loss at the start, exact accumulation, what the masks hide, learning, and saving."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diptych import models
from diptych.capabilities import DualEncoder, TwoStage
from diptych.models.clip import CLIP, PRESETS, CLIPConfig
from diptych.models.dual_encoder import ContrastiveHead
from diptych.processing import ImageConfig
from diptych.towers import ModifiedResNetConfig, TextTransformerConfig, ViTConfig
from diptych.types import Batch, InputError

COLOURS = ["red", "green", "blue", "white"]
CAPTIONS = [f"a {colour} {thing}" for colour in COLOURS for thing in ("square", "picture")]

VISION = ViTConfig(image_size=16, patch_size=8, width=32, layers=2, heads=2)
TEXT = TextTransformerConfig(vocab_size=300, context_length=12, width=24, layers=2, heads=2, eos_id=1)
CONFIG = CLIPConfig(VISION, TEXT, ImageConfig(size=16), embed_dim=20)


def noise(model: CLIP, rows: int = 8, seed: int = 0) -> Batch:
    """Random pictures with captions that have nothing to do with them."""
    assert model.processor is not None
    generator = torch.Generator().manual_seed(seed)
    size = model.processor.image.config.size
    pictures = torch.randint(0, 256, (rows, size, size, 3), dtype=torch.uint8, generator=generator)
    texts = [CAPTIONS[i % len(CAPTIONS)] for i in range(rows)]
    return model.processor.collate([str(i) for i in range(rows)], list(pictures.numpy()), texts)


def colours(model: CLIP, *, blank: bool = False) -> Batch:
    """Squares of one colour with their names: a thing that can be learnt. `blank` takes the pictures' content away."""
    assert model.processor is not None
    values = torch.tensor([[200, 30, 30], [30, 200, 30], [30, 30, 200], [240, 240, 240]], dtype=torch.uint8)
    pictures = values[:, None, None].expand(4, 16, 16, 3).clone()
    pictures = torch.full_like(pictures, 128) if blank else pictures
    return model.processor.collate(COLOURS, list(pictures.numpy()), [f"a {colour} square" for colour in COLOURS])


@pytest.fixture(scope="module")
def model() -> CLIP:
    return CLIP.new(CONFIG, CAPTIONS, seed=0)


def test_capabilities(model: CLIP) -> None:
    assert isinstance(model, DualEncoder) and isinstance(model, TwoStage)


def test_new_is_repeatable_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = CLIP.new(CONFIG, CAPTIONS, seed=3)
    assert torch.equal(torch.rand(1), expected)
    second = CLIP.new(CONFIG, CAPTIONS, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    other = CLIP.new(CONFIG, CAPTIONS, seed=4)
    assert not torch.equal(first.text_projection.weight, other.text_projection.weight)


def test_the_vocabulary_is_the_learnt_one(model: CLIP) -> None:
    assert model.processor is not None
    assert isinstance(model.config.text, TextTransformerConfig)
    assert model.config.text.vocab_size == model.processor.text.vocab_size <= 300
    assert model.config.text.eos_id == model.processor.text.eos_id


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_fit_together(name: str) -> None:
    config = PRESETS[name]
    with torch.device("meta"):
        built = CLIP(config)
    count = sum(parameter.numel() for parameter in built.parameters())
    # the paper's models are known by their sizes: 151.3, 149.6, 427.6 and 102.0 million
    known = {"vit-b-32": 151.3e6, "vit-b-16": 149.6e6, "vit-l-14": 427.6e6, "rn50": 102.0e6}
    ours = {"tiny": 2.8e6, "small": 10.8e6}
    assert count == pytest.approx((known | ours)[name], rel=0.001 if name in known else 0.03)
    assert getattr(config.vision, "image_size", config.image.size) == config.image.size


def test_rows_have_length_one_in_float32(model: CLIP) -> None:
    batch = noise(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = model.encode(batch)
    for rows in features:
        assert rows.dtype == torch.float32 and rows.shape == (8, 20)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(8))


def test_loss_starts_near_ln_batch(model: CLIP) -> None:
    losses = model(noise(model, rows=32))
    assert losses.chance == {"loss/itc": pytest.approx(math.log(32))}
    assert losses.total.item() == pytest.approx(math.log(32), rel=0.15)
    assert losses.parts["loss/itc"].item() == losses.total.item()
    assert losses.stats["logit_scale"].item() == pytest.approx(1 / 0.07, rel=1e-5)
    assert losses.stats["logit_scale_at_clamp"].item() == 0


def test_loss_by_hand(model: CLIP) -> None:
    rows = torch.eye(20)[:3]
    assert model.objective(rows, rows).total.item() == pytest.approx(math.log(1 + 2 * math.exp(-1 / 0.07)), abs=1e-6)


def test_sigmoid_objective() -> None:
    sigmoid = CLIP.new(dataclasses.replace(CONFIG, objective="sigmoid"), CAPTIONS)
    rows = torch.eye(20)[:3]
    losses = sigmoid.objective(rows, rows)
    # z (t x.y + b): 0 on the diagonal, 10 beside it
    expected = (3 * math.log(2) + 6 * math.log(1 + math.exp(-10))) / 3
    assert losses.total.item() == pytest.approx(expected, abs=1e-5)
    assert losses.chance["loss/itc"] == pytest.approx(math.log(3) + 2 * math.log(1.5))
    losses.total.backward()
    assert sigmoid.head.logit_bias is not None and sigmoid.head.logit_bias.grad is not None
    with pytest.raises(InputError, match="label_smoothing"):
        CLIP(dataclasses.replace(CONFIG, objective="sigmoid", label_smoothing=0.1))


def test_the_scale_is_bounded_and_can_come_back() -> None:
    head = ContrastiveHead("softmax")
    with torch.no_grad():
        head.logit_scale.fill_(6.0)
    rows = torch.eye(4)
    wrong = rows.roll(1, 0)  # every pair is mismatched, so the loss asks for a smaller scale
    evaluated = head.eval()(rows, wrong)
    assert evaluated.total.item() == pytest.approx(100.0, abs=1e-3)
    assert evaluated.stats["logit_scale_at_clamp"] == 1 and head.logit_scale.item() == 6.0  # judging changes nothing
    trained = head.train()(rows, wrong)
    assert head.logit_scale.item() == pytest.approx(math.log(100))
    assert trained.stats["logit_scale_at_clamp"] == 1
    trained.total.backward()
    assert head.logit_scale.grad is not None and head.logit_scale.grad > 0


def test_micro_batches_equal_the_whole_in_value_and_gradient(model: CLIP) -> None:
    batch = noise(model, rows=6)
    model.zero_grad()
    whole = model(batch).total
    whole.backward()
    expected = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()
    parts = [model.encode(piece) for piece in batch.chunks(2)]
    chunked = model.objective(*(torch.cat(side) for side in zip(*parts))).total
    chunked.backward()
    torch.testing.assert_close(chunked, whole)
    assert len(expected) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4)
    model.zero_grad()


def test_padding_and_what_follows_the_end_change_nothing(model: CLIP) -> None:
    model.eval()
    batch = noise(model, rows=2)
    assert batch.tokens is not None and batch.token_mask is not None
    plain = model.encode_text(batch.tokens, batch.token_mask)
    tokens = torch.nn.functional.pad(batch.tokens, (0, 3), value=7)
    mask = torch.nn.functional.pad(batch.token_mask, (0, 3))
    torch.testing.assert_close(model.encode_text(tokens, mask), plain, atol=1e-6, rtol=0)
    changed = batch.tokens.clone()
    changed[:, 1] = 9  # a real word does matter
    assert not torch.allclose(model.encode_text(changed, batch.token_mask), plain, atol=1e-3)
    model.train()


def test_one_row_does_not_see_another(model: CLIP) -> None:
    batch = noise(model, rows=3)
    assert batch.pixels is not None
    image, _ = model.encode(batch)
    batch.pixels = batch.pixels.clone()
    batch.pixels[2] = 0
    changed, _ = model.encode(batch)
    torch.testing.assert_close(changed[:2], image[:2])
    assert not torch.allclose(changed[2], image[2], atol=1e-3)


def _train(model: CLIP, batch: Batch, steps: int = 40) -> Tensor:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(batch).total
        loss.backward()
        optimizer.step()
    return loss.detach()


def test_learns_colours_and_not_without_pictures() -> None:
    seeing, blind = CLIP.new(CONFIG, CAPTIONS), CLIP.new(CONFIG, CAPTIONS)
    assert _train(seeing, colours(seeing)).item() < 0.1
    assert _train(blind, colours(blind, blank=True)).item() > 0.9 * math.log(4)


def test_save_and_load_give_the_same_output(model: CLIP, tmp_path: Path) -> None:
    assert model.processor is not None
    models.save(model, tmp_path / "m")
    loaded = models.load(tmp_path / "m")
    assert loaded.config == model.config and not loaded.training
    assert loaded.processor.fingerprint() == model.processor.fingerprint()
    batch = noise(model)
    model.eval()
    for ours, theirs in zip(model.encode(batch), loaded.encode(batch)):
        assert torch.equal(ours, theirs)
    assert torch.equal(model(batch).total, loaded(batch).total)
    model.train()


def test_modified_resnet_shapes_and_gradients() -> None:
    vision = ModifiedResNetConfig(image_size=64, depths=(1, 1, 1, 1), stem_width=8, heads=4, output_width=20)
    config = dataclasses.replace(CONFIG, vision=vision, image=ImageConfig(size=64))
    net = CLIP.new(config, CAPTIONS)
    with torch.no_grad():  # branches start at 0 (the last norm's weight), which would keep gradients out of them
        for parameter in net.visual.parameters():
            if not parameter.any():
                parameter.fill_(0.5)
    image, text = net.encode(noise(net, rows=4))
    assert image.shape == text.shape == (4, 20)
    net.objective(image, text).total.backward()
    silent = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    # keys of one query share their bias with every answer, so softmax cancels it
    assert [name for name in silent if not name.endswith("k_proj.bias")] == []
    with pytest.raises(InputError, match="output_width"):
        CLIP(dataclasses.replace(config, embed_dim=21))


def test_an_incomplete_batch_says_what_is_missing(model: CLIP) -> None:
    with pytest.raises(InputError, match="pixels"):
        model(Batch(ids=["a"]))


def test_a_model_may_be_built_without_a_processor() -> None:
    bare = CLIP(CONFIG)
    assert bare.processor is None
    pixels = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    assert bare.encode_image(pixels).shape == (2, 20)
