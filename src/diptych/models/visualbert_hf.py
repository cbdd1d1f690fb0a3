"""VisualBERT checkpoints in Hugging Face's format: any such folder into our `VisualBERT`, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import read_file
from diptych.models.folder import fill, read_state
from diptych.models.fusion import HeadsConfig
from diptych.models.hf_names import BERT_LAYER, activation, renamed, write_folder
from diptych.models.visualbert import VisualBERT, VisualBERTConfig
from diptych.types import InputError

_NAMES = {
    "text.words.weight": "embeddings.word_embeddings.weight",
    "text.positions.weight": "embeddings.position_embeddings.weight",
    "text.types.weight": "embeddings.token_type_embeddings.weight",
    "text.norm.": "embeddings.LayerNorm.",
    "visual_projection.": "embeddings.visual_projection.",
    "visual_positions.weight": "embeddings.visual_position_embeddings.weight",
    "visual_types.weight": "embeddings.visual_token_type_embeddings.weight",
    "transformer.": "encoder.",
    "pooler.dense.": "pooler.dense.",
}
_HEADS = {
    "heads.words.dense.": "cls.predictions.transform.dense.",
    "heads.words.norm.": "cls.predictions.transform.LayerNorm.",
    "heads.words.bias": "cls.predictions.bias",
    "heads.fits.": "cls.seq_relationship.",
}


def load(folder: Path) -> VisualBERT:
    """The VisualBERT of a Hugging Face folder (config.json with model_type "visual_bert"), in eval mode and float32.

    It reads features of regions, which a detector made (`read_regions`), and no pictures. It has the heads of
    pretraining, where the folder has them; another head is left. Raises `InputError`.
    """
    raw, state = read_file(folder / "config.json"), read_state(folder)
    state = {name.removeprefix("visual_bert."): value for name, value in state.items()}
    if "cls.predictions.decoder.bias" in state:  # another name of the same
        state.setdefault("cls.predictions.bias", state["cls.predictions.decoder.bias"])
    model = VisualBERT(_config(raw, state, folder))
    ours = {}
    for name in model.state_dict():
        theirs = renamed(name, _NAMES | _HEADS, BERT_LAYER)
        if theirs in state:
            ours[name] = _turned(name, state[theirs])
    fill(model, ours, folder)
    return model.eval()


def save_hf(model: VisualBERT, to: str | Path) -> Path:
    """Write `model` so that transformers reads it. Raises `InputError` for what it has no place for.

    That is a tower, places of regions, and a list of answers.
    """
    config, heads = model.config, model.config.heads_for
    if config.regions is not None or config.boxes or heads.answers or heads.answers_of_two:
        raise InputError("visualbert: transformers has no place for a tower, boxes of regions or a list of answers")
    if heads.words != heads.fits:
        raise InputError("visualbert: transformers has the heads of hidden words and of matching together")
    raw = {
        "model_type": "visual_bert",
        "architectures": ["VisualBertForPreTraining" if heads.words else "VisualBertModel"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "visual_embedding_dim": config.features,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": round(config.width * config.mlp_ratio),
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "max_position_embeddings": config.context_length,
        "type_vocab_size": 2,
        "layer_norm_eps": config.norm_eps,
    }
    before = "visual_bert." if heads.words else ""
    state = {}
    for name, value in model.state_dict().items():
        theirs = renamed(name, _NAMES | _HEADS, BERT_LAYER)
        state[theirs if theirs.startswith("cls.") else before + theirs] = _turned(name, value)
    return write_folder(to, raw, state, lambda folder: None)


def _turned(name: str, value: Tensor) -> Tensor:
    """Their head of matching has "fits" first, ours has it second."""
    return value.flip(0) if name.startswith("heads.fits.") else value


def _config(raw: Mapping[str, Any], state: Mapping[str, Tensor], folder: Path) -> VisualBERTConfig:
    activation(raw, folder)
    if raw.get("bypass_transformer"):
        raise InputError(f"{folder / 'config.json'}: bypass_transformer: expected false")
    width = raw.get("hidden_size", 768)
    return VisualBERTConfig(
        regions=None,
        features=raw.get("visual_embedding_dim", 512),
        boxes=False,
        vocab_size=raw.get("vocab_size", 30522),
        context_length=raw.get("max_position_embeddings", 512),
        width=width,
        layers=raw.get("num_hidden_layers", 12),
        heads=raw.get("num_attention_heads", 12),
        mlp_ratio=raw.get("intermediate_size", 4 * width) / width,
        heads_for=HeadsConfig(words="cls.predictions.bias" in state, fits="cls.seq_relationship.weight" in state),
        norm_eps=raw.get("layer_norm_eps", 1e-12),
        dropout=raw.get("hidden_dropout_prob", 0.1),
    )
