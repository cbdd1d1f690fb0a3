"""FLAVA checkpoints in Hugging Face's format: any such folder into our `FLAVA`, and back with the same tensors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.config import read_file
from diptych.models.dvae import CodebookConfig
from diptych.models.flava import FLAVA, FLAVAConfig
from diptych.models.folder import fill, read_state
from diptych.models.fusion import HeadsConfig
from diptych.models.hf_names import VIT_LAYER, activation, renamed, write_folder
from diptych.processing import ImageConfig, ImageProcessor, TextProcessor
from diptych.processing.fusion import FusionProcessor
from diptych.types import InputError

_IMAGE, _TEXT, _JOINT = "flava.image_model.", "flava.text_model.", "flava.multimodal_model."
_NAMES = {
    "image.patches.projection.": f"{_IMAGE}embeddings.patch_embeddings.projection.",
    "image.class_token": f"{_IMAGE}embeddings.cls_token",
    "image.mask_token": f"{_IMAGE}embeddings.mask_token",
    "image.positions": f"{_IMAGE}embeddings.position_embeddings",
    "image.transformer.": f"{_IMAGE}encoder.",
    "image.norm.": f"{_IMAGE}layernorm.",
    "image.pooler.dense.": f"{_IMAGE}pooler.dense.",
    "text.embedding.words.weight": f"{_TEXT}embeddings.word_embeddings.weight",
    "text.embedding.positions.weight": f"{_TEXT}embeddings.position_embeddings.weight",
    "text.embedding.types.weight": f"{_TEXT}embeddings.token_type_embeddings.weight",
    "text.embedding.norm.": f"{_TEXT}embeddings.LayerNorm.",
    "text.transformer.": f"{_TEXT}encoder.",
    "text.norm.": f"{_TEXT}layernorm.",
    "text.pooler.dense.": f"{_TEXT}pooler.dense.",
    "joint.from_image.": "flava.image_to_mm_projection.",
    "joint.from_text.": "flava.text_to_mm_projection.",
    "joint.class_token": f"{_JOINT}cls_token",
    "joint.transformer.": f"{_JOINT}encoder.",
    "joint.norm.": f"{_JOINT}layernorm.",
    "joint.pooler.dense.": f"{_JOINT}pooler.dense.",
    "visual_projection.": "flava.image_projection.",
    "text_projection.": "flava.text_projection.",
    "head.logit_scale": "flava.logit_scale",
    "codebook.input.": "image_codebook.blocks.input.",
    "codebook.output.": "image_codebook.blocks.output.conv.",
    "heads.fits.0.": "itm_head.pooler.dense.",
    "heads.fits.2.": "itm_head.seq_relationship.",
}
_GUESSING = {
    "heads.words.": "mmm_text_head.",
    "words_alone.": "mlm_head.",
    "patches_alone.": "mim_head.",
    "patches_paired.": "mmm_image_head.",
}
_IN_HEAD = {
    "dense.": "transform.dense.",
    "norm.": "transform.LayerNorm.",
    "output": "decoder.weight",
    "bias": "decoder.bias",
}
_LEADING = (
    "image.class_token",
    "image.mask_token",
    "image.positions",
    "joint.class_token",
)  # theirs: one 1 more, or two


def load(folder: Path) -> FLAVA:
    """The FLAVA of a Hugging Face folder of `FlavaForPreTraining`, in eval mode and float32.

    A folder without a tokenizer gives a model whose `processor` is None. Raises `InputError`, also for a folder without
    the codebook, in whose codes the model guesses.
    """
    raw, state = read_file(folder / "config.json"), read_state(folder)
    config = _config(raw, folder)
    model = FLAVA(config)
    ours = {}
    for name, value in model.state_dict().items():
        theirs = _theirs(name)
        if theirs in state:
            ours[name] = state[theirs].reshape(value.shape) if name in _LEADING else state[theirs]
    fill(model, ours, folder)
    if any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        words = TextProcessor.load(folder, config.context_length)
        model.processor = FusionProcessor(ImageProcessor(config.image), words)
    return model.eval()


def save_hf(model: FLAVA, to: str | Path) -> Path:
    """Write `model` so that `transformers.FlavaForPreTraining` reads it.

    Raises `InputError` for a model that guesses pixels, or has answers, which transformers has no place for.
    """
    config, heads = model.config, model.config.heads_for
    if config.codebook is None or heads.answers or heads.answers_of_two or not (heads.words and heads.fits):
        raise InputError("flava: transformers' FLAVA guesses codes and words, tells pairs apart, and has no answers")
    sizes = {
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": round(config.width * config.mlp_ratio),
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "layer_norm_eps": config.norm_eps,
    }
    raw = {
        "model_type": "flava",
        "architectures": ["FlavaForPreTraining"],
        "hidden_size": config.width,
        "projection_dim": config.embed_dim,
        "init_codebook": True,
        "image_codebook_config": {
            "num_groups": 4,
            "num_blocks_per_group": config.codebook.depth,
            "hidden_size": config.codebook.width,
            "vocab_size": config.codebook.codes,
        },
        "image_config": sizes
        | {
            "num_hidden_layers": config.image_layers,
            "image_size": config.image.size,
            "patch_size": config.patch,
            "vocab_size": config.codebook.codes,
            "mask_token": True,
        },
        "text_config": sizes
        | {
            "num_hidden_layers": config.text_layers,
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.context_length,
            "type_vocab_size": 2,
        },
        "multimodal_config": sizes | {"num_hidden_layers": config.joint_layers, "use_cls_token": True},
    }
    state = {}
    for name, value in model.state_dict().items():
        rows = {"image.positions": value[None]} if name == "image.positions" else {}
        leading = value[None, None] if name in _LEADING else value
        state[_theirs(name)] = rows.get(name, leading)

    def write_processor(folder: Path) -> None:
        if model.processor is not None:
            model.processor.image.save(folder)
            model.processor.text.save(folder)

    return write_folder(to, raw, state, write_processor)


def _theirs(name: str) -> str:
    """The name in transformers of a tensor of ours."""
    block = re.fullmatch(r"codebook\.groups\.(\d+)\.(\d+)\.(identity|branch\.(\d+))\.(weight|bias)", name)
    if block:
        group, number, part, convolution, kind = block.groups()
        inner = "id_path" if part == "identity" else f"res_path.path.conv_{int(convolution) + 1}"
        return f"image_codebook.blocks.group_{int(group) + 1}.group.block_{int(number) + 1}.{inner}.{kind}"
    for ours, theirs in _GUESSING.items():
        if name.startswith(ours):
            return theirs + renamed(name.removeprefix(ours), _IN_HEAD, {})
    return renamed(name, _NAMES, VIT_LAYER)


def _config(raw: Mapping[str, Any], folder: Path) -> FLAVAConfig:
    file = folder / "config.json"
    image, text, joint = (dict(raw.get(f"{name}_config") or {}) for name in ("image", "text", "multimodal"))
    for part in (image, text, joint):
        activation(part, folder)
    for field, usual in (("hidden_size", 768), ("num_attention_heads", 12), ("intermediate_size", 3072)):
        sizes = [part.get(field, usual) for part in (image, text, joint)]
        if len(set(sizes)) > 1:
            raise InputError(f"{file}: {field}: expected the same in all three encoders, got {sizes}")
    codebook = dict(raw.get("image_codebook_config") or {})
    if codebook.get("num_groups", 4) != 4:
        raise InputError(f"{file}: image_codebook_config.num_groups: expected 4, got {codebook['num_groups']}")
    if not joint.get("use_cls_token", True):
        raise InputError(f"{file}: multimodal_config.use_cls_token: expected true")
    width = image.get("hidden_size", 768)
    size = image.get("image_size", 224)
    prepared = ImageProcessor.load(folder).config if (folder / "preprocessor_config.json").is_file() else None
    return FLAVAConfig(
        vocab_size=text.get("vocab_size", 30522),
        context_length=text.get("max_position_embeddings", 512),
        width=width,
        heads=image.get("num_attention_heads", 12),
        mlp_ratio=image.get("intermediate_size", 3072) / width,
        image_layers=image.get("num_hidden_layers", 12),
        text_layers=text.get("num_hidden_layers", 12),
        joint_layers=joint.get("num_hidden_layers", 6),
        patch=image.get("patch_size", 16),
        embed_dim=raw.get("projection_dim", 768),
        codebook=CodebookConfig(
            codes=codebook.get("vocab_size", 8192),
            width=codebook.get("hidden_size", 256),
            depth=codebook.get("num_blocks_per_group", 2),
        ),
        heads_for=HeadsConfig(),
        norm_eps=image.get("layer_norm_eps", 1e-12),
        dropout=image.get("hidden_dropout_prob", 0.0),
        image=prepared or ImageConfig(size=size),
    )
