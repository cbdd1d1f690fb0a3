"""The question behind most tests: of some texts about a picture, of which one is true, which does the model prefer?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities import AnswersQuestions, DualEncoder, MatchesPairs
from diptych.evaluation.health.finding import Failure, reasons
from diptych.evaluation.match import hit
from diptych.tasks.match import match
from diptych.types import InputError, Sample

Floats = NDArray[np.float64]

MATCHES = "a model that compares pictures with texts or answers questions"
FAILURES_SHOWN = 6


class Choice(NamedTuple):
    """Texts about the picture of sample `row`; the first is true, the others are false.

    Choices of one `group` are no independent evidence: intervals draw them together.
    """

    row: int
    texts: tuple[str, ...]
    group: int


class Chosen(NamedTuple):
    """The choices that could be judged, with the scores of their texts and whether the true one came first.

    `hits` is 1 or 0; where the true text ties with k others for the first place, 1 / (k + 1). `left_out` counts the
    pictures about which nothing could be judged, by reason.
    """

    choices: list[Choice]
    scores: list[Floats]
    hits: Floats
    groups: NDArray[np.int64]
    left_out: dict[str, int]


def can_match(model: Any) -> bool:
    """Whether the model can say how well a text fits a picture."""
    return isinstance(model, (MatchesPairs, DualEncoder, AnswersQuestions))


def choose(model: Any, pictures: Sequence[Any], choices: Sequence[Choice], **settings: Any) -> Chosen:
    """Let the model choose; each picture is looked at once. Choices about pictures that it gave no scores are left out.

    Args:
        pictures: of every sample, as the tasks take them; `Choice.row` counts in it.
        settings: of `tasks.match`.
    """
    texts: dict[int, dict[str, None]] = {}
    for choice in choices:
        texts.setdefault(choice.row, {}).update(dict.fromkeys(choice.texts))
    rows = list(texts)
    found = match(model, [pictures[row] for row in rows], [list(texts[row]) for row in rows], **settings)
    scored = {rows[i]: dict(zip(texts[rows[i]], scores.tolist())) for i, scores in zip(found.kept, found.scores)}
    judged = [choice for choice in choices if choice.row in scored]
    if not judged:
        raise InputError(f"images: none of {len(rows)} could be judged{_why(found.rejected)}")
    scores = [np.array([scored[choice.row][text] for text in choice.texts]) for choice in judged]
    hits = np.array([hit(some[0], some[1:].tolist()) for some in scores])
    return Chosen(judged, scores, hits, np.array([choice.group for choice in judged]), reasons(found.rejected))


def chance(choices: Sequence[Choice]) -> float:
    """What guessing gets."""
    return float(np.mean([1 / len(choice.texts) for choice in choices]))


def failures(samples: Sequence[Sample], chosen: Chosen, asked: str) -> list[Failure]:
    """The choices that went wrong by most."""
    lost = [scores[1:].max() - scores[0] for scores in chosen.scores]
    wrong = [i for i in np.argsort(lost)[::-1] if chosen.hits[i] < 1][:FAILURES_SHOWN]
    return [
        Failure(
            picture_of(samples[chosen.choices[i].row]),
            asked,
            chosen.choices[i].texts[1 + int(chosen.scores[i][1:].argmax())],
            chosen.choices[i].texts[0],
        )
        for i in wrong
    ]


def picture_of(sample: Sample) -> bytes | None:
    """The encoded picture of a sample, None if there is none to read."""
    from diptych.data.store import image_source
    from diptych.images import BadImage, read_bytes

    try:
        source = image_source(sample)
        return source if isinstance(source, bytes) else read_bytes(source)
    except BadImage:
        return None


def _why(rejected: Sequence[Any]) -> str:
    return f": {rejected[0].reason} {rejected[0].detail}".rstrip() if rejected else ""
