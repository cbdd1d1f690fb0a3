"""Judge whether a model prefers true captions to texts that are close to them and wrong.

ARO (Yuksekgonul et al. 2023), SugarCrepe (Hsieh et al. 2023) and Winoground (Thrush et al. 2022) ask this, and so does
every dataset whose samples have `negatives`. A blind model, which never looks, can be right about much of it: see
`diptych.evaluation.health`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Values, none_left
from diptych.evaluation.metrics.intervals import mean_interval, share_interval
from diptych.evaluation.metrics.retrieval import TIE
from diptych.tasks.match import match
from diptych.types import InputError, Sample

WINOGROUND = {"match/text_score": 1 / 4, "match/image_score": 1 / 4, "match/group_score": 1 / 6}
"""Winoground's scores -> what guessing reaches."""

Scores = Mapping[int, Mapping[str, float]]  # row -> text -> how well it fits


class Asked(NamedTuple):
    """A caption with its wrong texts of one kind, and its place: row of the dataset, number in its sample."""

    row: int
    unit: int
    caption: str
    kind: str
    wrong: list[str]


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
    given too; as there, a tie is a miss.

    Raises:
        InputError: the model cannot match, or no sample has negatives and a readable picture.
    """
    samples = dataset.take(range(len(dataset)), fields={"captions", "negatives", "group"})
    asked = [one for row, sample in enumerate(samples) for one in asked_of(row, sample)]
    rows = list(dict.fromkeys(one.row for one in asked))
    if not rows:
        raise InputError(f"{dataset.name}: negatives: no sample has a caption and texts that are close to it and wrong")
    texts = [_texts(samples[row]) for row in rows]
    found = match(model, dataset.select(rows), texts, batch_size=batch_size, device=device, progress=progress)
    scored = {rows[i]: dict(zip(texts[i], scores.tolist())) for i, scores in zip(found.kept, found.scores)}
    if not scored:
        raise none_left(dataset.name, "samples", len(rows), found.rejected)

    asked = [one for one in asked if one.row in scored]
    cases = [_case(one, scored[one.row]) for one in asked]
    rng = np.random.default_rng(seed)
    values, estimates = {}, {}
    for name, some in _parts(asked).items():
        values[name] = Values.of(
            [asked[i].row for i in some], [asked[i].unit for i in some], [cases[i].score for i in some]
        )
        guessing = float(np.mean([1 / (1 + len(asked[i].wrong)) for i in some]))
        estimates[name] = share_interval(values[name].numbers, rng, values[name].rows, chance=guessing)
    for name, value in _winoground(samples, scored).items():
        values[name] = value
        estimates[name] = mean_interval(value.numbers, rng, chance=WINOGROUND[name])
    return Judged(
        "match", estimates, values, cases, found.rejected, {"sample without negatives": len(samples) - len(rows)}
    )


def asked_of(row: int, sample: Sample) -> list[Asked]:
    """The units of a sample. A negative that is a caption of its picture too is not wrong, and is left out."""
    wrong: dict[tuple[int, str], list[str]] = defaultdict(list)
    for negative in sample.negatives:
        if 0 <= negative.of < len(sample.captions) and negative.text not in sample.captions:
            wrong[negative.of, negative.kind or "other"].append(negative.text)
    return [
        Asked(row, unit, sample.captions[of], kind, list(dict.fromkeys(texts)))
        for unit, ((of, kind), texts) in enumerate(wrong.items())
    ]


def _texts(sample: Sample) -> list[str]:
    return list(dict.fromkeys([*sample.captions, *(negative.text for negative in sample.negatives)]))


def hit(true: float, wrong: Sequence[float]) -> float:
    """The probability that the true text is taken, if a fair die decides between equal scores."""
    if max(wrong) > true + TIE:
        return 0.0
    return 1 / (1 + sum(score >= true - TIE for score in wrong))


def _case(one: Asked, scores: Mapping[str, float]) -> Case:
    score = hit(scores[one.caption], [scores[text] for text in one.wrong])
    said = one.caption if score == 1 else "undecided" if score else max(one.wrong, key=scores.__getitem__)
    return Case(one.row, score, f"which fits? ({one.kind})", said, one.caption)


def _parts(asked: Sequence[Asked]) -> dict[str, list[int]]:
    """The positions of all units, and of those of each kind where there are several."""
    parts = {"match/accuracy": list(range(len(asked)))}
    kinds = list(dict.fromkeys(one.kind for one in asked))
    if len(kinds) > 1:
        parts |= {f"match/accuracy[{kind}]": [i for i, one in enumerate(asked) if one.kind == kind] for kind in kinds}
    return parts


def _winoground(samples: Sequence[Sample], scored: Scores) -> dict[str, Values]:
    """Winoground's three scores, by the first row of each group of two that hold each other's captions."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row in sorted(scored):
        groups[samples[row].group or ""].append(row)
    firsts, hits = [], []
    for name, rows in groups.items():
        if not name or len(rows) != 2:
            continue
        (a, b), (own, other) = rows, (samples[row].captions[0] for row in rows)
        if own == other or other not in scored[a] or own not in scored[b]:
            continue
        text = scored[a][own] > scored[a][other] + TIE and scored[b][other] > scored[b][own] + TIE
        image = scored[a][own] > scored[b][own] + TIE and scored[b][other] > scored[a][other] + TIE
        firsts.append(a)
        hits.append((text, image, text and image))
    if not firsts:
        return {}
    return {name: Values.of(firsts, [0] * len(firsts), column) for name, column in zip(WINOGROUND, zip(*hits))}
