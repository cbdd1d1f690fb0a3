"""Flickr30k and Flickr8k: a token file or a table, five captions for each picture, and a folder of pictures.

- `results_20130124.token` and `Flickr8k.token.txt`: `1000092795.jpg#0`, a tab, the caption;
- `results.csv`: the header `image_name| comment_number| comment`, with bars, or with commas;
- `captions.txt`: the header `image,caption`.

A line holds one caption, so that a broken one costs nothing else: in the well-known `results.csv` one line has no bar
before its caption.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from diptych.data.formats.annotated import Part, Pictures, choose, find, home
from diptych.data.formats.rows import Row, Rows, decode_text, merge_by_picture, valid
from diptych.types import InputError, Rejected, Sample

NAME = re.compile(r".+\.token(\.txt)?|results\.csv|captions\.txt", re.IGNORECASE)
FOLDERS = ("flickr30k-images", "flickr30k_images", "images", "flickr8k_dataset", "flicker8k_dataset")
PICTURES = (
    *("flickr30k-images", "flickr30k_images", "flickr30k_images/flickr30k_images", "Images", "images"),
    *("Flicker8k_Dataset", "Flickr8k_Dataset", ""),
)
SNIFFED = 4096
TOKEN_LINE = re.compile(r"[^\t#\n]+#\d+\t")

Split = Callable[[str], tuple[str, str] | None]  # a line -> (picture, caption)


def recognise(path: Path) -> bool:
    """Whether a token file or one of the tables is there. `image,caption` needs a folder of Flickr's name beside it."""
    return any(_fits(part.file, path) for part in find(path, NAME, FOLDERS))


def read(path: Path, *, images: str | None = None) -> Rows:
    """One sample for each picture. Raises `InputError` where no such file is, or it holds no text."""
    files = _files(path)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    rows, merged = merge_by_picture(row for part in files for row in _rows(part.file, pictures))
    found = f"Flickr30k captions ({', '.join(part.file.name for part in files)})"
    return Rows(found, iter(rows), len(rows), merged, pictures.root)


def listing(path: Path, *, images: str | None = None) -> Iterator[Path]:
    """The caption files and the pictures."""
    yield from (part.file for part in _files(path))
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _files(path: Path) -> list[Part]:
    parts = [part for part in find(path, NAME, FOLDERS) if part.file == path or _reader(_head(part.file))]
    return choose(parts, None, path, "a Flickr30k token file (*.token), results.csv or captions.txt")


def _fits(file: Path, path: Path) -> bool:
    head = _head(file)
    if _reader(head) is not _two_cells:
        return _reader(head) is not None
    return any((home(path, FOLDERS) / folder).is_dir() for folder in PICTURES if folder.casefold().startswith("flick"))


def _head(file: Path) -> str:
    """The first line that is not blank, or of a token file so much of it as fits."""
    try:
        with file.open("rb") as stream:
            head = decode_text(stream.read(SNIFFED)).replace("\r", "\n")
    except (OSError, UnicodeDecodeError):
        return ""
    return next((line for line in head.split("\n") if line.strip()), "")


def _reader(head: str) -> Split | None:
    """How the lines below (or like) this first one are read."""
    if TOKEN_LINE.match(head):
        return _token
    for delimiter, three in (("|", _three_bars), (",", _three_commas)):
        names = [name.strip().casefold() for name in head.split(delimiter)]
        if names == ["image_name", "comment_number", "comment"]:
            return three
    return _two_cells if [name.strip().casefold() for name in head.split(",")] == ["image", "caption"] else None


def _token(line: str) -> tuple[str, str] | None:
    place, tab, caption = line.partition("\t")
    name, hash, number = place.rpartition("#")
    return (name, caption) if tab and hash and number.strip().isdigit() else None


def _three_bars(line: str) -> tuple[str, str] | None:
    cells = line.split("|", 2)
    return (cells[0], cells[2]) if len(cells) == 3 else None


def _three_commas(line: str) -> tuple[str, str] | None:
    cells = line.split(",", 2)
    return (cells[0], _unquoted(cells[2])) if len(cells) == 3 else None


def _two_cells(line: str) -> tuple[str, str] | None:
    name, comma, caption = line.partition(",")
    return (name, _unquoted(caption)) if comma else None


def _unquoted(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _rows(file: Path, pictures: Pictures) -> Iterator[Row]:
    try:
        text = decode_text(file.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text: {error}") from None
    reader = _reader(_head(file))
    if reader is None:
        raise InputError(
            f"{file}: expected lines like 'x.jpg#0<tab>caption', or the header 'image_name| comment_number| comment' "
            "or 'image,caption'"
        )
    numbered = enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1)
    lines = ((n, line) for n, line in numbered if line.strip())
    if reader is not _token:
        next(lines)  # the header
    for n, line in lines:
        where = f"{file.name}:{n}"
        cells = reader(line)
        if cells is None:
            yield Rejected(where, "row broken", f"{where}: expected a picture, a number and a caption")
            continue
        name, caption = (cell.strip() for cell in cells)
        if not name or not caption:
            yield Rejected(where, "caption empty" if name else "image missing", where)
        elif not valid(line):
            yield Rejected(where, "caption not UTF-8", where)
        else:
            yield Sample(name, [pictures.find(name)], [caption])
