"""Judge a dual encoder by zero-shot classification: is a picture nearest to the name of its own class?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities import DualEncoder
from diptych.data.store import Dataset
from diptych.evaluation.judged import Values
from diptych.evaluation.metrics.classification import confusion_matrix, top_k
from diptych.evaluation.metrics.intervals import Difference, class_mean_interval, mean_interval, paired_difference
from diptych.evaluation.metrics.retrieval import TIE
from diptych.tasks.classify import TEMPLATES, class_embeddings
from diptych.tasks.embed import embed_readable_images
from diptych.types import Estimate, InputError, Rejected

KS = (1, 5)


@dataclass(frozen=True)
class ZeroShotResult:
    """Everything that came out, for N pictures and K classes.

    Attributes:
        estimates: "zero_shot/top1", "zero_shot/top5" and "zero_shot/mean_per_class", with all prompts together.
        one_prompt: the same with the first prompt alone.
        gain: top-1 with all prompts minus top-1 with one, on the same pictures.
        labels: K class names.
        truth, predicted: N class numbers.
        confusion: K x K counts, the row being the true class.
        rows: N; the judged samples' numbers in the dataset.
        templates: how many prompts were averaged.
        values: of each picture whether it gets its own class, by the names of "zero_shot/top1" and "zero_shot/top5".
        rejected: pictures that could not be read; they are left out.
        without_label: samples that have no label; they are left out.
    """

    estimates: dict[str, Estimate]
    one_prompt: dict[str, Estimate]
    gain: Difference
    labels: list[str]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confusion: NDArray[np.int64]
    rows: list[int]
    templates: int
    values: dict[str, Values]
    rejected: list[Rejected]
    without_label: int

    def left_out(self) -> dict[str, int]:
        """How many samples were left out, by reason."""
        return {"sample without a label": self.without_label, **Counter(row.reason for row in self.rejected)}


def evaluate_zero_shot(
    model: Any,
    dataset: Dataset,
    *,
    labels: Sequence[str] | None = None,
    templates: Sequence[str] = TEMPLATES,
    batch_size: int = 64,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ZeroShotResult:
    """Give every picture the class whose name, in several sentences, is nearest (Radford et al. 2021, section 3.1.4).

    Args:
        labels: the classes to choose from; by default those that occur in the dataset, in alphabetical order.
        templates: sentences in which `{}` is the class.
        progress: called with how many pictures are embedded and how many there are.

    Raises:
        InputError: the model is no dual encoder, no sample has a label and a readable picture, or a sample's label is
            not among `labels`.
    """
    if not isinstance(model, DualEncoder):
        raise InputError(f"{type(model).__name__} cannot classify by names: it does not encode images and texts")
    own = dataset.column("label")
    with_label = [row for row, label in enumerate(own) if label]
    names = sorted({own[row] for row in with_label}) if labels is None else list(dict.fromkeys(labels))
    number = {name: i for i, name in enumerate(names)}
    strange = next((own[row] for row in with_label if own[row] not in number), None)
    if not with_label or strange is not None:
        problem = "no sample has one" if strange is None else f"{strange!r} is not among the {len(names)} given labels"
        raise InputError(f"{dataset.name}: label: {problem}")
    found = embed_readable_images(
        model, dataset.select(with_label), batch_size=batch_size, device=device, progress=progress
    )
    if not found.kept:
        raise InputError(f"{dataset.name}: images: none of {len(with_label)} could be read")
    rows = [with_label[i] for i in found.kept]
    truth = np.array([number[own[row]] for row in rows])

    rng = np.random.default_rng(seed)
    scores, estimates = {}, {}
    for name, prompts in (("all", templates), ("one", templates[:1])):
        classes = class_embeddings(model, names, prompts, device=device)
        scores[name] = found.vectors @ classes.T
        estimates[name] = zero_shot_estimates(scores[name], truth, rng)
    gain = paired_difference(top_k(scores["all"], truth, 1, TIE), top_k(scores["one"], truth, 1, TIE), rng)
    predicted = scores["all"].argmax(axis=1)
    return ZeroShotResult(
        estimates=estimates["all"],
        one_prompt=estimates["one"],
        gain=gain,
        labels=names,
        truth=truth,
        predicted=predicted,
        confusion=confusion_matrix(predicted, truth, len(names)),
        rows=rows,
        templates=len(templates),
        values={f"zero_shot/top{k}": Values.of(rows, [0] * len(rows), top_k(scores["all"], truth, k, TIE)) for k in KS},
        rejected=list(found.rejected),
        without_label=len(own) - len(with_label),
    )


def zero_shot_estimates(
    scores: NDArray[np.float32], truth: NDArray[np.int64], rng: np.random.Generator
) -> dict[str, Estimate]:
    """Top-1, top-5 and the mean over classes of top-1, for N x K scores; each with interval, n and chance."""
    classes = scores.shape[1]
    estimates = {
        f"zero_shot/top{k}": mean_interval(top_k(scores, truth, k, TIE), rng, chance=min(k / classes, 1.0)) for k in KS
    }
    right = scores.argmax(axis=1) == truth
    estimates["zero_shot/mean_per_class"] = class_mean_interval(right, truth, rng, chance=1 / classes)
    return estimates
