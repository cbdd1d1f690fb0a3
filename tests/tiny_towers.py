"""Small pretrained towers in Hugging Face folders, random but fixed, so that no test needs a network."""

from pathlib import Path

import pytest
import torch

from diptych.processing import ImageConfig, ImageProcessor, TextProcessor

WORDS = ["a red square", "a green square", "a blue picture", "a white picture of a bird"]


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT of width 24 for 16 px, with its preprocessor."""
    from transformers import ViTConfig, ViTModel

    folder = tmp_path_factory.mktemp("vision")
    torch.manual_seed(0)
    size = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ViTModel(ViTConfig(image_size=16, patch_size=8, **size)).save_pretrained(folder)
    ImageProcessor(ImageConfig(size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))).save(folder)
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of width 20 with a tokenizer of its own."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("text")
    words = TextProcessor.train(WORDS * 4, 290, 24)
    words.save(folder)
    torch.manual_seed(1)
    size = {"hidden_size": 20, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=words.vocab_size, max_position_embeddings=24, initializer_range=0.3, **size)
    BertModel(config).save_pretrained(folder)
    return folder
