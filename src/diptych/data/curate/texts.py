"""Filters by what a caption is: its length, its alphabet, its language. Each caption is judged by itself.

A row that loses its last caption is dropped. A row that never had one passes: it is there for its picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.lists import flat, judge_captions
from diptych.data.curate.steps import Decision, Models, Step, Tools
from diptych.types import InputError

Range = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
Share = Annotated[float, Field(ge=0, le=1)]


@strict
@dataclass(frozen=True)
class TextLength(Step):
    """Drop captions that are too short or too long.

    Attributes:
        words: (fewest, most) parts between spaces; None for no limit.
        characters: (fewest, most); None for no limit.
    """

    do: Literal["text-length"] = "text-length"
    words: Range | None = (2, 60)
    characters: Range | None = None

    reads: ClassVar[tuple[str, ...]] = ("captions",)

    def __post_init__(self) -> None:
        for name in ("words", "characters"):
            limit = getattr(self, name)
            if limit is not None and limit[0] > limit[1]:
                raise InputError(f"text-length: {name}: expected the fewest first, got {limit[0]}, {limit[1]}")

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        texts = pc.utf8_trim_whitespace(flat(rows["captions"]))
        good = np.ones(len(texts), dtype=bool)
        limits = []
        for limit, unit in ((self.words, "words"), (self.characters, "characters")):
            if limit is not None:
                found = pc.count_substring_regex(texts, r"\S+") if unit == "words" else pc.utf8_length(texts)
                length = found.to_numpy()
                good &= (length >= limit[0]) & (length <= limit[1])
                limits.append(f"{limit[0]} to {limit[1]} {unit}")
        return judge_captions(
            rows, good, f"Captions that are not of {' and '.join(limits) or 'any length'} were dropped."
        )


@strict
@dataclass(frozen=True)
class Alphabet(Step):
    """Drop captions that are made of digits, codes and signs, or of another script than the wanted one.

    Attributes:
        of: Unicode classes or scripts that count, as RE2 names them: "L" is any letter, "Latin", "Cyrillic", "Han", ...
        least: the share of these among the characters of a caption that are not spaces.
    """

    do: Literal["alphabet"] = "alphabet"
    of: tuple[str, ...] = ("L",)
    least: Share = 0.6

    reads: ClassVar[tuple[str, ...]] = ("captions",)

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class. Raises `InputError` for a class that RE2 does not know."""
        texts = flat(rows["captions"])
        classes = (rf"\p{{{name}}}" for name in self.of)
        try:
            wanted = pc.count_substring_regex(texts, f"[{''.join(classes)}]").to_numpy()
        except pa.ArrowInvalid:
            known = "L, Latin, Greek, Cyrillic, Arabic, Han, ..."
            raise InputError(f"alphabet: of: expected Unicode classes or scripts ({known}), got {self.of}") from None
        visible = pc.count_substring_regex(texts, r"[^\pZ\s]").to_numpy()
        share = wanted / np.maximum(visible, 1)
        return judge_captions(
            rows,
            share >= self.least,
            f"Captions of which less than {self.least:.0%} is {' or '.join(self.of)} were dropped.",
            lambda place: f"{share[place]:.0%}",
        )


@strict
@dataclass(frozen=True)
class Language(Step):
    """Drop captions in another language than the wanted ones.

    The language is told by naive Bayes over byte n-grams (Lui and Baldwin, "Cross-domain feature selection for language
    identification", 2011; package py3langid), with probabilities that grow with the length of the text: a few words are
    often unsure, and a caption goes only where another language is sure.

    Attributes:
        keep: ISO 639 codes.
        sure: the probability of the likeliest language from which on it is believed.
    """

    do: Literal["language"] = "language"
    keep: tuple[str, ...] = ("en",)
    sure: Share = 0.5

    reads: ClassVar[tuple[str, ...]] = ("captions",)
    measures_texts: ClassVar[tuple[str, ...]] = ("captions",)

    def measures(self, models: Models) -> str:
        """The language; its name holds the version of the package. Raises `InputError` without it, or for a code."""
        identifier, version = _identifier()
        if unknown := sorted(set(self.keep) - set(identifier.labels)):
            known = ", ".join(sorted(identifier.labels))
            raise InputError(f"language: keep: unknown language '{unknown[0]}'; known are {known}")
        return f"language py3langid {version}"

    def measure(self, batch: Any, models: Models) -> Mapping[str, Any]:
        """The likeliest language of each caption and its probability."""
        identifier, _ = _identifier()
        found = [[identifier.classify(text or "") for text in of_one or []] for of_one in batch["captions"].to_pylist()]
        return {
            "language": pa.array([[name for name, _ in of_one] for of_one in found], pa.list_(pa.string())),
            "language_sure": pa.array([[sure for _, sure in of_one] for of_one in found], pa.list_(pa.float32())),
        }

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        names, sure = pc.list_flatten(rows["language"]), pc.list_flatten(rows["language_sure"]).to_numpy()
        wanted = pc.is_in(names, value_set=pa.array(self.keep, pa.string())).to_numpy()
        return judge_captions(
            rows,
            wanted | (sure < self.sure),
            f"Captions surely in another language than {', '.join(self.keep)} were dropped.",
            lambda place: f"{names[place]}, {sure[place]:.0%}",
        )


@cache
def _identifier() -> tuple[Any, str]:
    try:
        import py3langid
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise InputError('the step "language" needs py3langid: pip install "diptych[language]"') from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True), py3langid.__version__
