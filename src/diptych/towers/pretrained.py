"""Pretrained towers: from an address to a config, its weights, and what they want of pictures and texts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diptych.config import parse, read_file
from diptych.towers.configs import EfficientNetConfig, HFTextConfig, HFVisionConfig, VisionConfig
from diptych.towers.hub import fetch
from diptych.towers.huggingface import Pooling, encoder
from diptych.types import InputError

_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's numbers


@dataclass(frozen=True)
class PretrainedVision:
    """A vision tower to be built with `build_vision(config)` and filled with `state_dict`.

    Attributes:
        image: what it wants of pictures, as the fields of `processing.ImageConfig`.
        classifier: rows of the linear classifier that it was trained with, one a class, on `pooled`; None without one.
    """

    config: VisionConfig
    state_dict: dict[str, Tensor]
    image: dict[str, Any]
    classifier: Tensor | None = None


@dataclass(frozen=True)
class PretrainedText:
    """A text tower to be built with `build_text(config)` and filled with `state_dict`; `max_length` is in tokens."""

    config: HFTextConfig
    state_dict: dict[str, Tensor]
    tokenizer_file: Path
    max_length: int


def fingerprint(tower: nn.Module) -> str:
    """A short hash of all tensors of a tower, with their names and types: equal for equal weights."""
    digest = hashlib.sha256()
    for name, value in tower.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def load_vision(address: str | Path, *, pooling: Pooling | None = None) -> PretrainedVision:
    """Read a vision tower: of a model or run of ours, of a Hugging Face folder, or EfficientNet's PyTorch port.

    Of a model with more than one tower (CLIP, VirTex) the vision tower is taken. Without `pooling` it is the model's
    own pooler where the checkpoint has its weights, else the class token. Raises `InputError` and `WeightsUnavailable`.
    """
    folder = fetch(address)
    for own in (folder / "model", folder):  # a run's folder, whose own config.json has a family too, or a model's
        if (own / "config.json").is_file() and "family" in read_file(own / "config.json"):
            return _load_own_vision(own)
    if (folder / "config.json").is_file():
        return _load_hf_vision(folder, pooling)
    for file in sorted(folder.glob("*.pt*")):
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a foreign or broken file leads to
            raise InputError(f"{file}: cannot be read as a PyTorch checkpoint: {_short(error)}") from error
        if isinstance(state, Mapping) and "_conv_stem.weight" in state:
            return _load_efficientnet(state, str(file))
    raise InputError(
        f"{address}: expected a folder with config.json (Hugging Face) or an EfficientNet .pth; found neither"
    )


def load_text(address: str | Path, *, pooling: Pooling | None = None) -> PretrainedText:
    """Read a text tower: a Hugging Face or sentence-transformers folder with a `tokenizer.json`.

    Of a model with two towers (CLIP, SigLIP) the text tower is taken. Without `pooling` it is what
    sentence-transformers' files say, else "mean". Raises `InputError` and `WeightsUnavailable`.
    """
    folder = fetch(address)
    told, folder = _sentence_transformer(folder)
    data = _hf_config(folder, "text_config")
    pooling = pooling or told or "mean"
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise InputError(
            f"{folder}: expected a tokenizer.json (a fast tokenizer); save one with transformers' AutoTokenizer"
        )
    state, missing = _hf_state(folder, data, pooling)
    _refuse_missing(folder, missing)
    return PretrainedText(
        config=HFTextConfig(config=data, pooling=pooling),
        state_dict=state,
        tokenizer_file=tokenizer,
        max_length=_max_length(folder, data),
    )


# ---------------------------------------------------------------- our own models

_OWN = "visual."  # every family of ours keeps its vision tower under this name, and its config under "vision"


def _load_own_vision(folder: Path) -> PretrainedVision:
    file, weights = folder / "config.json", folder / "model.safetensors"
    fields = read_file(file).get("config")
    if not isinstance(fields, dict) or not isinstance(fields.get("vision"), dict):
        raise InputError(f"{file}: config.vision: expected a model with a vision tower")
    config = parse(_Vision, {"vision": fields["vision"]}, str(file)).vision
    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{weights}: cannot be read as safetensors: {error}") from None
    state = {name.removeprefix(_OWN): value for name, value in tensors.items() if name.startswith(_OWN)}
    image = {
        key: tuple(value) if isinstance(value, list) else value for key, value in (fields.get("image") or {}).items()
    }
    return PretrainedVision(config, state, image)


@dataclass(frozen=True)
class _Vision:
    vision: VisionConfig


# ---------------------------------------------------------------- EfficientNet's PyTorch port


def _load_efficientnet(state: Mapping[str, Tensor], source: str) -> PretrainedVision:
    """Weights that were converted from TensorFlow's; Lite has no squeeze-and-excitation.

    Lite's pictures were scaled as (x - 127) / 128, the others' by ImageNet's mean and deviation; both with bicubic
    interpolation, of 224 px for B0 and Lite0.
    """
    lite = not any("_se_reduce" in key for key in state)
    if state["_conv_stem.weight"].shape[0] != 32 or len({key.split(".")[1] for key in state if "_blocks" in key}) != 16:
        raise InputError(f"{source}: expected EfficientNet-B0 or -Lite0 (stem of 32 channels, 16 blocks)")
    image: dict[str, Any] = {"size": 224, "resize": "crop", "interpolation": "bicubic"}
    if lite:
        image |= {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    else:
        image |= {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    config = EfficientNetConfig(lite=lite)
    return PretrainedVision(config, efficientnet_state_from_port(state), image, state.get("_fc.weight"))


def efficientnet_state_from_port(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of our EfficientNet tower from the names of the EfficientNet-PyTorch port, classifier left out."""
    parts = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm"}
    steps = {"_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv"}
    steps |= {"_bn1": "depthwise.norm", "_se_reduce": "excite.reduce", "_se_expand": "excite.expand"}
    steps |= {"_project_conv": "project.conv", "_bn2": "project.norm"}
    mapped = {}
    for key, value in state.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            mapped[f"trunk.blocks.{match[1]}.{steps[match[2]]}.{match[3]}"] = value
        elif not key.startswith("_fc."):
            part, _, leaf = key.partition(".")
            mapped[f"trunk.{parts[part]}.{leaf}"] = value
    return mapped


# ---------------------------------------------------------------- Hugging Face folders


def _load_hf_vision(folder: Path, pooling: Pooling | None) -> PretrainedVision:
    data = _hf_config(folder, "vision_config")
    image = _hf_image(folder)
    state, missing = _hf_state(folder, data, pooling or "pooler")
    if pooling is None and any("pool" in key for key in missing):
        pooling = "cls"
        state, missing = _hf_state(folder, data, pooling)
    _refuse_missing(folder, missing)
    return PretrainedVision(HFVisionConfig(config=data, pooling=pooling or "pooler"), state, image)


def _hf_image(folder: Path) -> dict[str, Any]:
    """What `preprocessor_config.json` says, as the fields of `processing.ImageConfig`."""
    file = folder / "preprocessor_config.json"
    data = read_file(file)
    size = data.get("size", 224)
    edge = size if isinstance(size, int) else size.get("shortest_edge") or size.get("height")
    crop = data.get("crop_size", edge) if data.get("do_center_crop") else edge
    side = crop if isinstance(crop, int) else crop.get("height")
    resample = data.get("resample", 3)
    if not isinstance(edge, int) or not isinstance(side, int) or resample not in range(len(_RESAMPLING)):
        raise InputError(f"{file}: size, crop_size, resample: expected sides in pixels and 0 to 5, got {data}")
    squash = isinstance(size, dict) and "height" in size and not data.get("do_center_crop")
    if not data.get("do_center_crop") and isinstance(data.get("crop_pct"), float):
        edge, squash = int(side / data["crop_pct"]), side >= 384  # as ConvNeXt's processor does
    normalised = data.get("do_normalize", True)
    return {
        "size": side,
        "resize": "squash" if squash else "crop",
        "interpolation": _RESAMPLING[resample],
        "short_side": edge if edge > side and not squash else None,
        "mean": tuple(data["image_mean"]) if normalised else (0.0,) * 3,
        "std": tuple(data["image_std"]) if normalised else (1.0,) * 3,
    }


def _hf_config(folder: Path, tower: Literal["vision_config", "text_config"]) -> dict[str, Any]:
    """`config.json`, or the part of it that describes one tower, without what only tells where it came from."""
    from transformers import AutoConfig

    data = read_file(folder / "config.json")
    if isinstance(data.get(tower), dict):
        whole = AutoConfig.for_model(**data)
        data = {**data[tower], "model_type": getattr(whole, tower).model_type}
    provenance = {"_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype"}
    return {key: value for key, value in data.items() if key not in provenance}


def _hf_state(folder: Path, data: dict[str, Any], pooling: Pooling) -> tuple[dict[str, Tensor], set[str]]:
    """The weights under the names that the wrapped model has them by, and the names that the checkpoint lacks."""
    from transformers import AutoConfig, AutoModel

    missing: set[str] = set()

    def build(**options: Any) -> Any:
        config = AutoConfig.for_model(**data)
        model, info = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
        )
        missing.update(info["missing_keys"])
        return model

    try:
        with _quiet():
            model = encoder(build, pooler=pooling == "pooler")
    except Exception as error:  # whatever a foreign or broken folder leads to
        raise InputError(f"{folder}: transformers cannot load it: {_short(error)}") from error
    return {f"model.{key}": value for key, value in model.state_dict().items()}, missing


def _refuse_missing(folder: Path, missing: set[str]) -> None:
    """Weights that stay random would be used in silence."""
    if missing:
        raise InputError(f"{folder}: the checkpoint lacks {len(missing)} tensors of the model, e.g. {min(missing)}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no report on a pooler that was left out on purpose; what lacks is checked by the caller."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _sentence_transformer(folder: Path) -> tuple[Pooling | None, Path]:
    """The pooling that sentence-transformers' files ask for (None without such files), and the model's own folder."""
    file = folder / "modules.json"
    if not file.is_file():
        return None, folder
    try:
        modules = [
            (module["type"].rsplit(".", 1)[-1], folder / module["path"]) for module in json.loads(file.read_text())
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{file}: expected a list of modules with 'type' and 'path'") from None
    pooling: Pooling | None = None
    for kind, path in modules:
        if kind == "Transformer":
            folder = path
        elif kind == "Pooling":
            pooling = _pooling(path / "config.json")
        elif kind != "Normalize":  # rows are normalised by whoever compares them
            raise InputError(f"{file}: expected Transformer, Pooling and Normalize modules, got {kind}")
    return pooling, folder


def _pooling(file: Path) -> Pooling:
    config = read_file(file)
    modes = [
        key.removeprefix("pooling_mode_")
        for key, on in config.items()
        if key.startswith("pooling_mode_") and on is True
    ]
    modes = modes or [config.get("pooling_mode", "")]
    if modes in (["mean_tokens"], ["mean"]):
        return "mean"
    if modes in (["cls_token"], ["cls"]):
        return "cls"
    raise InputError(f"{file}: pooling: expected mean or cls, got {' and '.join(modes)}")


def _max_length(folder: Path, data: dict[str, Any]) -> int:
    """The longest text in tokens: as sentence-transformers, the tokenizer or the model says, the first that does."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        file = folder / name
        value = read_file(file).get(key) if file.is_file() else None
        if isinstance(value, int) and value < 1_000_000:  # transformers writes 1e30 for "unknown"
            return value
    return int(data.get("max_position_embeddings", 512))
