"""What a model wants of a sample: pixels at its size and tokens of its vocabulary. Saved with the model."""

from diptych.processing.image import ImageConfig, ImageProcessor
from diptych.processing.normalize import Normalize
from diptych.processing.processor import PairProcessor
from diptych.processing.text import QUESTION, TextProcessor, train_tokenizer

__all__ = [
    "QUESTION",
    "ImageConfig",
    "ImageProcessor",
    "Normalize",
    "PairProcessor",
    "TextProcessor",
    "train_tokenizer",
]
