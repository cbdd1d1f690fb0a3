"""Where Diptych keeps what it can fetch or compute again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$DIPTYCH_CACHE`, else `$XDG_CACHE_HOME/diptych`, else `~/.cache/diptych`. It may not exist yet."""
    own = os.environ.get("DIPTYCH_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "diptych"
