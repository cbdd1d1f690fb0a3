"""What a report can hold. Every section is plain data; `templates/<template>` says how it looks.

To add a section: a dataclass here and its template beside the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diptych.types import Estimate


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, a sentence or two below it, and what the subclass adds."""

    template: ClassVar[str]
    title: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricTable(Section):
    """Models against metrics: a value with its interval, n and chance in each cell.

    `models` maps a model's name to its estimates; `about` may say in a few words what each model is.
    """

    template: ClassVar[str] = "metric_table.html"
    models: Mapping[str, Mapping[str, Estimate]]
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CurationExample:
    """One row that a step touched: its encoded picture, its text before, and after ("" if the row was dropped)."""

    picture: bytes | None
    before: str
    after: str


@dataclass(frozen=True)
class CurationStep:
    """What one step did: `changed` counts the rows that it touched."""

    name: str
    sentence: str
    rows_before: int
    rows_after: int
    changed: int
    examples: Sequence[CurationExample] = ()


@dataclass(frozen=True, kw_only=True)
class Curation(Section):
    """What was changed and dropped on the way from raw to clean, with counts and pictures."""

    template: ClassVar[str] = "curation.html"
    steps: Sequence[CurationStep]


@dataclass(frozen=True, kw_only=True)
class LossCurves(Section):
    """The loss of some runs over their steps, read from each run's `metrics.jsonl`, with the chance level dashed."""

    template: ClassVar[str] = "loss_curves.html"
    runs: Mapping[str, Path]


@dataclass(frozen=True)
class Answer:
    """One candidate at its place: a picture or a text, its score, and whether it is a right one."""

    place: int
    score: float
    right: bool
    picture: bytes | None = None
    text: str = ""


@dataclass(frozen=True)
class Query:
    """A text (or a picture with its captions in `text`), the rank of its first right answer, and its first answers.

    `missed` is the first right answer when it is not among `answers`.
    """

    text: str
    rank: float
    candidates: int
    answers: Sequence[Answer]
    missed: Answer | None = None
    picture: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class TextToImage(Section):
    """Texts and the pictures that they found."""

    template: ClassVar[str] = "text_to_image.html"
    queries: Sequence[Query]


@dataclass(frozen=True, kw_only=True)
class ImageToText(Section):
    """Pictures and the texts that they found."""

    template: ClassVar[str] = "image_to_text.html"
    queries: Sequence[Query]


@dataclass(frozen=True)
class Example:
    """A picture, what the model was asked, what it said, and what is true; `score` is from 0 (wrong) on."""

    picture: bytes
    asked: str
    said: str
    truth: str
    score: str


@dataclass(frozen=True, kw_only=True)
class Examples(Section):
    """Pictures with what was asked, said and true."""

    template: ClassVar[str] = "examples.html"
    examples: Sequence[Example]


@dataclass(frozen=True, kw_only=True)
class Confusion(Section):
    """Counts K x K, the row being the true class. Large matrices are cut down to the classes with most errors."""

    template: ClassVar[str] = "confusion.html"
    labels: Sequence[str]
    counts: NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class ModalityMap(Section):
    """Pairs in the joint space, laid out in the plane: pair i is `images[i]`, `texts[i]`, `pictures[i]`, `captions[i]`.

    `images` and `texts` are N x D, L2-normalised; some hundreds of pairs are what the eye can take in.
    """

    template: ClassVar[str] = "modality_map.html"
    images: NDArray[np.float32]
    texts: NDArray[np.float32]
    pictures: Sequence[bytes]
    captions: Sequence[str]


@dataclass(frozen=True)
class Bar:
    """A line of a bar chart: a name, how long the bar is (0 to 1), and what stands on it."""

    name: str
    length: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Bars(Section):
    """Named bars below each other, the longest usually first."""

    template: ClassVar[str] = "bars.html"
    bars: Sequence[Bar]


@dataclass(frozen=True, kw_only=True)
class Notes(Section):
    """A list of sentences, e.g. what was left out and why."""

    template: ClassVar[str] = "notes.html"
    items: Sequence[str]


@dataclass(frozen=True)
class Report:
    """A page: title, one sentence that says what came out, sections in order, and how the page was made."""

    title: str
    summary: str
    sections: Sequence[Section]
    command: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
