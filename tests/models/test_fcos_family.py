"""FCOS: what its network gives, that it finds what it was shown, boxes in the picture's own pixels, folders."""

import numpy as np
import pytest
import torch

import diptych
from diptych import models
from diptych.blocks.boxes import iou
from diptych.capabilities import DetectsObjects, ProposesRegions
from diptych.data.loader import Loader
from diptych.models.fcos import FCOS, FCOSConfig
from diptych.processing import ImageConfig
from diptych.towers import ResNetConfig
from diptych.towers.detector import DetectorConfig
from diptych.types import InputError

CONFIG = FCOSConfig(
    DetectorConfig(vision=ResNetConfig(depths=(1, 1), stem_width=16, block="basic"), width=32, depth=1),
    image=ImageConfig(size=64, resize="squash"),
)
NAMES = ["cone", "cube", "cylinder", "sphere", "torus"]


@pytest.fixture(scope="module")
def world():
    return diptych.open_dataset("scenes:?n=16&size=64&objects=1-3")


def batch_of(world, model):
    return next(
        Loader(world, model.processor, 16, shuffle=False, drop_last=True, sides="images", objects=True).epoch(0)
    )


def test_the_loader_brings_every_box(world):
    batch = batch_of(world, FCOS.new(CONFIG, names=NAMES))
    things = [thing for sample in world.take(range(16), fields={"objects"}) for thing in sample.objects]
    assert len(batch.boxes) == len(things) and batch.box_of.max() == 15
    torch.testing.assert_close(batch.boxes * 64, torch.tensor([thing.box for thing in things]))
    assert [NAMES[name] for name in batch.names] == [thing.name for thing in things]


def test_the_network_gives_boxes_around_its_places():
    model = FCOS.new(CONFIG, names=NAMES).eval()
    found = model.find(torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8))
    assert found.map.shape == (2, 32, 16, 12) and found.logits.shape == (2, 192, 5) and found.boxes.shape == (2, 192, 4)
    x, y = (torch.arange(12) + 0.5) / 12, (torch.arange(16) + 0.5) / 16
    middle = found.boxes.view(2, 16, 12, 4)
    assert (middle[..., 0] < x).all() and (middle[..., 2] > x).all()
    assert (middle[..., 1] < y[:, None]).all() and (middle[..., 3] > y[:, None]).all()
    assert found.logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.3), "a fresh detector sees nothing"


def test_a_batch_without_things_teaches_that_there_is_nothing(world):
    model = FCOS.new(CONFIG, names=NAMES)
    batch = batch_of(world, model)
    batch.boxes, batch.box_of, batch.names = batch.boxes[:0], batch.box_of[:0], batch.names[:0]
    losses = model(batch)
    losses.total.backward()
    assert losses.parts["loss/box"] == losses.parts["loss/central"] == 0 and losses.parts["loss/class"] > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_it_finds_what_it_was_shown(world, tmp_path):
    model = FCOS.new(CONFIG, names=NAMES)
    batch = batch_of(world, model)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(160):
        losses = model(batch)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    assert isinstance(model, DetectsObjects) and isinstance(model, ProposesRegions)
    judged = diptych.evaluate(model, world, "detect")
    assert judged.estimates["detect/ap50"].value > 0.8
    assert judged.estimates["detect/recall@20"].value > 0.9

    samples = world.take(range(4), fields={"images", "objects"})
    pictures = [np.asarray(diptych.images.decode(sample.images[0].data)) for sample in samples]
    large = [picture.repeat(2, axis=0).repeat(3, axis=1) for picture in pictures]  # 128 x 192
    for (small, *_), (big, *_) in zip(model.detect(pictures, NAMES), model.detect(large, NAMES)):
        x0, y0, x1, y1 = small.box
        np.testing.assert_allclose(big.box, [x0 * 3, y0 * 2, x1 * 3, y1 * 2], atol=3)
        assert small.name == big.name
    assert model.detect(pictures, ["unicorn"]) == [[]] * 4

    found = model.find(batch.pixels)
    regions = model.detector.regions(found, 5)
    assert regions.features.shape == (16, 5, 32) and regions.classes.shape == (16, 5, 6)
    torch.testing.assert_close(regions.classes.sum(dim=2), torch.ones(16, 5))
    for row in range(16):
        own = regions.boxes[row][regions.there[row]]
        assert (iou(own, own).fill_diagonal_(0) <= 0.7).all()

    models.save(model, tmp_path / "model")
    again = models.load(tmp_path / "model")
    assert again.processor.names == NAMES
    assert again.propose(pictures, 3) == model.propose(pictures, 3)


def test_data_without_boxes_is_told():
    with pytest.raises(InputError, match="expected the class of at least one thing"):
        FCOS.new(CONFIG)
