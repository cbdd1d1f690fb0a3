"""Whole encoders behind two small Protocols, from scratch or pretrained; see `configs` for what there is."""

from diptych.towers.build import TextModule, VisionModule, build_text, build_vision
from diptych.towers.configs import (
    EfficientNetConfig,
    HFTextConfig,
    HFVisionConfig,
    ModifiedResNetConfig,
    ResNetConfig,
    TextConfig,
    TextTransformerConfig,
    VisionConfig,
    ViTConfig,
)
from diptych.towers.outputs import TextOutput, TextTower, VisionOutput, VisionTower

__all__ = [
    "EfficientNetConfig",
    "HFTextConfig",
    "HFVisionConfig",
    "ModifiedResNetConfig",
    "ResNetConfig",
    "TextConfig",
    "TextModule",
    "TextOutput",
    "TextTower",
    "TextTransformerConfig",
    "ViTConfig",
    "VisionConfig",
    "VisionModule",
    "VisionOutput",
    "VisionTower",
    "build_text",
    "build_vision",
]
