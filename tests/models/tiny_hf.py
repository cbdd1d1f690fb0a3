"""Tiny random checkpoints of transformers, saved as folders: a dozen words, pictures of 32 pixels, towers 32 wide."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "<image>", "a", "red", "blue", "car", "bird", "dog", "on", "the", "yes"]
WORDS += ["no", "Question", "Answer", ":", "?", ".", "photo", "of"]
SQUARE = {"height": 32, "width": 32}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 16,
}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}


def save_tokenizer(folder: Path, length: int = 16, template: str = "<bos> $A <eos>", **options: Any) -> Any:
    """A tokenizer of whole words, and how transformers reads it back."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<bos>", 1), ("<eos>", 2)])
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")}
    options = {"additional_special_tokens": ["<image>"], **options}
    made = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=length, **special, **options)
    made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def save_model(folder: Path, build: Any, image_processor: Any = None) -> Any:
    """A model with weights from a seed, none of them zero, saved with its image processor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    if image_processor is not None:
        image_processor.save_pretrained(folder)
    return model
