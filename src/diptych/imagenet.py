"""The 1000 classes of ImageNet-1k (ILSVRC-2012) in the order of every classifier trained on it, in WordNet's words."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple


class ImageNetClass(NamedTuple):
    """One class: its WordNet id ("n02123045"), its nouns, the best known first, and WordNet's definition."""

    wnid: str
    nouns: tuple[str, ...]
    definition: str

    @property
    def name(self) -> str:
        return self.nouns[0]


@cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """All 1000 classes. Source: WordNet 3.0 (Princeton University); see NOTICE."""
    lines = (Path(__file__).parent / "imagenet_classes.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split("\t") for line in lines)
    return tuple(ImageNetClass(wnid, tuple(nouns.split(", ")), definition) for wnid, nouns, definition in rows)
