"""Where the parts of a data set lie: its annotation files, the folder of its pictures, and how a large JSON is told."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from diptych.data.formats.records import SNIFFED
from diptych.data.formats.rows import SPLITS
from diptych.types import InputError

_YEAR = re.compile(r"_?(19|20)\d\d$")
_KEY = re.compile(rb'"(\w{1,40})"\s*:')
_TRIED = 20  # pictures that are looked for to tell which folder holds them


def edge_keys(path: Path) -> frozenset[str]:
    """The names of fields in the first and the last 64 KiB of a JSON file: big tables push others to the end."""
    try:
        if not path.is_file():
            return frozenset()
        with path.open("rb") as file:
            edges = file.read(SNIFFED)
            file.seek(max(SNIFFED, path.stat().st_size - SNIFFED))
            edges += b"\n" + file.read()
    except OSError:
        return frozenset()
    return frozenset(key.decode() for key in _KEY.findall(edges))


def root_of(path: Path) -> Path:
    """The data set's folder: `path`, or the folder of the file `path`, or the one above if that is `annotations`."""
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name == "annotations" else folder


def pictures_root(root: Path, images: str) -> Path:
    """Where picture paths start: `root`, or the folder named by the option `images`, which may be relative to it."""
    base = Path(os.path.normpath(root / Path(images).expanduser())) if images else root
    if not base.is_dir():
        raise InputError(f"{base}: option 'images': expected a folder of pictures")
    return base


def home_of(root: Path, folders: Iterable[str], names: Sequence[str]) -> str:
    """The first of `folders` (relative to `root`) that holds one of the first `names`; else the first that exists."""
    folders = list(folders)
    for folder in folders:
        if any(os.path.isfile(root / folder / name) for name in names[:_TRIED]):
            return folder
    return next((folder for folder in folders if (root / folder).is_dir()), "")


def below(folders: Iterable[Path]) -> Iterator[Path]:
    """Every file below the folders that exist, in order."""
    for top in folders:
        for folder, inner, names in os.walk(top):
            inner.sort()
            yield from (Path(folder, name) for name in sorted(names))


def plain_split(name: str) -> str | None:
    """A split's common name: "validation" for val2014 and dev; one that has no common name (trainA) stays as it is."""
    name = _YEAR.sub("", name) or name
    return SPLITS.get(name.casefold(), name) or None
