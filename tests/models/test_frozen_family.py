"""Frozen: what a picture becomes, where it stands, and pretrained parts."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from diptych.models.frozen import PRESETS, Frozen, FrozenConfig
from diptych.models.interleaved import Interleaved
from diptych.processing import ImageConfig, documents
from diptych.processing.documents import place
from diptych.towers import DecoderConfig, ModifiedResNetConfig, ViTConfig

TEXTS = ["a red cube and a blue ball", "two green cones", "what is this?"] * 2
CONFIG = FrozenConfig(
    ViTConfig(image_size=16, patch_size=8, width=12, layers=1, heads=2, pooling="mean"),
    DecoderConfig(vocab_size=300, context_length=64, width=16, layers=2, heads=2, positions="rotary"),
    lm_tuning="u",
    image=ImageConfig(size=16),
)


def new(**changes: object) -> Frozen:
    return Frozen.new(dataclasses.replace(CONFIG, **changes), TEXTS, seed=0).eval()  # type: ignore[arg-type]


def document(model: Frozen, *texts: str) -> Interleaved:
    assert model.processor is not None
    tokens, keep = model.processor.text.padded(documents.prompts(model.processor.text, texts))
    places = (tokens == place(model.processor.text)) & keep
    pixels = torch.randn(int(places.sum()), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Interleaved(tokens, keep, torch.zeros_like(keep), places, pixels)


@pytest.mark.parametrize(("seen", "vectors"), [("pooled", 2), ("grid", 4)])
def test_each_picture_stands_at_its_place(seen: str, vectors: int) -> None:
    model = new(seen=seen)
    text = document(model, "a ball <image> a red cube <image>", "<image> two")
    assert text.pixels is not None
    with torch.no_grad():
        x, wide, positions = model.embed(text)
        prefix = model.prefix(text.pixels)
    assert prefix.shape == (3, vectors, 16)
    assert wide.places.sum(1).tolist() == [2 * vectors, vectors]
    for row, pictures in ((0, [0, 1]), (1, [2])):
        assert torch.equal(x[row, wide.places[row]], prefix[pictures].flatten(0, 1))
        said = wide.keep[row] & ~wide.places[row]
        own = text.keep[row] & ~text.places[row]
        assert torch.equal(x[row, said], model.lm.embed(text.tokens[row : row + 1, own])[0])
    for row, own in enumerate(wide.keep):
        picture = wide.places[row, own]
        steps = positions[row, own].diff()
        if seen == "pooled":  # each vector is a token like any other
            assert (steps == 1).all()
        else:  # the four cells of a picture share one position
            inside = picture[1:] & picture[:-1]
            assert inside.sum() == 3 * picture.sum() // 4 and not steps[inside].any() and (steps[~inside] == 1).all()


def test_pooled_is_one_linear_map_of_the_pooled_picture() -> None:
    model = new()
    pixels = torch.randn(2, 3, 16, 16)
    flat = model.to_prefix(model.visual(pixels).pooled)
    assert torch.equal(model.prefix(pixels), torch.stack([flat[:, :16], flat[:, 16:]], dim=1))


def test_a_grid_wider_than_the_pooled_picture_fits() -> None:
    vision = ModifiedResNetConfig(image_size=32, depths=(1, 1, 1, 1), stem_width=8, heads=4, output_width=24)
    model = new(vision=vision, seen="grid", image=ImageConfig(size=32))
    assert model.prefix(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 16)


def test_text_without_pictures_is_read_as_the_language_model_reads_it() -> None:
    model = new()
    text = document(model, "a red cube")._replace(pixels=None)
    x, same, positions = model.embed(text)
    assert same is text and torch.equal(x, model.lm.embed(text.tokens))
    assert torch.equal(positions[0], torch.arange(text.tokens.shape[1]))


def test_presets_build(tmp_path: Path) -> None:
    for name in ("tiny", "tiny_pooled"):
        model = Frozen.new(PRESETS[name], TEXTS, seed=0)
        vectors = model.prefix(torch.zeros(1, 3, 64, 64)).shape[1]
        assert vectors == (64 if name == "tiny" else 4)
        assert math.isfinite(sum(p.sum().item() for p in model.parameters()))
