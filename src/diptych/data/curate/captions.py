"""Better captions from the texts a sample already has; nothing is invented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from diptych.config import strict
from diptych.data.curate.lists import column_of, flat, pieces
from diptych.data.curate.steps import Decision, Step, Tools
from diptych.data.curate.words import file_name_words, folder_words, is_hexadecimal, join_phrases, words

SENTENCE_WORDS = 6
JUNK_TAGS = (
    "hash",
    "theme",
    "clip art",
    "clip_art",
    "clipart",
    "misc",
    "unsorted",
    "svg",
    "png",
    "other",
    "various",
    "image",
)


@strict
@dataclass(frozen=True)
class Tags(Step):
    """Drop tags that say nothing: those in `junk`, hexadecimal codes, lone characters, repeats.

    Attributes:
        junk: tags to drop, in any case.
    """

    do: Literal["tags"] = "tags"
    junk: tuple[str, ...] = JUNK_TAGS

    reads: ClassVar[tuple[str, ...]] = ("tags",)

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        junk = {word.lower() for word in self.junk}
        old = rows["tags"]
        parts, changed = [], []
        for piece in pieces(rows.select(["tags"])):
            new = [clean_tags(tags or [], junk) for tags in piece["tags"]]
            changed += [tags != (was or []) for tags, was in zip(new, piece["tags"], strict=True)]
            parts.append(new)
        column = column_of(parts)
        return Decision(
            "Tags that say nothing about the picture were dropped.",
            columns={"tags": column},
            changed=np.array(changed, dtype=bool),
            say=lambda row: (", ".join(old[row].as_py()), ", ".join(column[row].as_py())),
        )


@strict
@dataclass(frozen=True)
class Captions(Step):
    """Replace boilerplate captions by the best other text, and add what tags and folders say to those that say little.

    A caption that stands on more than `most_repeats` pictures is the author's stamp, not a description; so is a
    beginning that many captions share ("Clipart by N. N. - "). A sentence (six words or more) is left as it is. A
    shorter title, or none, becomes title, file name, tags and folder names joined by commas, without repeats; with
    `context` false, tags and folders only stand in where title and file name say nothing. A row for which nothing is
    left keeps no caption.

    Attributes:
        most_repeats: a caption on more pictures than this is boilerplate.
        context: let tags and folder names follow each short caption.
    """

    do: Literal["captions"] = "captions"
    most_repeats: Annotated[int, Field(ge=1)] = 8
    context: bool = True

    reads: ClassVar[tuple[str, ...]] = ("captions", "tags", "creator", "path")
    per_row: ClassVar[bool] = False

    def decide(self, rows: Any, tools: Tools) -> Decision:
        """See the class."""
        frequent, beginnings = find_boilerplate(flat(rows["captions"]), self.most_repeats)
        old = rows["captions"]
        parts, changed = [], []
        for piece in pieces(rows.select(list(self.reads))):
            new = []
            for captions, tags, creator, path in zip(*(piece[name] for name in self.reads), strict=True):
                own = [_strip(caption, beginnings) for caption in captions or [] if caption not in frequent]
                kept = [text for text in own if len(words(text)) >= SENTENCE_WORDS]
                new.append(kept or composed(own, tags or [], creator, path, self.context))
                changed.append(new[-1] != (captions or []))
            parts.append(new)
        column = column_of(parts)
        sentence = f"Captions that stand on more than {self.most_repeats} pictures were replaced by the file's name"
        return Decision(
            sentence + (", and tags and folder names were added to short ones." if self.context else "."),
            columns={"captions": column},
            changed=np.array(changed, dtype=bool),
            say=lambda row: (" | ".join(old[row].as_py() or []), " | ".join(column[row].as_py())),
        )


def clean_tags(tags: Sequence[str], junk: set[str]) -> list[str]:
    """The tags that say something, in plain words and once each; `junk` is in lower case."""

    def useful(tag: str) -> bool:
        plain = tag.strip().lower()
        return len(plain) > 1 and plain not in junk and not is_hexadecimal(plain) and bool(words(plain))

    return list(dict.fromkeys(" ".join(words(tag)) for tag in tags if useful(tag)))


def find_boilerplate(texts: Any, most_repeats: int) -> tuple[set[str], set[str]]:
    """Texts, and beginnings up to " - " or ": ", that stand on more than `most_repeats` pictures.

    `texts` is a sequence or an Arrow array of texts.
    """
    column = texts if isinstance(texts, (pa.Array, pa.ChunkedArray)) else pa.array(texts, pa.string())
    found = pc.value_counts(column)
    beginnings: Counter[str] = Counter()
    frequent = set()
    for piece in pieces(pa.table({"text": found.field("values"), "count": found.field("counts")})):
        for text, count in zip(piece["text"], piece["count"], strict=True):
            if count > most_repeats:
                frequent.add(text)
            if beginning := _beginning(text):
                beginnings[beginning] += count
    return frequent, {beginning for beginning, count in beginnings.items() if count > most_repeats}


def _beginning(text: str) -> str:
    for separator in (" - ", ": "):
        head, found, tail = text.partition(separator)
        if found and tail.strip():
            return head + separator
    return ""


def _strip(caption: str, beginnings: set[str]) -> str:
    beginning = _beginning(caption)
    return caption[len(beginning) :] if beginning in beginnings else caption


def composed(own: Sequence[str], tags: Sequence[str], creator: str | None, path: str, context: bool) -> list[str]:
    """One caption out of titles, the file's name, tags and folders; none if they say nothing."""
    name = " ".join(file_name_words(path, creator))
    phrases = [title for text in own if (title := " ".join(words(text)))]
    if name and not any(title.startswith(name) for title in phrases):  # often the title, cut short
        phrases.append(name)
    if context or not phrases:
        phrases += [*tags, *folder_words(path)]
    caption = join_phrases(phrases)
    return [caption] if caption else []
