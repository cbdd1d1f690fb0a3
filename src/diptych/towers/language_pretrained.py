"""Pretrained language models: from an address to a config, its weights and its tokenizer."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diptych.config import parse, read_file
from diptych.paths import cache_dir
from diptych.towers.configs import HFLanguageConfig, LanguageConfig
from diptych.towers.hf_decoder import decoder_config_from_hf, decoder_state_from_hf
from diptych.towers.hf_language import HFLanguage
from diptych.towers.hub import fetch
from diptych.towers.pretrained import _hf_config, _quiet, _refuse_missing, _short
from diptych.types import InputError

_OWN = "lm."  # families of ours keep their language model under this name, and its config under "lm"
_SEPARATOR = "<|endoftext|>"


@dataclass(frozen=True)
class PretrainedLanguage:
    """A language model to be built with `build_language(config)` and filled with `state_dict`.

    `TextProcessor.for_language(tokenizer_file, max_length, bos, eos)` reads and writes its tokens.

    Attributes:
        max_length: the longest text in tokens that it was made for.
        bos, eos: the tokens that a text starts and ends with. For tokenizers that have "<|endoftext|>" it is both: it
            stands between the documents of their training, while the "eos" of a model that was tuned to chat ends a
            turn. Other models say it in their config.
    """

    config: LanguageConfig
    state_dict: dict[str, Tensor]
    tokenizer_file: Path
    max_length: int
    bos: str
    eos: str


def load_language(address: str | Path) -> PretrainedLanguage:
    """Read a causal language model: of a model or run of ours, of a Hugging Face folder, or a GGUF file in a folder.

    Llama's and GPT-2's architectures become our `Decoder`, any other a model of transformers behind `HFLanguage`. A
    GGUF file is converted once, to float32, and from then on read from the cache; that needs the extra "gguf".
    Raises `InputError` and `WeightsUnavailable`.
    """
    folder = fetch(address)
    for own in (folder / "model", folder):  # a run's folder has a config of its own beside the saved model
        if (own / "config.json").is_file() and "family" in read_file(own / "config.json"):
            return _load_own(own)
    if not (folder / "config.json").is_file():
        files = sorted(folder.glob("*.gguf"))
        if not files:
            raise InputError(f"{address}: expected a folder with config.json or a .gguf file; found neither")
        folder = _converted(files[0])
    if not (folder / "tokenizer.json").is_file():
        raise InputError(
            f"{folder}: expected a tokenizer.json (a fast tokenizer); save one with transformers' AutoTokenizer"
        )
    return _load_hf(folder)


def _load_own(folder: Path) -> PretrainedLanguage:
    file, weights = folder / "config.json", folder / "model.safetensors"
    fields = read_file(file).get("config")
    if not isinstance(fields, dict) or not isinstance(fields.get("lm"), dict):
        raise InputError(f"{file}: config.lm: expected a model with a language model, e.g. of the family 'lm'")
    config = parse(_Language, {"lm": fields["lm"]}, str(file)).lm
    try:
        tensors = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{weights}: cannot be read as safetensors: {error}") from None
    own = {name.removeprefix(_OWN): value for name, value in tensors.items() if name.startswith(_OWN)}
    state = {name: value for name, value in own.items() if ".cross." not in name}  # what looks at pictures stays there
    told = read_file(folder / "tokenizer_config.json")
    try:
        bos, eos, length = str(told["bos_token"]), str(told["eos_token"]), int(told["model_max_length"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{folder / 'tokenizer_config.json'}: expected bos_token, eos_token and model_max_length"
        ) from None
    return PretrainedLanguage(config, state, folder / "tokenizer.json", length, bos, eos)


@dataclass(frozen=True)
class _Language:
    lm: LanguageConfig


def _load_hf(folder: Path) -> PretrainedLanguage:
    from transformers import AutoConfig, AutoModelForCausalLM

    data = _hf_config(folder, "text_config")
    try:
        with _quiet():
            config = AutoConfig.for_model(**data)
            model, info = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # whatever a foreign or broken folder leads to
        raise InputError(f"{folder}: transformers cannot load it: {_short(error)}") from error
    _refuse_missing(folder, set(info["missing_keys"]))
    bos, eos = _ends(folder, config)
    state, ours = model.state_dict(), decoder_config_from_hf(config)
    if ours is None:
        _check(folder, model, data)
        state = {f"model.{key}": value for key, value in state.items()}
    else:
        state = decoder_state_from_hf(state, ours)
    return PretrainedLanguage(
        config=HFLanguageConfig(config=data) if ours is None else ours,
        state_dict=state,
        tokenizer_file=folder / "tokenizer.json",
        max_length=_length(folder, config),
        bos=bos,
        eos=eos,
    )


@torch.no_grad()
def _check(folder: Path, model: Any, data: dict[str, Any]) -> None:
    """Some models scale their embeddings or logits on the way, or add to them, which `HFLanguage` would not notice."""
    tokens = torch.arange(1, 6)[None]
    lm = HFLanguage(data, model.eval())
    try:
        hidden, expected = lm(lm.embed(tokens)), model(tokens).logits
        ways = lm.logits(hidden), hidden @ lm.head_weight().T  # the second is what is trained on
        same = all(torch.allclose(scores, expected, rtol=1e-3, atol=1e-3) for scores in ways)
    except Exception as error:  # whatever a model does with embeddings and a mask of four dimensions
        raise InputError(f"{folder}: cannot be used with embeddings for input: {_short(error)}") from error
    if not same:
        raise InputError(f"{folder}: gives other logits by its embeddings and hidden states than by itself")


def _ends(folder: Path, config: Any) -> tuple[str, str]:
    """The tokens that a text starts and ends with; see `PretrainedLanguage`."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust side raises bare Exception
        raise InputError(f"{file}: cannot be read as a tokenizer: {error}") from None
    if tokenizer.token_to_id(_SEPARATOR) is not None:
        return _SEPARATOR, _SEPARATOR
    found = []
    for name in ("bos_token_id", "eos_token_id"):
        number = getattr(config, name, None)
        number = number[0] if isinstance(number, list) and number else number
        found.append(tokenizer.id_to_token(number) if isinstance(number, int) else None)
    bos, eos = found
    if eos is None:
        raise InputError(f"{folder / 'config.json'}: eos_token_id: expected the number of a token of {file.name}")
    return bos or eos, eos


def _length(folder: Path, config: Any) -> int:
    """The longest text in tokens: what the tokenizer says, and no more than the model has positions for.

    Nor more than a sliding window (Mistral): up to there it is the causal mask that `HFLanguage` gives.
    """
    file = folder / "tokenizer_config.json"
    told = read_file(file).get("model_max_length") if file.is_file() else None
    positions = getattr(config, "max_position_embeddings", None)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    known = [value for value in (told, positions, window) if isinstance(value, int) and 0 < value < 1_000_000]
    return min(known, default=512)


# ---------------------------------------------------------------- GGUF


def _converted(file: Path) -> Path:
    """A Hugging Face folder, in the cache, of what a GGUF file holds."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = cache_dir() / "converted" / digest
    if folder.is_dir():  # it only ever appears complete
        return folder
    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
    except ImportError:
        raise InputError(f'{file.name}: reading GGUF needs the extra "gguf"; pip install "diptych[gguf]"') from None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as scratch:
        try:
            with _quiet():
                options = {"gguf_file": file.name, "local_files_only": True}
                tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
                model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **options)
        except Exception as error:  # whatever a foreign or broken file leads to
            raise InputError(f"{file}: transformers cannot read it: {_short(error)}") from error
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config  # the weights are float32 now
        model.hf_quantizer, model.is_quantized = None, False
        target = Path(scratch) / "folder"
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        try:
            os.rename(target, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, with the same content
                raise
    return folder
