"""Hugging Face folders through transformers: which adapter fits, and every failure as one sentence."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diptych.config import read_file
from diptych.types import InputError

# How `from_pretrained` reads a folder: what lies there and nothing else, and none of its code.
FROM_HERE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_LONGEST = 300  # characters of a foreign message that are shown


@contextlib.contextmanager
def quietly(folder: Path) -> Iterator[None]:
    """What transformers raises inside, as an `InputError` of one sentence; its warnings and progress bars stay away."""
    from transformers.utils import logging

    bars, loudness = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a stranger's folder: anything from KeyError to a validation error of its config
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{folder}: transformers cannot load it: {reason[:_LONGEST]}") from None
    finally:
        logging.set_verbosity(loudness)
        if bars:
            logging.enable_progress_bar()


def load(folder: Path) -> nn.Module:
    """The model of a Hugging Face folder as what it can be used for: a dual encoder, or one that writes text.

    Where a model type is both (BLIP), the class that the weights were saved from decides. Raises `InputError`.
    """
    raw = read_file(folder / "config.json")
    with quietly(folder):
        from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, MODEL_MAPPING, AutoConfig

        kind = type(AutoConfig.from_pretrained(folder, **FROM_HERE))
        base, writer = MODEL_MAPPING.get(kind, None), MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.get(kind, None)
    writer = writer[0] if isinstance(writer, (tuple, list)) else writer
    saved_as = (raw.get("architectures") or [None])[0]
    encodes = all(hasattr(base, name) for name in ("get_image_features", "get_text_features"))
    if encodes and (writer is None or saved_as != writer.__name__):
        from diptych.models import hf_dual_encoder

        return hf_dual_encoder.load(folder, base)
    if writer is not None:
        from diptych.models import hf_writer

        return hf_writer.load(folder, writer)
    raise InputError(
        f"{folder / 'config.json'}: model_type: expected a dual encoder (CLIP, SigLIP, ALIGN, ...) or an "
        f"image-text-to-text model, got {raw.get('model_type')!r}"
    )


def read_model(folder: Path, model_class: Any, dtype: torch.dtype) -> Any:
    """The transformers model in the folder, in eval mode. Raises `InputError` where weights are missing.

    transformers would draw them at random with no more than a warning.
    """
    with quietly(folder):
        model, loading = model_class.from_pretrained(folder, dtype=dtype, output_loading_info=True, **FROM_HERE)
    missing = sorted(loading["missing_keys"])
    if missing:
        raise InputError(
            f"{folder}: has no '{missing[0]}', which a {model_class.__name__} needs ({len(missing)} missing)"
        )
    return model.eval()


def image_processor_of(folder: Path) -> Any:
    """The folder's image processor, in its Pillow form where it has one, so that every machine sees the same pixels."""
    from transformers import AutoImageProcessor

    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        raise InputError(f"{folder}: expected preprocessor_config.json, which says how pictures are resized")
    with quietly(folder):
        return AutoImageProcessor.from_pretrained(folder, backend="pil", **FROM_HERE)


def processor_of(folder: Path) -> Any:
    """The folder's processor of pictures and text, without what it has for videos, which needs torchvision."""
    from transformers import PROCESSOR_MAPPING, AutoConfig

    with quietly(folder):
        known = PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(folder, **FROM_HERE)), None)
        if known is None:
            raise InputError(f"{folder}: transformers knows no processor of pictures and text for this model")
        names = known.get_attributes()

        class Processor(known):  # type: ignore[misc]
            def check_argument_for_proper_class(self, name: str, argument: Any) -> Any:
                return None if argument is None else super().check_argument_for_proper_class(name, argument)

            @classmethod
            def get_attributes(cls) -> list[str]:  # the name of the class's own `__init__` arguments
                return list(names)

        readers = {"image_processor": image_processor_of, "tokenizer": read_tokenizer}
        parts = [readers[name](folder) if name in readers else None for name in names]
        settings, _ = known.get_processor_dict(folder, local_files_only=True)
        return Processor.from_args_and_dict(parts, settings)


def read_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, padding with the end token where it has no padding of its own."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with quietly(folder):
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **FROM_HERE)
        except Exception:
            if not (folder / "tokenizer.json").is_file():
                raise
            # its own class needs a library that is not here; the file says all the same
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
