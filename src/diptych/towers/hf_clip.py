"""CLIP's two towers in Hugging Face's words: configs and weights, there and back.

Names on the Hugging Face side are those inside a whole `CLIPModel` ("vision_model....", "text_model....").
Keys of other parts (projections, logit scale, the other tower) are left out: a whole checkpoint can be passed in.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diptych.towers.configs import TextTransformerConfig, ViTConfig
from diptych.types import InputError

_LAYER = {
    "self_attn": "attention",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp": "mlp",
}
_VISION = {
    "embeddings.class_embedding": "class_token",
    "embeddings.patch_embedding.weight": "patches.projection.weight",
    "embeddings.position_embedding.weight": "positions",
    "pre_layrnorm.weight": "embedding_norm.weight",
    "pre_layrnorm.bias": "embedding_norm.bias",
    "post_layernorm.weight": "final_norm.weight",
    "post_layernorm.bias": "final_norm.bias",
}
_TEXT = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positions",
    "final_layer_norm.weight": "final_norm.weight",
    "final_layer_norm.bias": "final_norm.bias",
}
_LEGACY_EOS = 2  # what CLIP configs said before transformers 4.31, while the pooling took the largest token id


def vision_state_from_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of our `ViT` from that of a `CLIPModel` or a `CLIPVisionModel`."""
    return _from_hf(state, "vision_model.", _VISION)


def text_state_from_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of our `TextTransformer` from that of a `CLIPModel` or a `CLIPTextModel`."""
    return _from_hf(state, "text_model.", _TEXT)


def vision_state_to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way: our `ViT`'s state dict as the "vision_model." part of a `CLIPModel`."""
    return _to_hf(state, "vision_model.", _VISION)


def text_state_to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way: our `TextTransformer`'s state dict as the "text_model." part of a `CLIPModel`."""
    return _to_hf(state, "text_model.", _TEXT)


def vision_config_from_hf(config: Mapping[str, Any]) -> ViTConfig:
    """The `ViTConfig` of the "vision_config" in a CLIP `config.json`; what it leaves out is ViT-B/32."""
    default = ViTConfig()
    width = config.get("hidden_size", default.width)
    return ViTConfig(
        image_size=config.get("image_size", default.image_size),
        patch_size=config.get("patch_size", default.patch_size),
        width=width,
        layers=config.get("num_hidden_layers", default.layers),
        heads=config.get("num_attention_heads", default.heads),
        mlp_ratio=config.get("intermediate_size", 3072) / width,
        activation=_activation(config),
        norm_eps=config.get("layer_norm_eps", default.norm_eps),
    )


def text_config_from_hf(config: Mapping[str, Any]) -> TextTransformerConfig:
    """The `TextTransformerConfig` of the "text_config" in a CLIP `config.json`; what it leaves out is ViT-B/32's.

    An `eos_token_id` of 2 marks an old config: pooling is then at the largest token id, as in transformers.
    """
    default = TextTransformerConfig()
    width = config.get("hidden_size", default.width)
    eos_id = config.get("eos_token_id", default.eos_id)
    return TextTransformerConfig(
        vocab_size=config.get("vocab_size", default.vocab_size),
        context_length=config.get("max_position_embeddings", default.context_length),
        width=width,
        layers=config.get("num_hidden_layers", default.layers),
        heads=config.get("num_attention_heads", default.heads),
        mlp_ratio=config.get("intermediate_size", 2048) / width,
        activation=_activation(config),
        pooling="eot_argmax" if eos_id == _LEGACY_EOS else "eot_first",
        eos_id=eos_id,
        norm_eps=config.get("layer_norm_eps", default.norm_eps),
    )


def vision_config_to_hf(config: ViTConfig) -> dict[str, Any]:
    """The "vision_config" of a CLIP `config.json`. Raises `InputError` where Hugging Face's CLIP has no such ViT."""
    if config.pooling != "cls" or not config.embedding_norm or config.patch_bias:
        raise InputError(
            "ViTConfig: Hugging Face's CLIP needs pooling 'cls', embedding_norm true and patch_bias false, got "
            f"pooling '{config.pooling}', embedding_norm {config.embedding_norm}, patch_bias {config.patch_bias}"
        )
    return {
        "model_type": "clip_vision_model",
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        **_shared_to_hf(config),
    }


def text_config_to_hf(config: TextTransformerConfig) -> dict[str, Any]:
    """The "text_config" of a CLIP `config.json`. Raises `InputError` where Hugging Face's CLIP has no such tower."""
    if not config.causal or config.pooling not in ("eot_first", "eot_argmax"):
        raise InputError(
            "TextTransformerConfig: Hugging Face's CLIP needs causal true and pooling 'eot_first' or 'eot_argmax', got "
            f"causal {config.causal}, pooling '{config.pooling}'"
        )
    return {
        "model_type": "clip_text_model",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "eos_token_id": _LEGACY_EOS if config.pooling == "eot_argmax" else config.eos_id,
        **_shared_to_hf(config),
    }


def _shared_to_hf(config: ViTConfig | TextTransformerConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "intermediate_size": round(config.width * config.mlp_ratio),
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_eps,
        "attention_dropout": config.dropout,
    }


def _activation(config: Mapping[str, Any]) -> Any:
    name = config.get("hidden_act", "quick_gelu")
    if name not in ("gelu", "quick_gelu"):
        raise InputError(f"config.json: hidden_act: expected 'gelu' or 'quick_gelu', got {name!r}")
    return name


def _from_hf(state: Mapping[str, Tensor], prefix: str, names: dict[str, str]) -> dict[str, Tensor]:
    whole = any(key.startswith(("vision_model.", "text_model.")) for key in state)
    mapped = {}
    for key, value in state.items():
        if whole and not key.startswith(prefix):
            continue
        bare = key.removeprefix(prefix)
        if match := re.fullmatch(r"encoder\.layers\.(\d+)\.(\w+)\.(.+)", bare):
            mapped[f"transformer.layers.{match[1]}.{_LAYER[match[2]]}.{match[3]}"] = value
        elif bare in names:
            mapped[names[bare]] = value
    return mapped


def _to_hf(state: Mapping[str, Tensor], prefix: str, names: dict[str, str]) -> dict[str, Tensor]:
    layer, others = {ours: theirs for theirs, ours in _LAYER.items()}, {ours: theirs for theirs, ours in names.items()}
    mapped = {}
    for key, value in state.items():
        if match := re.fullmatch(r"transformer\.layers\.(\d+)\.(\w+)\.(.+)", key):
            mapped[f"{prefix}encoder.layers.{match[1]}.{layer[match[2]]}.{match[3]}"] = value
        else:
            mapped[prefix + others[key]] = value
    return mapped
