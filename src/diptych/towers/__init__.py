"""Whole encoders behind two small Protocols, from scratch or pretrained; see `configs` for what there is."""

from diptych.towers.build import TextModule, VisionModule, build_language, build_text, build_vision
from diptych.towers.configs import (
    DecoderConfig,
    EfficientNetConfig,
    HFLanguageConfig,
    HFTextConfig,
    HFVisionConfig,
    LanguageConfig,
    ModifiedResNetConfig,
    ResNetConfig,
    TextConfig,
    TextTransformerConfig,
    VisionConfig,
    ViTConfig,
)
from diptych.towers.hub import LITE0, MINILM, SMOLLM2, WeightsUnavailable, fetch
from diptych.towers.language_pretrained import PretrainedLanguage, load_language
from diptych.towers.outputs import LanguageModel, TextOutput, TextTower, VisionOutput, VisionTower
from diptych.towers.pretrained import PretrainedText, PretrainedVision, fingerprint, load_text, load_vision

__all__ = [
    "LITE0",
    "MINILM",
    "SMOLLM2",
    "DecoderConfig",
    "EfficientNetConfig",
    "HFLanguageConfig",
    "HFTextConfig",
    "HFVisionConfig",
    "LanguageConfig",
    "LanguageModel",
    "ModifiedResNetConfig",
    "PretrainedLanguage",
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
    "build_language",
    "build_text",
    "build_vision",
    "fetch",
    "fingerprint",
    "load_language",
    "load_text",
    "load_vision",
]
