"""Better captions from the texts a sample already has; nothing is invented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from diptych.data.curate.steps import Change, StepReport
from diptych.data.curate.words import file_name_words, folder_words, is_hexadecimal, join_phrases, words
from diptych.types import Sample

SENTENCE_WORDS = 6


def clean_tags(rows: Sequence[Sample], junk: Sequence[str]) -> tuple[list[Sample], StepReport]:
    """Drop tags that say nothing: those in `junk`, hexadecimal codes, lone characters, repeats."""
    unwanted = {word.lower() for word in junk}

    def useful(tag: str) -> bool:
        plain = tag.strip().lower()
        return len(plain) > 1 and plain not in unwanted and not is_hexadecimal(plain) and bool(words(plain))

    kept, changes = [], []
    for row in rows:
        tags = list(dict.fromkeys(" ".join(words(tag)) for tag in row.tags if useful(tag)))
        if tags != row.tags:
            changes.append(Change(row.id, ", ".join(row.tags), ", ".join(tags)))
        kept.append(replace(row, tags=tags))
    return kept, StepReport(
        "tags", "Tags that say nothing about the picture were dropped.", len(rows), len(kept), changes
    )


def find_boilerplate(texts: Sequence[str], most_repeats: int) -> tuple[set[str], set[str]]:
    """Texts, and beginnings up to " - " or ": ", that stand on more than `most_repeats` pictures."""
    whole = Counter(texts)
    beginnings = Counter(beginning for text in texts if (beginning := _beginning(text)))
    frequent = {text for text, count in whole.items() if count > most_repeats}
    return frequent, {beginning for beginning, count in beginnings.items() if count > most_repeats}


def _beginning(text: str) -> str:
    for separator in (" - ", ": "):
        head, found, tail = text.partition(separator)
        if found and tail.strip():
            return head + separator
    return ""


def rewrite_captions(rows: Sequence[Sample], most_repeats: int, context: bool) -> tuple[list[Sample], StepReport]:
    """Replace boilerplate captions by the best other text, and add what tags and folders say to those that say little.

    A caption that stands on more than `most_repeats` pictures is the author's stamp, not a description; so is a
    beginning that many captions share ("Clipart by N. N. - "). A sentence (six words or more) is left as it is. A
    shorter title, or none, becomes title, file name, tags and folder names joined by commas, without repeats; with
    `context` false, tags and folders only stand in where title and file name say nothing. A row for which nothing is
    left keeps no caption.
    """
    frequent, beginnings = find_boilerplate([caption for row in rows for caption in row.captions], most_repeats)
    kept, changes = [], []
    for row in rows:
        own = [_strip(caption, beginnings) for caption in row.captions if caption not in frequent]
        captions = [text for text in own if len(words(text)) >= SENTENCE_WORDS] or _composed(row, own, context)
        if captions != row.captions:
            changes.append(Change(row.id, " | ".join(row.captions), " | ".join(captions)))
        kept.append(replace(row, captions=captions))
    sentence = f"Captions that stand on more than {most_repeats} pictures were replaced by the file's name" + (
        ", and tags and folder names were added to short ones." if context else "."
    )
    return kept, StepReport("captions", sentence, len(rows), len(kept), changes)


def _strip(caption: str, beginnings: set[str]) -> str:
    beginning = _beginning(caption)
    return caption[len(beginning) :] if beginning in beginnings else caption


def _composed(row: Sample, own: Sequence[str], context: bool) -> list[str]:
    path = row.texts.get("path", "")
    name = " ".join(file_name_words(path, row.creator))
    phrases = [title for text in own if (title := " ".join(words(text)))]
    if name and not any(title.startswith(name) for title in phrases):  # often the title, cut short
        phrases.append(name)
    if context or not phrases:
        phrases += row.tags + folder_words(path)
    caption = join_phrases(phrases)
    return [caption] if caption else []
