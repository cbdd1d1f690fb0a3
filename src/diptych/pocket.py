"""`pocket`, the ready-made model: nothing is trained, and it runs on a laptop.

ASIF over EfficientNet-Lite0 and MiniLM. Its pairs are the curated `clipart` pictures and the 1000 rows of the image
tower's own classifier, each beside what WordNet calls its class.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych import models
from diptych.data import Dataset, open_dataset
from diptych.data.curate import curate
from diptych.imagenet import imagenet_classes
from diptych.models import Progress
from diptych.models.asif import ASIF, ASIFConfig
from diptych.paths import cache_dir
from diptych.processing import ImageConfig
from diptych.tasks.embed import image_features, text_features
from diptych.towers import LITE0, MINILM, load_vision
from diptych.types import InputError

log = logging.getLogger("diptych")

VERSION = 1

# chosen on creator-disjoint folds of clipart and on a set of emoji; see docs/families.md
CONFIG = ASIFConfig(
    image_address=LITE0,
    text_address=MINILM,
    image=ImageConfig(size=224, resize="squash", mean=(127 / 255,) * 3, std=(128 / 255,) * 3),  # as Lite0 was trained
    k=200,
    image_power=3.0,
    text_power=3.0,
    whiten=2.0,
    class_weight=0.7,
)


def load(progress: Progress | None = None) -> ASIF:
    """The ready-made model; made on first use (a minute or two, and 100 MB of weights), then read from the cache."""
    at = folder()
    if not is_made():
        log.info("pocket is made on first use: a minute or two, and 100 MB of weights where they are not here yet")
        model = build(curated_clipart(progress), progress=progress)
        card = {
            "data": "clipart (curated) and the 1000 class rows of EfficientNet-Lite0",
            "license": "Apache-2.0",
            "command": "diptych search FOLDER TEXT",
            "notes": "Training-free: see docs/families.md, asif.",
        }
        models.save(model, at, card)
    model = models.load(at)
    assert isinstance(model, ASIF)
    return model


def folder() -> Path:
    """Where the model is kept once it is made."""
    return cache_dir() / "models" / f"pocket-{VERSION}"


def is_made() -> bool:
    """Whether the model is in the cache."""
    return (folder() / "config.json").is_file()


def curated_clipart(progress: Progress | None = None) -> Dataset:
    """The built-in pairs after the default curation plan, kept in the cache."""
    raw = open_dataset("clipart")
    folder = cache_dir() / "datasets" / f"clipart-curated-{VERSION}-{raw.fingerprint()[:12]}"
    if not (folder / "dataset.json").is_file():
        curate(raw, folder, progress=progress)
    return open_dataset(folder)


def build(
    pairs: Dataset, config: ASIFConfig = CONFIG, *, classes: bool = True, progress: Progress | None = None
) -> ASIF:
    """An ASIF whose pairs are the samples of `pairs` that have a picture and a caption.

    Args:
        config: with the addresses of both towers.
        classes: let the rows of the image tower's classifier be pairs too; it must have the 1000 of ImageNet.

    Raises:
        InputError: no sample has both, or the tower has no such classifier.
        WeightsUnavailable: the towers cannot be had.
    """
    model = ASIF.new(config)
    add_pairs(model, pairs, progress)
    if classes:
        add_classes(model)
    return model.eval()


def add_pairs(model: Any, pairs: Dataset, progress: Progress | None = None) -> None:
    """Make the samples of a dataset pairs of `model`: the first picture, and the mean of what its captions say.

    A caption counts whole and by its first phrase, which names the thing itself where the rest is context.
    """
    captions = {id: texts for id, texts in zip(pairs.ids, pairs.column("captions")) if texts}
    features = image_features(model, pairs, progress=_named(progress, "pictures of the pairs"))
    names = [id for id in captions if id in features]
    if not names:
        raise InputError(f"{pairs.name}: expected samples with a picture and a caption")
    groups = [[text for caption in captions[id] for text in (caption, caption.split(",")[0])] for id in names]
    texts = mean_text_features(model, groups, _named(progress, "captions of the pairs"))
    model.add_pairs(torch.from_numpy(np.stack([features[id] for id in names])), texts, names)


def add_classes(model: ASIF) -> None:
    """Make the rows of the image tower's ImageNet classifier pairs of `model`; each text is what WordNet says of it."""
    classes = imagenet_classes()
    rows = load_vision(str(model.config.image_address)).classifier
    if rows is None or len(rows) != len(classes):
        raise InputError(f"{model.config.image_address}: expected a tower with a classifier of {len(classes)} classes")
    groups = [[c.name, ", ".join(c.nouns), f"{c.name}, {c.definition}"] for c in classes]
    model.pairs_from_classifier(
        rows, mean_text_features(model, groups), [f"class: {c.name} ({c.wnid})" for c in classes]
    )


def mean_text_features(
    model: Any, groups: list[list[str]], progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """For each group of texts the mean of their unit features; the same text is embedded once."""
    unique = list(dict.fromkeys(text for group in groups for text in group))
    place = {text: i for i, text in enumerate(unique)}
    rows = torch.from_numpy(text_features(model, unique, progress=progress))
    rows = torch.nn.functional.normalize(rows, dim=1)
    return torch.stack([rows[[place[text] for text in group]].mean(dim=0) for group in groups])


def _named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(what, done, total)
