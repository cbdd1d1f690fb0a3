"""The presets over downloaded weights: they build, and their towers see what they were trained on."""

import numpy as np
import pytest
import torch

from diptych.models.asif import ASIF
from diptych.models.asif import PRESETS as ASIF_PRESETS
from diptych.models.lit import PRESETS as LIT_PRESETS
from diptych.models.lit import LiT
from diptych.towers import load_vision

pytestmark = pytest.mark.slow
CAPTIONS = ["a red square", "a green square"]


@pytest.mark.parametrize("name", sorted(name for name, config in LIT_PRESETS.items() if config.image_address))
def test_lit(name: str) -> None:
    model = LiT.new(LIT_PRESETS[name], CAPTIONS).eval()
    assert model.processor is not None
    picture = model.processor.decode_image(np.full((300, 200, 3), 200, np.uint8))
    losses = model(model.processor.collate(["a", "b"], [picture, 255 - picture], CAPTIONS))
    assert torch.isfinite(losses.total) and model.visual.width == 1280


def test_asif_tells_classes_apart_by_the_classifiers_rows_alone() -> None:
    config = ASIF_PRESETS["lite0-minilm"]
    model = ASIF.new(config)
    assert model.processor is not None and config.image_address is not None
    rows = load_vision(config.image_address).classifier
    assert rows is not None
    # ImageNet's classes 920, 971 and 963 in its own order
    names = ["traffic light", "bubble", "pizza"]
    features = model.text_features(*model.processor.text(names))
    model.pairs_from_classifier(rows[[920, 971, 963]], features, names)
    light = np.zeros((224, 224, 3), np.uint8)
    light[20:200, 80:144] = 40
    y, x = np.mgrid[:224, :224]
    for centre, colour in ((50, (255, 40, 40)), (110, (60, 50, 0)), (170, (0, 60, 30))):
        light[(y - centre) ** 2 + (x - 112) ** 2 < 22**2] = colour
    pixels = model.processor.collate(["light"], [light], None).pixels
    assert pixels is not None
    texts = model.encode_text(
        *model.processor.text(["a traffic light at a crossing", "soap bubbles", "a slice of pizza"])
    )
    scores = (model.encode_image(pixels) @ texts.t())[0]
    assert scores.argmax() == 0
