"""CLIP checkpoints in Hugging Face's format: any such folder into our `CLIP`, and back with the same tensors."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from diptych.config import read_file
from diptych.models.clip import CLIP, CLIPConfig
from diptych.models.folder import fill, move_into_place, read_state, separate
from diptych.processing import ImageConfig, ImageProcessor, PairProcessor, TextProcessor
from diptych.towers import TextTransformerConfig, ViTConfig
from diptych.towers.hf_clip import (
    text_config_from_hf,
    text_config_to_hf,
    text_state_from_hf,
    text_state_to_hf,
    vision_config_from_hf,
    vision_config_to_hf,
    vision_state_from_hf,
    vision_state_to_hf,
)
from diptych.types import InputError

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
# ours -> theirs, beside the two towers
_OTHERS = {
    "visual_projection.weight": "visual_projection.weight",
    "text_projection.weight": "text_projection.weight",
    "head.logit_scale": "logit_scale",
}


def load(folder: Path) -> CLIP:
    """The CLIP of a Hugging Face folder (config.json with model_type "clip"), in eval mode and float32.

    A folder without a tokenizer gives a model whose `processor` is None. Raises `InputError`.
    """
    raw = read_file(folder / "config.json")
    vision = vision_config_from_hf(_part(raw, "vision"))
    text = text_config_from_hf(_part(raw, "text"))
    if (folder / "preprocessor_config.json").is_file():
        image = ImageProcessor.load(folder).config
    else:
        image = ImageConfig(size=vision.image_size)
    config = CLIPConfig(vision, text, image, embed_dim=raw.get("projection_dim", 512))
    processor = None
    if any((folder / name).is_file() for name in _TOKENIZER_FILES):
        processor = PairProcessor(ImageProcessor(image), TextProcessor.load(folder, text.context_length))
    model = CLIP(config, processor)
    state = read_state(folder)
    ours = {f"visual.{name}": value for name, value in vision_state_from_hf(state).items()}
    ours |= {f"textual.{name}": value for name, value in text_state_from_hf(state).items()}
    ours |= {name: state[theirs] for name, theirs in _OTHERS.items() if theirs in state}
    fill(model, ours, folder)
    return model.eval()


def save_hf(model: CLIP, to: str | Path) -> Path:
    """Write `model` so that `transformers.CLIPModel.from_pretrained` reads it. A loaded model comes back bit-equal.

    Raises `InputError` where Hugging Face's CLIP has no such model: other towers than ViT and a causal text
    transformer, or the sigmoid objective.
    """
    config = model.config
    if not isinstance(config.vision, ViTConfig) or not isinstance(config.text, TextTransformerConfig):
        raise InputError(
            "clip: vision.kind, text.kind: Hugging Face's CLIP has 'vit' and 'transformer', got "
            f"'{config.vision.kind}' and '{config.text.kind}'"
        )
    if config.objective != "softmax":
        raise InputError("clip: objective: Hugging Face's CLIP has the softmax objective only, got 'sigmoid'")
    text = text_config_to_hf(config.text)
    if model.processor is not None:
        words = model.processor.text
        text |= {"bos_token_id": words.bos_id, "pad_token_id": words.pad_id}
    raw = {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": float(model.head.logit_scale.detach()),
        "vision_config": vision_config_to_hf(config.vision) | {"projection_dim": config.embed_dim},
        "text_config": text | {"projection_dim": config.embed_dim},
    }
    ours = model.state_dict()
    state = vision_state_to_hf(_below(ours, "visual.")) | text_state_to_hf(_below(ours, "textual."))
    state |= {theirs: ours[name] for name, theirs in _OTHERS.items()}
    to = Path(to)
    partial = to.with_name(f".{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(separate(state), partial / "model.safetensors", metadata={"format": "pt"})
    if model.processor is not None:
        model.processor.save(partial)
    (partial / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    move_into_place(partial, to)
    return to


def _part(raw: Mapping[str, Any], side: str) -> dict[str, Any]:
    """One tower's config. The first checkpoints have it twice, and "..._config_dict" wins, as in transformers."""
    return {**(raw.get(f"{side}_config") or {}), **(raw.get(f"{side}_config_dict") or {})}


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
