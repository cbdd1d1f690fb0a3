"""Judge whether a model prefers true captions to texts that are close to them and wrong.

ARO (Yuksekgonul et al. 2023), SugarCrepe (Hsieh et al. 2023) and Winoground (Thrush et al. 2022) ask this, and so does
every dataset whose samples have `negatives`. A blind model, which never looks, can be right about much of it: see
`diptych.evaluation.health`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Values
from diptych.evaluation.metrics.intervals import mean_interval
from diptych.evaluation.metrics.retrieval import TIE
from diptych.tasks.match import match
from diptych.types import Estimate, InputError, Negative, Sample

FIELDS = {"captions", "negatives", "group"}
HALVES = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}  # of pairs as Winoground's, with what guessing reaches


def evaluate_match(
    model: Any,
    dataset: Dataset,
    *,
    batch_size: int = 64,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """How often the true caption scores above all wrong texts of one kind.

    A unit is a caption with its negatives of one kind; k that tie with the caption count as 1 / (k + 1). Where two
    samples of one `group` hold each other's captions as negatives, Winoground's text, image and group scores are
    given too.

    Raises:
        InputError: the model cannot match, or no sample has negatives and a readable picture.
    """
    samples = dataset.take(range(len(dataset)), fields=FIELDS)
    rows = [row for row, sample in enumerate(samples) if sample.captions and sample.negatives]
    if not rows:
        raise InputError(f"{dataset.name}: negatives: no sample has a caption and texts that are close to it and wrong")
    texts = [_texts(samples[row]) for row in rows]
    found = match(model, dataset.select(rows), texts, batch_size=batch_size, device=device, progress=progress)
    if not found.kept:
        raise InputError(f"{dataset.name}: images: none of {len(rows)} could be read")
    scored = {rows[i]: dict(zip(texts[i], scores.tolist())) for i, scores in zip(found.kept, found.scores)}

    cases, units, kinds, chances = [], [], [], []
    for row, scores in scored.items():
        for unit, (caption, kind, wrong) in enumerate(_asked(samples[row])):
            rival = max(wrong, key=scores.__getitem__)
            hit = _hit(scores[caption], [scores[text] for text in wrong])
            said = rival if scores[rival] > scores[caption] else caption
            cases.append(Case(row, hit, kind, said, caption, None))
            units.append(unit)
            kinds.append(kind)
            chances.append(1 / (1 + len(wrong)))
    rng = np.random.default_rng(seed)
    values = _by_kind(cases, units, kinds)
    guessing = _by_kind([case._replace(score=chance) for case, chance in zip(cases, chances)], units, kinds)
    estimates = {
        name: mean_interval(v.numbers, rng, groups=v.rows, chance=float(guessing[name].numbers.mean()))
        for name, v in values.items()
    }
    halves = _halves(samples, scored)
    values |= halves
    estimates |= {name: _half(name, v, rng) for name, v in halves.items()}
    skipped = {"sample without negatives": len(samples) - len(rows)}
    return Judged("match", estimates, values, cases, list(found.rejected), skipped)


def _texts(sample: Sample) -> list[str]:
    return list(dict.fromkeys([*sample.captions, *(negative.text for negative in sample.negatives)]))


def _asked(sample: Sample) -> list[tuple[str, str, list[str]]]:
    """(caption, kind, its wrong texts), unit by unit."""
    wrong: dict[tuple[int, str], list[Negative]] = defaultdict(list)
    for negative in sample.negatives:
        if 0 <= negative.of < len(sample.captions) and negative.text != sample.captions[negative.of]:
            wrong[negative.of, negative.kind or "other"].append(negative)
    return [(sample.captions[of], kind, [n.text for n in some]) for (of, kind), some in wrong.items()]


def _hit(true: float, wrong: Sequence[float]) -> float:
    """The probability that the true text is first, if ties are broken by a fair die."""
    if max(wrong) > true + TIE:
        return 0.0
    return 1 / (1 + sum(score >= true - TIE for score in wrong))


def _by_kind(cases: Sequence[Case], units: Sequence[int], kinds: Sequence[str]) -> dict[str, Values]:
    """The values of all cases, and of each kind where there are several."""
    chosen = {"match/accuracy": list(range(len(cases)))}
    if len(set(kinds)) > 1:
        chosen |= {f"match/accuracy[{kind}]": [i for i, k in enumerate(kinds) if k == kind] for kind in _order(kinds)}
    return {
        name: Values.of([cases[i].row for i in some], [units[i] for i in some], [cases[i].score for i in some])
        for name, some in chosen.items()
    }


def _order(kinds: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(kinds))


def _halves(samples: Sequence[Sample], scored: Mapping[int, Mapping[str, float]]) -> dict[str, Values]:
    """Winoground's three scores, by the first row of each group of two that hold each other's captions."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row in scored:
        if samples[row].group:
            groups[samples[row].group or ""].append(row)
    hits: dict[str, list[float]] = {name: [] for name in HALVES}
    firsts = []
    for rows in groups.values():
        if len(rows) != 2:
            continue
        (a, b), (own, other) = rows, (samples[row].captions[0] for row in rows)
        if other not in scored[a] or own not in scored[b]:
            continue
        text = scored[a][own] > scored[a][other] and scored[b][other] > scored[b][own]
        image = scored[a][own] > scored[b][own] and scored[b][other] > scored[a][other]
        for name, hit in (("text", text), ("image", image), ("group", text and image)):
            hits[name].append(float(hit))
        firsts.append(a)
    if not firsts:
        return {}
    return {f"match/{name}_score": Values.of(firsts, [0] * len(firsts), hits[name]) for name in HALVES}


def _half(name: str, values: Values, rng: np.random.Generator) -> Estimate:
    return mean_interval(values.numbers, rng, chance=HALVES[name.removeprefix("match/").removesuffix("_score")])
