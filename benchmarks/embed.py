"""How fast pictures and texts become vectors: `python benchmarks/embed.py [--pictures 1024] [--texts 2048]`.

From Parquet with the built-in 128-px pictures to vectors with EfficientNet-Lite0 (224 px), and from captions to vectors
with MiniLM. The naive peer, in the same run, is what a script would do: float32, pictures decoded one after the other
in the same thread, channels first, batch norms not folded; texts in the order they come. Where the weights cannot be
had, random ones of the same shape and a tokenizer learnt from the captions are used; the speed is the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from diptych.data import open_dataset
from diptych.data.store import Dataset, image_source
from diptych.models.asif import ASIF, ASIFConfig, build
from diptych.processing import ImageConfig, ImageProcessor, PairProcessor, TextProcessor
from diptych.tasks import embed_images, embed_texts
from diptych.towers import EfficientNetConfig, HFTextConfig
from diptych.types import InputError

BATCH = 64
MINILM = {"model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
MINILM |= {"num_attention_heads": 12, "vocab_size": 30522}


class Towers:
    """The two frozen towers as a dual encoder, without ASIF's pairs."""

    def __init__(self, model: ASIF) -> None:
        self.processor = model.processor
        self.encode_image, self.encode_text = model.image_features, model.text_features


def towers(captions: list[str]) -> ASIF:
    try:
        return build()
    except InputError as error:
        print(f"random weights: {error}")
        config = ASIFConfig(EfficientNetConfig(lite=True), HFTextConfig(config=MINILM), ImageConfig(size=224))
        words = TextProcessor.train(captions, 30522, 128)
        return ASIF(config, PairProcessor(ImageProcessor(config.image), words)).eval()


def naive_images(model: ASIF, data: Dataset) -> np.ndarray[Any, Any]:
    """One thread, one picture after the other, float32, channels first."""
    rows = []
    for start in range(0, len(data), BATCH):
        samples = [data[i] for i in range(start, min(start + BATCH, len(data)))]
        pictures = [model.processor.decode_image(image_source(sample)) for sample in samples]
        pixels = model.processor.collate([s.id for s in samples], pictures, None).pixels.contiguous()
        with torch.no_grad():
            rows.append(model.visual.trunk(model.normalize(pixels))[0])
    return torch.nn.functional.normalize(torch.cat(rows), dim=1).numpy()


def naive_texts(model: ASIF, texts: list[str]) -> np.ndarray[Any, Any]:
    """In the order they come, float32."""
    rows = []
    for start in range(0, len(texts), BATCH):
        some = texts[start : start + BATCH]
        batch = model.processor.collate(some, None, some)
        with torch.no_grad():
            rows.append(model.text_features(batch.tokens, batch.token_mask))
    return torch.nn.functional.normalize(torch.cat(rows), dim=1).numpy()


def measure(name: str, count: int, rounds: int, run: Callable[[], np.ndarray[Any, Any]]) -> tuple[float, Any]:
    """Print items per second, best and median of `rounds` after one to warm up; returns the best, and what came out."""
    result = run()
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = run()
        rates.append(count / (time.perf_counter() - start))
    print(f"{name:44}{max(rates):10.1f} /s   (median {np.median(rates):.1f} of {rounds})", flush=True)
    return max(rates), result


def compare(ratio: float, rows: np.ndarray[Any, Any], plain: np.ndarray[Any, Any]) -> None:
    cosines = (rows[: len(plain)] * plain).sum(axis=1)
    doubt = f"cosine to its vectors: mean {cosines.mean():.5f}, least {cosines.min():.5f}"
    print(f"{'':44}{ratio:10.1f} x the naive; {doubt}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--texts", type=int, default=2048)
    parser.add_argument("--naive", type=int, default=128, help="pictures, and eight times as many texts, of the peer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of torch; as many as there are cores by default")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    data = open_dataset("clipart")
    captions = [caption for captions in data.column("captions") for caption in captions]
    model = towers(captions)
    encoder = Towers(model)
    data = data.select(range(min(args.pictures, len(data))))
    few, texts = data.select(range(min(args.naive, len(data)))), captions[: args.texts]

    model.visual.requires_grad_(True)  # what trains is not folded
    model.to(memory_format=torch.contiguous_format)
    slow, plain = measure("pictures, naive", len(few), 1, lambda: naive_images(model, few))
    model.requires_grad_(False).to(memory_format=torch.channels_last)
    fast, rows = measure("pictures, embed_images", len(data), args.rounds, lambda: embed_images(encoder, data))
    compare(fast / slow, rows, plain)

    some = texts[: 8 * args.naive]
    slow, plain = measure("texts, naive", len(some), args.rounds, lambda: naive_texts(model, some))
    fast, rows = measure("texts, embed_texts", len(texts), args.rounds, lambda: embed_texts(encoder, texts))
    compare(fast / slow, rows, plain)


if __name__ == "__main__":
    main()
