"""Caption tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TOKEN = re.compile(r"n't\b|'(?:s|m|d|re|ve|ll)\b|\w+(?=n't\b)|\w+(?:[-./]\w+)*|\S")
_DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"'])


def tokenize(texts: Sequence[str]) -> list[str]:
    """First version: words in lower case, punctuation dropped."""
    return [" ".join(t for t in _TOKEN.findall(text.lower()) if t not in _DROPPED) for text in texts]
