"""The discrete autoencoder: its temperature, its codes, that it learns to show what it was shown."""

import dataclasses

import numpy as np
import pytest
import torch

from diptych import models
from diptych.models.dvae import DVAE, CodebookConfig, DVAEConfig
from diptych.processing import ImageConfig
from diptych.types import InputError

IMAGE = ImageConfig(size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CONFIG = DVAEConfig(CodebookConfig(codes=32, width=16, depth=1), kl=0.01, cooling=200, image=IMAGE)


@pytest.fixture(scope="module")
def batch():
    """Pictures of 4 x 4 tiles, each of 8 x 8 pixels in one of four colours: what a code can tell, and no more."""
    colours = np.array([[230, 40, 40], [40, 200, 60], [40, 60, 230], [240, 240, 240]], np.uint8)
    tiles = np.random.default_rng(0).integers(4, size=(12, 4, 4))
    pictures = colours[tiles].repeat(8, axis=1).repeat(8, axis=2)
    return DVAE.new(CONFIG).processor.collate([str(i) for i in range(12)], list(pictures))


def test_the_temperature_falls_along_half_a_cosine(batch):
    model = DVAE.new(CONFIG)
    assert model.temperature() == 1.0
    model.batches += 100
    assert model.temperature() == pytest.approx((1 + 1 / 16) / 2)
    model.batches += 1000
    assert model.temperature() == pytest.approx(1 / 16)
    before = int(model.batches)
    model(batch)
    assert int(model.batches) == before + 1
    model.eval()(batch)
    assert int(model.batches) == before + 1


def test_codes_are_one_for_eight_by_eight_pixels_and_of_them_alone_in_the_end(batch):
    model = DVAE.new(CONFIG).eval()
    codes = model.codes(batch.pixels)
    assert codes.shape == (12, 4, 4) and ((codes >= 0) & (codes < 32)).all()
    shown = model.pictures(codes)
    assert shown.shape == (12, 3, 32, 32) and ((shown >= 0) & (shown <= 1)).all()
    assert torch.equal(codes, model.codes(batch.pixels.float() / 255))


def test_it_learns_to_show_what_it_was_shown(batch):
    """From codes alone the picture comes back, and tiles of one colour have one code."""
    model = DVAE.new(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    torch.manual_seed(0)
    for _ in range(200):
        model(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    shown, codes = batch.pixels.float() / 255, model.codes(batch.pixels)
    with torch.no_grad():
        error = (model.pictures(codes) - shown).square().mean()
    assert error < 0.2 * (shown.mean(dim=(0, 2, 3), keepdim=True) - shown).square().mean()
    assert codes.unique().numel() >= 4


def test_a_saved_autoencoder_gives_the_same_codes(batch, tmp_path):
    model = DVAE.new(CONFIG, seed=1).eval()
    models.save(model, tmp_path / "model")
    again = models.load(tmp_path / "model")
    assert np.array_equal(again.codes(batch.pixels), model.codes(batch.pixels))


def test_settings_that_do_not_fit_are_told():
    with pytest.raises(InputError, match="multiple of 8, got 30"):
        DVAEConfig(image=dataclasses.replace(IMAGE, size=30))
    with pytest.raises(InputError, match="coldest"):
        DVAEConfig(coldest=0.0)
