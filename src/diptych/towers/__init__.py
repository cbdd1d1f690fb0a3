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
from diptych.towers.hub import LITE0, MINILM, WeightsUnavailable, fetch
from diptych.towers.outputs import TextOutput, TextTower, VisionOutput, VisionTower
from diptych.towers.pretrained import PretrainedText, PretrainedVision, fingerprint, load_text, load_vision

__all__ = [
    "LITE0",
    "MINILM",
    "EfficientNetConfig",
    "HFTextConfig",
    "HFVisionConfig",
    "ModifiedResNetConfig",
    "PretrainedText",
    "PretrainedVision",
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
    "WeightsUnavailable",
    "build_text",
    "build_vision",
    "fetch",
    "fingerprint",
    "load_text",
    "load_vision",
]
