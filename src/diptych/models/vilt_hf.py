"""ViLT checkpoints in Hugging Face's format: any such folder into our `ViLT`, and back with the same tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.config import read_file
from diptych.models.folder import fill, read_state
from diptych.models.fusion import HeadsConfig
from diptych.models.hf_names import VIT_LAYER, activation, renamed, write_folder
from diptych.models.vilt import ViLT, ViLTConfig
from diptych.processing import ImageConfig, ImageProcessor, TextProcessor
from diptych.processing.fusion import FusionProcessor
from diptych.types import InputError

# ours -> theirs, part by part; a pattern of both directions would say less
_NAMES = {
    "text.words.weight": "embeddings.text_embeddings.word_embeddings.weight",
    "text.positions.weight": "embeddings.text_embeddings.position_embeddings.weight",
    "text.types.weight": "embeddings.text_embeddings.token_type_embeddings.weight",
    "text.norm.": "embeddings.text_embeddings.LayerNorm.",
    "patches.projection.": "embeddings.patch_embeddings.projection.",
    "class_token": "embeddings.cls_token",
    "positions": "embeddings.position_embeddings",
    "modality.weight": "embeddings.token_type_embeddings.weight",
    "transformer.": "encoder.",
    "norm.": "layernorm.",
    "pooler.dense.": "pooler.dense.",
}
_HEADS = {
    "heads.words.dense.": "mlm_score.transform.dense.",
    "heads.words.norm.": "mlm_score.transform.LayerNorm.",
    "heads.words.bias": "mlm_score.decoder.bias",
}
_ROWS = ("class_token", "positions")  # theirs have a leading 1, or two


def load(folder: Path) -> ViLT:
    """The ViLT of a Hugging Face folder (config.json with model_type "vilt"), in eval mode and float32.

    It has the heads that the folder has. A folder without a tokenizer gives a model whose `processor` is None. Raises
    `InputError`.
    """
    raw, state = read_file(folder / "config.json"), read_state(folder)
    state = {name.removeprefix("vilt."): value for name, value in state.items()}
    if "mlm_score.bias" in state:  # as it was called before transformers 5
        state.setdefault("mlm_score.decoder.bias", state["mlm_score.bias"])
    config = _config(raw, state, folder)
    ours: dict[str, Tensor] = {}
    model = ViLT(config)
    for name, value in model.state_dict().items():
        theirs = _theirs(name)
        if theirs == "rank_output":
            row = state[f"rank_output.{name.rsplit('.', 1)[1]}"]
            ours[name] = torch.cat([torch.zeros_like(row), row])  # one logit as the second of two
        elif theirs in state:
            ours[name] = state[theirs].reshape(value.shape) if name in _ROWS else state[theirs]
    fill(model, ours, folder)
    if (folder / "tokenizer.json").is_file() or (folder / "vocab.txt").is_file():
        answers = _answers(raw) if config.heads_for.answers or config.heads_for.answers_of_two else []
        words = TextProcessor.load(folder, config.context_length)
        model.processor = FusionProcessor(ImageProcessor(config.image), words, answers)
    return model.eval()


def save_hf(model: ViLT, to: str | Path) -> Path:
    """Write `model` so that transformers reads it, as the class of the one head that it has.

    Raises `InputError` for a model with several heads, which transformers has no class for.
    """
    config, heads = model.config, model.config.heads_for
    kinds = {
        "ViltForMaskedLM": heads.words,
        "ViltForImageAndTextRetrieval": heads.fits,
        "ViltForQuestionAnswering": bool(heads.answers),
        "ViltForImagesAndTextClassification": bool(heads.answers_of_two),
    }
    own = [name for name, has in kinds.items() if has]
    if len(own) > 1:
        raise InputError(f"vilt: transformers has no class with several heads; this model has {len(own)}")
    raw: dict[str, Any] = {
        "model_type": "vilt",
        "architectures": own or ["ViltModel"],
        "vocab_size": config.vocab_size,
        "type_vocab_size": 2,
        "modality_type_vocab_size": 1 + config.image_types,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": round(config.width * config.mlp_ratio),
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "layer_norm_eps": config.norm_eps,
        "image_size": config.image.size,
        "patch_size": config.patch,
    }
    if heads.answers_of_two:
        raw["num_images"] = 2
    known = list(model.processor.answers) if model.processor is not None else []
    count = heads.answers or heads.answers_of_two
    if count:
        named = known or [str(i) for i in range(count)]
        raw |= {"id2label": dict(enumerate(named)), "label2id": {name: i for i, name in enumerate(named)}}
    state = {}
    for name, value in model.state_dict().items():
        theirs = _theirs(name)
        if theirs == "rank_output":
            state[f"rank_output.{name.rsplit('.', 1)[1]}"] = value[1:] - value[:1]
        else:
            rows = {"class_token": value[None, None], "positions": value[None]}
            head = theirs.startswith(("mlm_score", "classifier"))
            state[theirs if head or not own else f"vilt.{theirs}"] = rows.get(name, value)

    def write_processor(folder: Path) -> None:
        if model.processor is not None:
            model.processor.image.save(folder)
            model.processor.text.save(folder)

    return write_folder(to, raw, state, write_processor)


def _theirs(name: str) -> str:
    """The name in transformers of a tensor of ours."""
    if name.startswith("heads.fits."):
        return "rank_output"
    if name.startswith("heads.answers"):
        return "classifier." + name.split(".", 2)[2]
    return renamed(name, _HEADS | _NAMES, VIT_LAYER)


def _config(raw: Mapping[str, Any], state: Mapping[str, Tensor], folder: Path) -> ViLTConfig:
    sides = raw.get("image_size", 384), raw.get("patch_size", 32)
    if not all(isinstance(side, int) for side in sides):
        raise InputError(f"{folder / 'config.json'}: image_size, patch_size: expected whole numbers, got {sides}")
    activation(raw, folder)
    if not raw.get("qkv_bias", True):
        raise InputError(f"{folder / 'config.json'}: qkv_bias: expected true")
    image = ImageConfig(
        size=sides[0],
        resize="keep",
        long_side=max(sides[0], int(1333 / 800 * sides[0])),
        multiple=sides[1],
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    classes = len(state["classifier.3.bias"]) if "classifier.3.bias" in state else 0
    two = raw.get("num_images", -1) == 2
    width = raw.get("hidden_size", 768)
    return ViLTConfig(
        vocab_size=raw.get("vocab_size", 30522),
        context_length=raw.get("max_position_embeddings", 40),
        width=width,
        layers=raw.get("num_hidden_layers", 12),
        heads=raw.get("num_attention_heads", 12),
        mlp_ratio=raw.get("intermediate_size", 4 * width) / width,
        patch=sides[1],
        heads_for=HeadsConfig(
            words="mlm_score.decoder.bias" in state,
            fits="rank_output.weight" in state,
            answers=0 if two else classes,
            answers_of_two=classes if two else 0,
        ),
        image_types=raw.get("modality_type_vocab_size", 2) - 1,
        norm_eps=raw.get("layer_norm_eps", 1e-12),
        dropout=raw.get("hidden_dropout_prob", 0.0),
        image=image,
    )


def _answers(raw: Mapping[str, Any]) -> list[str]:
    named = raw.get("id2label") or {}
    return [str(named[key]) for key in sorted(named, key=int)]
