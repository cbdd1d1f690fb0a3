"""What readers of annotation files share: the files and their splits, the places of pictures, records by picture."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from diptych.data.formats.places import pictures_root, plain_split
from diptych.data.formats.records import BadRow, maybe, need
from diptych.data.formats.rows import valid
from diptych.types import EncodedImage, InputError, Rejected

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


# ---------------------------------------------------------------- the files


class Part(NamedTuple):
    """One annotation file and the split that its name tells, if it tells one."""

    file: Path
    split: str | None


def find(path: Path, name: re.Pattern[str], folders: Collection[str] = ()) -> list[Part]:
    """The annotation files of a source: `path` itself, or the files of that name in it and in `folders` (lower case).

    The group `split` of the pattern, if it has one, is the split. A file that is given itself may have any name.
    """
    if path.is_file():
        return [_part(path, name.fullmatch(path.name))]
    try:
        entries = sorted(os.listdir(path))
    except OSError:
        return []
    found = [
        _part(path / entry, match)
        for entry in entries
        if (match := name.fullmatch(entry)) is not None and (path / entry).is_file()
    ]
    for entry in entries:
        if entry.casefold() in folders and (path / entry).is_dir():
            found += find(path / entry, name, folders)
    return found


def _part(file: Path, match: re.Match[str] | None) -> Part:
    split = None if match is None else match.groupdict().get("split")
    return Part(file, None if split is None else plain_split(split))


def choose(parts: list[Part], split: str | None, path: Path, wanted: str) -> list[Part]:
    """The parts of a split, or all. Raises `InputError` if there is none; `wanted` says what the format consists of."""
    if not parts:
        raise InputError(f"{path}: expected {wanted}; found none")
    if split is None:
        return parts
    chosen = [part for part in parts if part.split == plain_split(split)]
    if not chosen:
        known = ", ".join(sorted({part.split for part in parts if part.split is not None})) or "none"
        raise InputError(f"{path}: no split '{split}'; it has {known}")
    return chosen


def home(path: Path, folders: Collection[str] = ()) -> Path:
    """The folder that a source's pictures lie in or below: the folder given, or the one around an annotation file."""
    if path.is_dir():
        return path
    folder = path.parent
    while folder.name.casefold() in folders:
        folder = folder.parent
    return folder


# ---------------------------------------------------------------- the pictures


class Pictures:
    """Where the pictures of a source lie. A name is looked for in each folder, first in the one that held the last.

    Args:
        home: the source's folder.
        folders: folders below it ("" is itself), the most likely first.
        images: the option of that name: another place for pictures, relative to `home` or absolute.

    Attributes:
        root: the folder that the paths of pictures start from.

    Raises:
        InputError: `images` is no folder.
    """

    def __init__(self, home: Path, folders: Sequence[str], images: str | None = None) -> None:
        self.root = home if images is None else pictures_root(home, images)
        self._folders = list(folders) if images is None else ["", *(folder for folder in folders if folder)]

    def search(self, *names: str) -> str | None:
        """The path from `root` of the first of these names that is a file."""
        for i, folder in enumerate(self._folders):
            for name in names:
                path = posixpath.join(folder, name)
                if _is_file(f"{self.root}/{path}"):
                    if i:
                        self._folders.insert(0, self._folders.pop(i))
                    return path
        return None

    def find(self, *names: str) -> EncodedImage:
        """The picture of that name, by its path; where none is found, the path at which it would be expected."""
        return EncodedImage(None, self.search(*names) or posixpath.join(self._folders[0], names[0]))

    def files(self) -> Iterator[Path]:
        """Every file in the folders, for noticing changes."""
        for folder in sorted(self._folders):
            here = self.root / folder
            inside = any(other and folder.startswith(f"{other}/") for other in self._folders)
            if here.is_dir() and not inside:
                yield from sorted(here.rglob("*") if folder else here.iterdir())


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:  # a name that no file system allows
        return False


# ---------------------------------------------------------------- the records


def gather(
    records: Iterable[tuple[str, Any]], make: Callable[[str, Any], tuple[K, V]]
) -> tuple[dict[K, list[V]], list[Rejected]]:
    """(key -> its values, in order of first mention; the records that are bad). `make` may raise `BadRow`."""
    groups: dict[K, list[V]] = {}
    bad = []
    for id, record in records:
        try:
            key, value = make(id, record)
        except BadRow as error:
            bad.append(Rejected(id, error.reason, error.detail))
        else:
            groups.setdefault(key, []).append(value)
    return groups, bad


def answers_of(record: Any, where: str) -> list[str]:
    """The texts of `answers: [{"answer": text, ...}, ...]`, in order; none where there is no such field."""
    given = maybe(record, "answers", list, where) or []
    try:
        found = [sys.intern(answer["answer"]) for answer in given]  # millions, of which most are "yes" and "no"
        if valid("".join(found)):
            return found
    except (TypeError, KeyError):
        pass  # the slow way says what is wrong
    return [need(answer, "answer", str, where) for answer in given]
