"""A curation plan: which steps run, in which order, with which numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from diptych.config import parse, read_file, strict

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
class Plan:
    """The steps of a curation, in the order in which they run. `None` leaves a step out.

    Attributes:
        junk_tags: tags to drop besides hexadecimal codes and lone characters.
        most_repeats: a caption on more pictures than this is boilerplate and is replaced.
        context: let tags and folder names follow each caption.
        require_caption: drop rows for which no text is left.
        near_duplicates: pictures whose 8 x 8 thumbnails differ by at most this much (mean over pixels, 0 to 255) repeat
            each other; one is kept.
        per_caption: at most so many pictures with the very same caption.
        per_creator: at most so many pictures of one creator.
        seed: decides which rows a cap keeps.
    """

    junk_tags: tuple[str, ...] = field(default=JUNK_TAGS)
    most_repeats: int | None = 8
    context: bool = True
    require_caption: bool = True
    near_duplicates: float | None = 2.0
    per_caption: int | None = 20
    per_creator: int | None = 1000
    seed: int = 0


def read_plan(path: str | Path) -> Plan:
    """A plan from a TOML or JSON file. Raises `InputError` naming the file and the field."""
    return parse(Plan, read_file(path), str(path))
