"""What readers of annotation files share: the files and their splits, the places of pictures, records by picture."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from diptych.data.formats.records import BadRow
from diptych.data.formats.rows import SPLITS, decode_text
from diptych.types import EncodedImage, InputError, Rejected

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_YEAR = re.compile(r"_?(19|20)\d\d$")
_SPACE = re.compile(r"[ \t\n\r]*")


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


def plain_split(name: str) -> str:
    """A split's common name: "validation" for val2014 and dev; one that has no common name (trainA) stays as it is."""
    name = _YEAR.sub("", name)
    return SPLITS.get(name.casefold(), name)


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
        self.root = home
        self._folders = list(folders)
        if images is not None:
            self.root = Path(os.path.normpath(home / Path(images).expanduser()))
            self._folders = ["", *(folder for folder in folders if folder)]
            if not self.root.is_dir():
                raise InputError(f"{self.root}: option 'images': expected a folder of pictures")

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


def members(path: Path, inside: str | None = None) -> Iterator[tuple[str, Any]]:
    """(name, value) of each member of the object in a JSON file; of the list `inside`, (name, element) one by one.

    Only the text of the file and one value are in memory, which for millions of questions is a fifth of the whole.

    Raises:
        InputError: no such file, no JSON or cut short, no object at the top, or no list `inside`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        scan = _Scan(decode_text(path.read_bytes()))
        if scan.peek() != "{":
            raise InputError(f"{path}: expected an object at the top, got {type(json.loads(scan.text)).__name__}")
        seen = inside is None
        for _ in scan.entries("{", "}"):
            name = scan.value()
            scan.take(":")
            if name == inside:
                if scan.peek() != "[":
                    raise InputError(f"{path}: {inside}: expected a list, got {type(scan.value()).__name__}")
                seen = True
                for _ in scan.entries("[", "]"):
                    yield name, scan.value()
            else:
                yield name, scan.value()
        if scan.peek():
            raise ValueError(f"text after the end, at character {scan.at}")
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON: {error}") from None
    if not seen:
        raise InputError(f"{path}: {inside}: expected a list, found no such field")


class _Scan:
    """A place in a JSON text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too
        return self.text[self.at : self.at + 1]

    def take(self, character: str) -> None:
        if self.peek() != character:
            raise ValueError(f"'{character}' missing at character {self.at} of {len(self.text)}")
        self.at += 1

    def value(self) -> Any:
        self.peek()
        value, self.at = self._decode(self.text, self.at)
        return value

    def entries(self, start: str, end: str) -> Iterator[None]:
        """Stand before each entry of an object or a list; the caller reads it."""
        self.take(start)
        if self.peek() != end:
            yield
            while self.peek() == ",":
                self.take(",")
                yield
        self.take(end)
