"""Tower configs: strict, told apart by kind, and the same after a round through JSON."""

import json

import pytest
import torch
from pydantic import TypeAdapter

from diptych.config import as_dict
from diptych.towers import (
    EfficientNetConfig,
    HFTextConfig,
    HFVisionConfig,
    ModifiedResNetConfig,
    ResNetConfig,
    TextConfig,
    TextTransformerConfig,
    VisionConfig,
    ViTConfig,
    build_text,
    build_vision,
)
from diptych.types import InputError

VISION = [
    ViTConfig(image_size=32, patch_size=8, width=16, layers=1, heads=2),
    ViTConfig(image_size=32, patch_size=8, width=16, layers=1, heads=2, pooling="mean", embedding_norm=False),
    ResNetConfig(depths=(1, 1, 1, 1), stem_width=4, block="basic"),
    ModifiedResNetConfig(depths=(1, 1, 1, 1), stem_width=4, heads=2, output_width=12, image_size=32),
    EfficientNetConfig(lite=True, width_multiplier=0.1, depth_multiplier=0.2),
    HFVisionConfig(config={"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4], "depths": [1]}),
]
TEXT = [
    TextTransformerConfig(vocab_size=20, context_length=8, width=16, layers=1, heads=2, eos_id=1),
    HFTextConfig(config={"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}),
]


@pytest.mark.parametrize("config", VISION, ids=lambda config: config.kind)
def test_vision_config_goes_through_json_and_builds(config: VisionConfig) -> None:
    again = TypeAdapter(VisionConfig).validate_python(json.loads(json.dumps(as_dict(config))))
    assert again == config
    tower = build_vision(again).eval()
    pooled, tokens = tower(torch.randn(2, 3, 32, 32))
    assert pooled.shape == (2, tower.width)
    assert tokens.shape[0] == 2 and tokens.ndim == 3


@pytest.mark.parametrize("config", TEXT, ids=lambda config: config.kind)
def test_text_config_goes_through_json_and_builds(config: TextConfig) -> None:
    again = TypeAdapter(TextConfig).validate_python(json.loads(json.dumps(as_dict(config))))
    assert again == config
    tower = build_text(again).eval()
    pooled, tokens = tower(torch.randint(0, 20, (2, 5)), torch.ones(2, 5, dtype=torch.bool))
    assert pooled.shape == (2, tower.width)
    assert tokens.shape == (2, 5, 16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ViTConfig(width=30, heads=4), "width 30 is not a multiple of heads 4"),
        (lambda: ViTConfig(image_size=50, patch_size=16), "image_size 50 is not a multiple of patch_size 16"),
        (lambda: ModifiedResNetConfig(image_size=40), "image_size 40 is not a multiple of 32"),
        (lambda: TextTransformerConfig(pooling="cls"), "sees one token only"),
    ],
)
def test_what_cannot_be_built_is_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_same_seed_same_weights() -> None:
    towers = []
    for _ in range(2):
        torch.manual_seed(3)
        towers.append(build_vision(VISION[0]).state_dict())
    assert all(torch.equal(value, towers[1][name]) for name, value in towers[0].items())
