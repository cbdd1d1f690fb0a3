"""From a tower's config to the tower, with fresh weights from torch's global random state."""

import dataclasses
from typing import Any

from diptych.blocks.efficientnet import EfficientNet
from diptych.blocks.modified_resnet import ModifiedResNet
from diptych.blocks.resnet import ResNet
from diptych.towers.configs import (
    DecoderConfig,
    EfficientNetConfig,
    HFVisionConfig,
    LanguageConfig,
    ModifiedResNetConfig,
    ResNetConfig,
    TextConfig,
    TextTransformerConfig,
    VisionConfig,
    ViTConfig,
)
from diptych.towers.decoder import Decoder
from diptych.towers.hf_language import HFLanguage
from diptych.towers.huggingface import HFText, HFVision
from diptych.towers.text import TextTransformer
from diptych.towers.vision import ConvTower, ViT

TextModule = TextTransformer | HFText
LanguageModule = Decoder | HFLanguage
VisionModule = ViT | ConvTower | HFVision


def build_vision(config: VisionConfig) -> VisionModule:
    """The vision tower that `config` describes. Seed torch beforehand to get the same weights again."""
    fields = _fields(config)
    match config:
        case ViTConfig():
            return ViT(**fields)
        case ResNetConfig():
            return ConvTower(ResNet(**fields))
        case ModifiedResNetConfig():
            return ConvTower(ModifiedResNet(**fields))
        case EfficientNetConfig():
            return ConvTower(EfficientNet(**fields))
        case HFVisionConfig():
            return HFVision(**fields)


def build_text(config: TextConfig) -> TextModule:
    """The text tower that `config` describes. Seed torch beforehand to get the same weights again."""
    fields = _fields(config)
    return TextTransformer(**fields) if isinstance(config, TextTransformerConfig) else HFText(**fields)


def build_language(config: LanguageConfig) -> LanguageModule:
    """The language model that `config` describes. Seed torch beforehand to get the same weights again."""
    return Decoder(config) if isinstance(config, DecoderConfig) else HFLanguage(config.config)


def _fields(config: Any) -> dict[str, Any]:
    """Configs and constructors share their names, so that the fields but `kind` are the arguments."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name != "kind"}
