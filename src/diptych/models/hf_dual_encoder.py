"""Any dual encoder that transformers loads (SigLIP, ALIGN, AltCLIP, ...), through the methods they all have."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych.config import read_file
from diptych.images import decode
from diptych.models.dual_encoder import unit_rows
from diptych.models.hf_folder import image_processor_of, quietly, read_model, read_tokenizer
from diptych.types import Batch, InputError

PADDING_MATTERS = 1e-3  # difference of two unit rows above which it is not rounding
_CONTEXT = 512  # tokens, where neither the model nor its tokenizer names a limit
_TEXT_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model")


class HFProcessor:
    """Pictures and texts as the checkpoint's own image processor and tokenizer make them (see `Processor`).

    Deviation: `decode_image` gives what the model takes, float32 C x H x W and normalised, because these processors do
    all of it in one step.

    Attributes:
        pad_to: how many tokens every text is padded to; None pads to the longest of its batch.
    """

    def __init__(self, folder: Path, context: int) -> None:
        self.image = image_processor_of(folder)
        self.tokenizer = read_tokenizer(folder)
        self.context = context
        self.pad_to: int | None = None
        files = sorted({file for pattern in _TEXT_FILES for file in folder.glob(pattern) if file.is_file()})
        self._text_digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()

    def decode_image(self, data: Any) -> Float[np.ndarray, "C H W"]:
        """One picture (encoded bytes, a path, a PIL image or an array). Patches of a NaFlex model: 1 x P x D."""
        inputs = self.image(images=decode(data), return_tensors="np")
        pixels = np.asarray(inputs["pixel_values"][0], np.float32)
        if "spatial_shapes" not in inputs:
            return pixels
        # SigLIP 2 (NaFlex) gets patches, which of them are real, and how many rows and columns: as further columns
        mask = np.asarray(inputs["pixel_attention_mask"][0], np.float32)[:, None]
        grid = np.broadcast_to(np.asarray(inputs["spatial_shapes"][0], np.float32), (len(pixels), 2))
        return np.concatenate([pixels, mask, grid], axis=1)[None]

    def collate(self, ids: list[str], images: list[Any] | np.ndarray | None, texts: list[str] | None) -> Batch:
        """Stack decoded pictures and tokenize texts, cut at the model's context."""
        batch = Batch(ids=ids)
        if images is not None:
            batch.pixels = torch.from_numpy(np.stack(list(images)))
        if texts is not None:
            batch.tokens, batch.token_mask = self.tokenize(texts, self.pad_to)
        return batch

    def tokenize(self, texts: list[str], pad_to: int | None) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Token ids and where they are text."""
        found = self.tokenizer(
            texts,
            padding=True if pad_to is None else "max_length",
            max_length=pad_to or self.context,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return found["input_ids"], found["attention_mask"].bool()

    def fingerprint(self) -> str:
        """A short hash of everything that changes what a model sees."""
        text = f"{self.image_fingerprint()} {self._text_digest} {self.context} {self.pad_to}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def image_fingerprint(self) -> str:
        """A short hash of what becomes of pictures alone."""
        text = f"{type(self.image).__name__} {self.image.to_json_string()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class HFDualEncoder(nn.Module):
    """A `DualEncoder` around a transformers model with `get_image_features` and `get_text_features`, held as `.model`.

    Whether padding changes a text's vector is found out when the model is loaded. Where it does not, texts are padded
    to the longest of the batch and masked. Where it does, every text is padded to the full context, and a model that
    reads what the mask hides (SigLIP takes the last position, and was trained without a mask) is given none.
    """

    def __init__(self, model: Any, processor: HFProcessor, config: dict[str, Any], address: str) -> None:
        super().__init__()
        self.model = model
        self.processor = processor
        self.config = config
        self.address = address
        self._masked = "attention_mask" in processor.tokenizer.model_input_names

    def encode_image(self, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Unit rows. `pixels` as the processor decodes them."""
        if "pixel_attention_mask" in getattr(self.processor.image, "model_input_names", ()):
            patches, mask, grid = pixels[:, 0, :, :-3], pixels[:, 0, :, -3], pixels[:, 0, 0, -2:]
            found = self.model.get_image_features(
                pixel_values=patches, pixel_attention_mask=mask.long(), spatial_shapes=grid.long()
            )
        else:
            found = self.model.get_image_features(pixel_values=pixels)
        return unit_rows(_features(found))

    def encode_text(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Unit rows."""
        given = {"attention_mask": token_mask.long()} if self._masked else {}
        return unit_rows(_features(self.model.get_text_features(input_ids=tokens, **given)))

    def probabilities(self, cosines: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """sigmoid(exp(t) cos + b) that picture and text belong together (Zhai et al. 2023, algorithm 1).

        Raises `InputError` for a model that was not trained with the sigmoid loss.
        """
        if not hasattr(self.model, "logit_bias"):
            raise InputError(f"{self.address}: has learnt no logit_bias, so its cosines are no probabilities")
        return torch.sigmoid(self.model.logit_scale.exp() * cosines + self.model.logit_bias)

    def settle_padding(self) -> None:
        """Find out how padding changes a text's vector, and pad and mask from now on as the model needs it."""
        tokens, mask = self.processor.tokenize(["a"], self.processor.context)
        full = self.encode_text(tokens, mask)
        if _close(full, self.encode_text(*self.processor.tokenize(["a"], None))):
            return
        self.processor.pad_to = self.processor.context
        # the last token of the text in place of all padding: who sees the difference reads what the mask hides
        other = torch.where(mask, tokens, tokens[mask][-1])
        self._masked = self._masked and _close(full, self.encode_text(other, mask))


def load(folder: Path, model_class: Any) -> HFDualEncoder:
    """The dual encoder in a Hugging Face folder, in eval mode and float32.

    Raises `InputError` where it cannot be loaded, has no tokenizer or image processor, or has no joint space.
    """
    net = read_model(folder, model_class, torch.float32)
    processor = HFProcessor(folder, _context(net, folder))
    model = HFDualEncoder(net, processor, read_file(folder / "config.json"), str(folder))
    with torch.no_grad(), quietly(folder):
        model.settle_padding()
        pixels = torch.from_numpy(model.processor.decode_image(np.zeros((32, 32, 3), np.uint8)))[None]
        image, text = model.encode_image(pixels), model.encode_text(*model.processor.tokenize(["a"], None))
    if image.shape != text.shape:
        raise InputError(
            f"{folder}: {type(net).__name__} is no dual encoder: its pictures have {image.shape[1]} features and its "
            f"texts {text.shape[1]}"
        )
    return model.eval()


def _context(model: Any, folder: Path) -> int:
    """How many tokens the text tower takes."""
    limits = [getattr(model.config.get_text_config(), "max_position_embeddings", _CONTEXT)]
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        limits.append(read_file(settings).get("model_max_length", _CONTEXT))
    return int(min(limit for limit in [*limits, _CONTEXT] if isinstance(limit, (int, float)) and limit > 0))


def _close(a: Float[Tensor, "B D"], b: Float[Tensor, "B D"]) -> bool:
    return float((a - b).abs().max()) < PADDING_MATTERS


def _features(found: Any) -> Shaped[Tensor, "B D"]:
    """The pooled rows of what transformers gives; FLAVA gives every token's, of which the first stands for all."""
    rows: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return rows[:, 0] if rows.ndim == 3 else rows
