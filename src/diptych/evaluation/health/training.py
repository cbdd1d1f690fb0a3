"""What a model was trained without, as far as its model card tells."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import parse_qs

COMMAND = "diptych train "


def held_out_of(folder: Path) -> str:
    """The combinations of `scenes:?held_out=...` in the command of the card (README.md); "" where nothing is said."""
    try:
        lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    for line in lines:
        if not line.startswith(COMMAND):
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        for word in words:
            if word.startswith("scenes:?"):
                return parse_qs(word.partition("?")[2]).get("held_out", [""])[0]
    return ""
