"""Which tar files a pattern stands for: braces, wildcards, a folder, one file."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from urllib.parse import unquote

from diptych.types import InputError

MAX_SHARDS = 1_000_000  # of one pattern: more is a slip of the pen


def shards_of(pattern: str) -> list[Path]:
    """The tar files, in order, of a tar, a folder of tars, `x-{000..127}.tar`, `{a,b}.tar`, `*.tar` or `[...]`.

    `~` is the home folder. `%3F` stands for a question mark, which would begin an address's options, and so on.

    Raises:
        InputError: a file that braces name is missing, or nothing is found.
    """
    if "%" in pattern and not Path(pattern).expanduser().exists():
        pattern = unquote(pattern)
    found: list[Path] = []
    missing: list[str] = []
    for text in [pattern] if Path(pattern).expanduser().exists() else written_out(pattern):
        path = Path(text).expanduser()
        if path.is_dir():
            found += tars_in(path)
        elif path.exists():
            found.append(path)
        elif matches := sorted(glob.glob(str(path))):
            found += map(Path, matches)
        else:
            missing.append(text)
    if missing:
        more = f" (and {len(missing) - 1:,} more of {pattern})" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}: no such file{more}")
    return [Path(os.path.abspath(path)) for path in dict.fromkeys(found)]


def tars_in(folder: Path) -> list[Path]:
    """The tar files at the top of a folder, by name. Raises `InputError` if there is none."""
    tars = sorted(path for path in folder.glob("*.tar") if not path.name.startswith(".") and path.is_file())
    if not tars:
        packed = next((path.name for path in sorted(folder.glob("*.tar.*"))), None)
        hint = f"; decompress those like {packed}, since members are read in place" if packed else ""
        raise InputError(f"{folder}: expected tar files in it, found none{hint}")
    return tars


def written_out(text: str) -> list[str]:
    """`a{b,c}{01..03}` as a shell writes it out; a brace without a comma or a range stays as it is.

    Raises:
        InputError: it stands for more than a million names.
    """
    done, rest = [""], text
    while match := re.search(r"\{([^{}]*)\}", rest):
        parts = _alternatives(match[1])
        done = [before + rest[: match.start()] + part for before in done for part in parts]
        rest = rest[match.end() :]
        if len(done) > MAX_SHARDS:
            raise InputError(f"{text}: stands for more than {MAX_SHARDS:,} files")
    return [before + rest for before in done]


def _alternatives(inside: str) -> list[str]:
    span = re.fullmatch(r"(-?\d+)\.\.(-?\d+)(?:\.\.(\d+))?", inside)
    if span is None:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last, step = int(span[1]), int(span[2]), max(int(span[3] or 1), 1)
    if abs(last - first) // step >= MAX_SHARDS:
        raise InputError(f"{{{inside}}}: stands for more than {MAX_SHARDS:,} files")
    padded = any(end.lstrip("-").startswith("0") and len(end.lstrip("-")) > 1 for end in (span[1], span[2]))
    width = max(len(span[1]), len(span[2])) if padded else 0
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    return [f"{number:0{width}d}" for number in numbers]
