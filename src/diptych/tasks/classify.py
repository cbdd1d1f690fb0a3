"""Zero-shot classification: a class is the mean of several sentences about it (Radford et al. 2021, section 3.1.4)."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import nn

from diptych.capabilities import DualEncoder, EncodesTexts
from diptych.machine import Precision
from diptych.tasks.embed import embed_images, embed_readable_images, embed_texts
from diptych.tasks.reading import Pictures, Progress
from diptych.types import InputError, Rejected

TEMPLATES = (
    "a {}",
    "a photo of a {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "an image of the {}.",
)
"""Sentences for any kind of picture; `{}` is the class."""

SCALE = 100.0
"""The logit scale of models that have learnt none: the bound that CLIP's training runs into."""

_HAS_ARTICLE = re.compile(r"(?:an?|the)\s", re.IGNORECASE)
_ARTICLE_BEFORE_CLASS = re.compile(r"\b(an?|the) \{\}", re.IGNORECASE)


class Classification(NamedTuple):
    """The best class of a picture, its probability, and the probability of every class."""

    label: str
    probability: float
    probabilities: dict[str, float]


class Classified(NamedTuple):
    """`answers[i]` is about picture `kept[i]`; pictures that could not be read are in `rejected`."""

    answers: list[Classification]
    kept: list[int]
    rejected: list[Rejected]


def fill(template: str, label: str) -> str:
    """`template` about `label` in plain English: a label's own article stays, and "a" becomes "an" before a vowel.

    Deviation: CLIP's published templates say "a" before every class.
    """
    if _HAS_ARTICLE.match(label):
        template = _ARTICLE_BEFORE_CLASS.sub("{}", template)
    elif label[:1].lower() in "aeiou":
        template = _ARTICLE_BEFORE_CLASS.sub(lambda found: "the {}" if found[1] == "the" else "an {}", template)
    return template.replace("{}", label)


def class_embeddings(
    model: EncodesTexts,
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    *,
    device: str = "auto",
    precision: Precision = "auto",
) -> Float[np.ndarray, "K D"]:
    """One unit row for each class: the average of its sentences' unit rows, normalised again.

    `templates` are sentences with `{}` for the class, `TEMPLATES` if None. Raises `InputError` where a label is empty
    or given twice, or a template has no `{}`.
    """
    if isinstance(labels, str) or not labels or not all(label.strip() for label in labels):
        raise InputError(f"labels: expected a list of class names, got {labels!r}")
    if len(set(labels)) != len(labels):
        raise InputError(f"labels: expected names that differ, got {', '.join(labels)}")
    sentences = list(TEMPLATES if templates is None else templates)
    if isinstance(templates, str) or not sentences or not all("{}" in sentence for sentence in sentences):
        raise InputError(f"templates: expected sentences with {{}} where the class goes, got {templates!r}")
    texts = [fill(sentence, label) for label in labels for sentence in sentences]
    rows = embed_texts(model, texts, device=device, precision=precision)
    average = rows.reshape(len(labels), len(sentences), -1).mean(axis=1)
    return np.asarray(average / np.maximum(np.linalg.norm(average, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def similarity_scale(model: Any) -> float:
    """What cosines are multiplied by before the softmax over classes.

    It is exp(t) of the t that the model learnt, its parameter named `logit_scale`: at most 100 as in CLIP's training,
    without a bound beside a `logit_bias`, as in SigLIP's. Of ALIGN's `temperature` it is 1 / t. For a model without any
    (ASIF) it is `SCALE`, and the probabilities are then a ranking on a 0-1 scale and not calibrated.
    """
    named = model.named_parameters() if isinstance(model, nn.Module) else ()
    learnt = {name.rpartition(".")[2]: value for name, value in reversed(list(named))}
    if "logit_scale" in learnt:
        scale = math.exp(float(learnt["logit_scale"].detach()))
        return scale if "logit_bias" in learnt else min(SCALE, scale)
    return 1 / float(learnt["temperature"].detach()) if "temperature" in learnt else SCALE


def classify(
    model: DualEncoder,
    images: Pictures,
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    *,
    scale: float | None = None,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> list[Classification]:
    """The class of each picture without training on any: softmax over classes of scale x cosine, best label first.

    Args:
        images: as `embed_images` takes them.
        labels: class names such as "cat" or "a red car".
        templates: see `class_embeddings`.
        scale: see `similarity_scale`, which is asked if None.

    Raises `InputError` for a picture that cannot be read, and as `class_embeddings` does.
    """
    classes = class_embeddings(model, labels, templates, device=device, precision=precision)
    rows = embed_images(model, images, batch_size=batch_size, device=device, precision=precision, progress=progress)
    return _answers(model, rows, classes, labels, scale)


def classify_readable_images(
    model: DualEncoder,
    images: Pictures,
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
    *,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Classified:
    """`classify` that leaves out pictures that cannot be read, and says which and why."""
    classes = class_embeddings(model, labels, templates, device=device, precision=precision)
    found = embed_readable_images(
        model, images, batch_size=batch_size, device=device, precision=precision, progress=progress
    )
    return Classified(_answers(model, found.vectors, classes, labels, None), found.kept, found.rejected)


def _answers(
    model: DualEncoder,
    rows: Float[np.ndarray, "N D"],
    classes: Float[np.ndarray, "K D2"],
    labels: Sequence[str],
    scale: float | None,
) -> list[Classification]:
    if not len(rows):
        return []
    factor = similarity_scale(model) if scale is None else scale
    return [_answer(labels, factor * scores) for scores in rows @ classes.T]


def _answer(labels: Sequence[str], logits: Float[np.ndarray, "K"]) -> Classification:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    probabilities = weights / weights.sum()
    order = np.argsort(-probabilities, kind="stable").tolist()
    ranked = {labels[i]: float(probabilities[i]) for i in order}
    return Classification(labels[order[0]], ranked[labels[order[0]]], ranked)
