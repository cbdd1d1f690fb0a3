"""Judge an encoder by a linear probe: can a linear map tell the classes apart by its frozen features?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities import EncodesImages, EncodesTexts
from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Values
from diptych.evaluation.metrics.intervals import mean_interval
from diptych.evaluation.metrics.probe import fit_linear_probe
from diptych.types import InputError, Rejected, Sample

LEARNT = 0.5  # share of the samples that the probe is fitted on


def evaluate_probe(
    model: Any,
    dataset: Dataset,
    *,
    batch_size: int = 64,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """Fit multinomial logistic regression on the features of half of the samples, drawn at random, and judge the rest.

    The class of a sample is its `label` or, without one, the name of its only object. "probe/image" is the share of
    pictures that get their class by `encode_image`; "probe/text" that of texts, a sample's first caption, by
    `encode_text`, where the model has it and captions are there. Chance is what the commonest class reaches.

    Raises:
        InputError: the model encodes neither, or fewer than two classes have samples that can be read.
    """
    from diptych.tasks.embed import embed_readable_images, embed_texts

    if not isinstance(model, (EncodesImages, EncodesTexts)):
        raise InputError(f"{type(model).__name__} cannot be probed: it encodes neither images nor texts")
    samples = dataset.take(range(len(dataset)), fields={"label", "objects", "captions"})
    classes = [_class(sample) for sample in samples]
    rows = [row for row, name in enumerate(classes) if name]
    if len({classes[row] for row in rows}) < 2:
        raise InputError(f"{dataset.name}: label: expected two classes or more, or samples with one object each")
    found: dict[str, tuple[list[int], NDArray[np.float32]]] = {}
    rejected: list[Rejected] = []
    if isinstance(model, EncodesImages):
        options = {"batch_size": batch_size, "device": device, "progress": progress}
        seen = embed_readable_images(model, dataset.select(rows), **options)  # type: ignore[arg-type]
        rejected = list(seen.rejected)
        found["image"] = [rows[i] for i in seen.kept], seen.vectors
    told = [row for row in rows if samples[row].captions]
    if isinstance(model, EncodesTexts) and told:
        texts = [samples[row].captions[0] for row in told]
        found["text"] = told, embed_texts(model, texts, batch_size=batch_size, device=device)
    rng = np.random.default_rng(seed)
    learnt = set(rng.permutation(rows)[: int(LEARNT * len(rows))].tolist())
    estimates, values, cases = {}, {}, []
    for side, (own, vectors) in found.items():
        hits, said, chance = _probed([classes[row] for row in own], vectors, [row in learnt for row in own], seed)
        judged = [row for row in own if row not in learnt]
        name = f"probe/{side}"
        values[name] = Values.of(judged, np.zeros(len(judged)), hits)
        estimates[name] = mean_interval(hits, rng, chance=chance)
        asked = f"class by its {side}"
        cases += [Case(row, hit, asked, one, classes[row]) for row, hit, one in zip(judged, hits.tolist(), said)]
    notes = [f"fitted on {len(learnt):,} samples"]
    skipped = {"sample without a class": len(samples) - len(rows)}
    return Judged("probe", estimates, values, cases, rejected, skipped, notes=notes)


def _class(sample: Sample) -> str:
    if sample.label:
        return sample.label
    return sample.objects[0].name if len(sample.objects) == 1 else ""


def _probed(
    classes: list[str], vectors: NDArray[np.float32], learnt: list[bool], seed: int
) -> tuple[NDArray[np.float64], list[str], float]:
    """(whether each sample that was not learnt gets its class, what it gets, what the commonest class reaches)."""
    names = sorted(set(classes))
    truth, inside = np.array([names.index(name) for name in classes]), np.array(learnt)
    if len(set(truth[inside])) < 2 or inside.all():
        raise InputError("label: expected more samples: half of them have fewer than two classes, or nothing is left")
    probe = fit_linear_probe(vectors[inside], truth[inside], classes=len(names), seed=seed)
    predicted = probe.scores(vectors[~inside]).argmax(axis=1)
    commonest = Counter(truth[inside].tolist()).most_common(1)[0][0]
    hits = (predicted == truth[~inside]).astype(np.float64)
    return hits, [names[i] for i in predicted], float((truth[~inside] == commonest).mean())
