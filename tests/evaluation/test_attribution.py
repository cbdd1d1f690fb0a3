"""Where words came from: on a model whose words look at known places, and on a real family."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import diptych
from diptych import models
from diptych.blocks.attention import KeyValues
from diptych.data import masks
from diptych.evaluation.attribution import attribute, draw_words, evaluate_attribution
from diptych.evaluation.attribution.judge import named
from diptych.evaluation.attribution.maps import best_window, enlarged, read
from diptych.models import virtex
from diptych.models.virtex import VirTex
from diptych.models.visualgpt import PRESETS, VisualGPT
from diptych.processing import ImageConfig, ImageProcessor, Normalize, PairProcessor, TextProcessor
from diptych.types import InputError, Losses, Mask, Object, Reply, Sample

SIZE = 32
TEXT = "a red cube, and a blue ball."


class Looks(nn.Module):
    """ln p(red) is what stands in the upper left quarter, ln p(blue) what stands in the lower right; others: nothing.

    It learns nothing and says the same of every picture.
    """

    def __init__(self, honest=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        text = TextProcessor.train([TEXT] * 9, 400, 32)
        self.processor = PairProcessor(ImageProcessor(ImageConfig(size=SIZE)), text)
        self.normalize = Normalize((0.0,) * 3, (1.0,) * 3)
        half = SIZE // 2
        corner, other = (slice(0, half), slice(0, half)), (slice(half, SIZE), slice(half, SIZE))
        self.of = dict(zip(("red", "blue"), (corner, other) if honest else (other, corner)))

    def caption(self, pictures):
        return [Reply(TEXT, 1.0)] * len(pictures)

    def forward(self, batch):
        logs = torch.zeros(batch.tokens.shape)
        pixels = self.normalize(batch.pixels)
        for word, (rows, columns) in self.of.items():
            (token,) = self.processor.text.tokenizer.encode(f" {word}", add_special_tokens=False).ids
            squares = (pixels[:, :, rows, columns] - 0.5) ** 2
            logs = torch.where(batch.tokens == token, squares.mean(dim=(1, 2, 3))[:, None] - 1, logs)
        total = -logs[batch.target_mask].mean() * self.weight
        return Losses(total, {})


def scene(tmp_path, count=6):
    """Pictures with something dark in the upper left, a red cube, and in the lower right, a blue ball."""
    from diptych.data.store import DatasetWriter

    quarter = np.zeros((SIZE, SIZE), dtype=bool)
    quarter[: SIZE // 2, : SIZE // 2] = True
    things = [("cube", "red", quarter), ("sphere", "blue", quarter[::-1, ::-1])]
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "quarters", name="quarters") as writer:
        for i in range(count):
            pixels = np.full((SIZE, SIZE, 3), 128, dtype=np.uint8)
            for _, _, mask in things:
                pixels[mask] = rng.integers(0, 25, 3)
            Image.fromarray(pixels).save(tmp_path / f"{i}.png")
            objects = [
                Object(name, None, masks.encode(np.ascontiguousarray(m)), [colour]) for name, colour, m in things
            ]
            image = diptych.types.EncodedImage(data=(tmp_path / f"{i}.png").read_bytes())
            writer.write(Sample(str(i), [image], [TEXT], objects=objects))
    return diptych.open_dataset(tmp_path / "quarters")


def test_gradients_find_what_each_word_looks_at(tmp_path):
    world, model = scene(tmp_path), Looks()
    maps = attribute(model, world[0].images[0].data, TEXT, cells=4)
    assert [one.word for one in maps] == ["a", "red", "cube", "and", "a", "blue", "ball"]
    red, blue = maps[1], maps[5]
    assert red.map.shape == (4, 4) and red.map.sum() == pytest.approx(1)
    assert red.map[:2, :2].sum() == pytest.approx(1) and blue.map[2:, 2:].sum() == pytest.approx(1)
    assert np.allclose(maps[0].map, 1 / 16), "it looks nowhere"
    value = world[0].images[0].data and np.asarray(Image.open(tmp_path / "0.png"))[0, 0] / 255
    assert red.log_prob == pytest.approx(float(((value - 0.5) ** 2).mean()) - 1, abs=1e-5)


def test_the_judge_tells_a_model_that_looks_at_the_thing_from_one_that_does_not(tmp_path):
    world = scene(tmp_path)
    good, bad = (evaluate_attribution(Looks(honest), world) for honest in (True, False))
    # red, cube, blue, ball; cube and ball look nowhere, and an even map points at its first pixel: on the cube
    assert good.words == 24 and good.estimates["attribution/pointing"].value == pytest.approx(3 / 4)
    assert bad.estimates["attribution/pointing"].value == pytest.approx(1 / 4)
    assert good.estimates["attribution/pointing"].chance == pytest.approx(1 / 4)
    # a square of 10 x 10 pixels within the quarter that is looked at costs more than one anywhere
    top, gap = good.estimates["attribution/drop_top"], good.estimates["attribution/drop_gap"]
    assert top.value > 2 * good.estimates["attribution/drop_random"].value > 0 and gap.low > 0 == gap.chance


def test_a_word_is_about_all_things_that_it_names(tmp_path):
    sample = scene(tmp_path, 1)[0]
    assert np.array_equal(named(sample, "Ball"), named(sample, "blue")) and named(sample, "block").mean() == 0.25
    assert named(sample, "cubes") is not None and named(sample, "and") is None and named(sample, "green") is None
    unmasked = Sample("x", objects=[Object("cube")])
    assert named(unmasked, "cube") is None
    empty = Sample("x", objects=[Object("cube", mask=masks.encode(np.zeros((4, 4), dtype=bool)))])
    assert isinstance(empty.objects[0].mask, Mask) and named(empty, "cube") is None


def test_the_best_window_by_hand():
    map = np.zeros((4, 4), dtype=np.float32)
    map[2, 3], map[3, 3], map[0, 0] = 0.4, 0.3, 0.3
    assert best_window(map, 1) == (2, 3) and best_window(map, 2) == (2, 2)
    assert enlarged(map, 8, 8).argmax() // 8 in (4, 5)


@pytest.fixture(scope="module")
def family():
    tiny = PRESETS["tiny-plain"]
    lm = dataclasses.replace(tiny.lm, vocab_size=400, width=32, heads=2, layers=1)
    return VisualGPT.new(dataclasses.replace(tiny, lm=lm, image=ImageConfig(size=SIZE)), [TEXT] * 9).eval()


def test_attention_maps_are_the_weights_that_the_model_used(family):
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    maps = attribute(family, picture, TEXT, "attention")
    attention = family.lm.layers[0].cross.attention
    given = []
    handle = attention.register_forward_pre_hook(lambda _, args: given.append(args))
    text = read(family, picture, TEXT, torch.device("cpu"))
    with torch.no_grad():
        family(text.asked(0))
        handle.remove()
        x, memory = given[0]
        cells = memory.shape[1]
        # values that are the cells' own numbers make attention give back its weights, head by head
        keys = attention.key_values(memory).keys
        values = torch.eye(cells)[None, None].expand(1, 2, cells, cells)
        weights = []
        attention.out_proj, old = nn.Identity(), attention.out_proj
        weights = attention(x, KeyValues(keys, values)).view(1, -1, 2, cells).mean(dim=2)[0]
        attention.out_proj = old
    assert cells == 16 and maps[1].map.shape == (4, 4)
    for one, (place, *_) in zip(maps, text.places):
        assert np.allclose(one.map.ravel(), weights[place - 1].numpy(), atol=1e-5)


@pytest.mark.parametrize("cross", ["srau", "srau-code", "aoa"])
def test_every_unit_has_maps_both_ways(cross):
    tiny = PRESETS["tiny"]
    config = dataclasses.replace(tiny, cross=cross, lm=dataclasses.replace(tiny.lm, vocab_size=400, width=32, layers=1))
    model = VisualGPT.new(config, [TEXT] * 9)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for how in ("attention", "gradient"):
        maps = attribute(model, picture, TEXT, how)
        assert len(maps) == 7 and all(one.map.min() >= 0 and one.map.sum() == pytest.approx(1) for one in maps)
        assert all(one.log_prob < 0 for one in maps)
    assert model.training, "it is left as it was"


def test_virtex_is_asked_for_words_by_its_forward_decoder():
    model = VirTex.new(virtex.PRESETS["tiny"], [TEXT] * 9)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for how in ("attention", "gradient"):
        maps = attribute(model, picture, TEXT, how)
        assert len(maps) == 7 and all(one.map.sum() == pytest.approx(1) for one in maps)
    assert maps[0].map.shape == (16, 16) and attribute(model, picture, TEXT, "attention")[0].map.shape == (8, 8)
    text = read(model.eval(), picture, TEXT, torch.device("cpu"))
    with torch.no_grad():
        hidden = model.decoder(model.decoder.embed(text.tokens), memory=model.grid(text.pixels))
        logs = model.decoder.logits(hidden)[0].log_softmax(dim=-1)
    for one, places in zip(maps, text.places):
        said = sum(float(logs[place - 1, text.tokens[0, place]]) for place in places)
        assert one.log_prob == pytest.approx(said, abs=1e-3)
    with pytest.raises(InputError, match="captions alone"):
        model.train()(text.asked(0))


def test_what_cannot_be_looked_into_is_refused(family, tmp_path):
    picture = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="attend to the grid"):
        attribute(Looks(), picture, TEXT, "attention")
    with pytest.raises(InputError, match="expected attention or gradient"):
        attribute(family, picture, TEXT, "eyes")
    with pytest.raises(InputError, match="family of ours"):
        attribute(object(), picture, TEXT)
    with pytest.raises(InputError, match="that writes"):
        attribute(models.family("clip").new(models.family("clip").PRESETS["tiny"], [TEXT]), picture, TEXT)
    with pytest.raises(InputError, match="expected words"):
        attribute(family, picture, "...")
    with pytest.raises(InputError, match="no word of a caption"):
        evaluate_attribution(Looks(), diptych.open_dataset("clipart").select(range(2)))


def test_the_picture_shows_every_word(family, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    maps = attribute(family, picture, TEXT, "attention")
    drawn = Image.open(draw_words(picture, maps, tmp_path / "new" / "words.png"))
    assert drawn.width > 900 and len(drawn.convert("RGB").getcolors(1 << 20)) > 50
    with pytest.raises(InputError, match=r"\.png"):
        draw_words(picture, maps, tmp_path / "words.txt")
