"""A folder of pictures. Captions come from tables inside it, from text files of the same name, or there are none.

- `metadata.jsonl`, `metadata.csv`, `captions.csv|tsv|jsonl|txt` in any subfolder, and any other table at the top that
  has a column of picture paths; paths are relative to the table.
- `cat.txt` beside `cat.jpg`: each line that is not blank is one caption.
- Neither: bare pictures, whose label is the name of their subfolder.

A picture that no table mentions is kept without captions. A first-level folder called train, val, test, ... is the
split.
"""

from __future__ import annotations

import json
import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from diptych.data.formats import table
from diptych.data.formats.rows import Row, Rows, decode_text, is_dataset, join_path, merge_by_picture, split_of, valid
from diptych.data.formats.written import Pictures
from diptych.images import HEADER_BYTES, BadImage, looks_like_image
from diptych.types import EncodedImage, InputError, Rejected, Sample

log = logging.getLogger("diptych")

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ico"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".qoi"),
        *(".heic", ".heif", ".svg", ".psd"),  # not read, but pictures too: quarantined and counted, not overlooked
    )
)
OTHER_SUFFIXES = frozenset(
    (".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".md", ".html", ".xml", ".yaml", ".yml", ".npy", ".zip")
)
TABLE_NAMES = frozenset(
    ("metadata.jsonl", "metadata.csv", "captions.csv", "captions.tsv", "captions.jsonl", "captions.txt")
)
PROVENANCE = ("source", "license", "url", "creator", "split")
NOT_CAPTIONS = frozenset(("readme", "license", "licence", "notice", "classes", "labels", "requirements"))


def recognise(path: Path) -> bool:
    """Whether `path` is a folder that holds at least one picture or table."""
    return path.is_dir() and any(_is_picture(path, file) or _is_table(file) for file in _files(path))


def read(path: Path) -> Rows:
    """All pictures of a folder with what it says about them. Raises `InputError`: no folder, or an unusable table."""
    if not path.is_dir():
        raise InputError(f"{path}: expected a folder of pictures")
    problems: list[Rejected] = []
    files = list(_files(path, problems))
    pictures = [file for file in files if _is_picture(path, file)]
    rows: list[Row] = list(problems)
    found = []
    listed: set[str] = set()
    for file in filter(_is_table, files):
        own = _from_table(path, file)
        if own is not None:
            rows += own.rows
            listed |= own.mentioned
            found.append(f"{file} ({own.columns})")
    rows, gone = merge_by_picture(rows)
    rest = [file for file in pictures if file not in listed]
    texts, orphans = _caption_files(files, pictures)
    if texts:
        found.append(f"{len(texts):,} text files of the same name")
    bare = not found
    says = " and ".join(found) or "bare pictures, labelled by subfolder"
    items = _items(path, rows, rest, texts, orphans, bare)
    total = len(rows) + len(rest) + len(orphans)
    return Rows(f"an image folder of {len(pictures):,} pictures: {says}", items, total, gone)


def listing(path: Path) -> Iterator[Path]:
    """Every file of the folder."""
    return (path / file for file in _files(path))


def write(samples: Iterable[Sample], folder: Path) -> dict[str, int]:
    """Write `images/` and `metadata.jsonl`, whose `file_name` Hugging Face's imagefolder understands as well.

    Pictures are named by number: imagefolder reads a split out of names like "scene-train-7" and then overlooks the
    metadata. Returns what was left out: a folder of pictures has no room for annotations or for samples of several
    pictures.
    """
    pictures = Pictures(folder / "images")
    left: Counter[str] = Counter()
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for number, sample in enumerate(samples):
            if len(sample.images) != 1:
                left["not one picture"] += 1
                continue
            try:
                path = pictures.add(sample.images[0], f"{number:06d}")
            except BadImage as error:
                left[error.reason] += 1
                continue
            fields = {"file_name": path, "id": sample.id, "captions": sample.captions, "tags": sample.tags}
            fields |= {name: getattr(sample, name) for name in ("label", *PROVENANCE)}
            own = {name: text for name, text in sample.texts.items() if name not in (*fields, "folder", "path")}
            fields = {name: value for name, value in (fields | own).items() if value or name == "captions"}
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")
    return dict(left)


def _items(
    root: Path, rows: list[Row], rest: list[str], texts: dict[str, str], orphans: list[str], bare: bool
) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, Sample):
            _place(row)
        yield row
    for file in rest:
        sample = Sample(id=file, images=[EncodedImage(None, file)], texts={"path": file})
        _place(sample)
        if bare:
            sample.label = _label(file)
        elif file in texts:
            captions = _read_captions(root / texts[file])
            if isinstance(captions, str):
                yield Rejected(file, captions, texts[file])
                continue
            sample.captions = captions
        yield sample
    for file in orphans:
        yield Rejected(file, "image missing", f"{file} has no picture of the same name")


def _place(sample: Sample) -> None:
    """Keep what the place of a picture within the folder says: its subfolder and its split."""
    path = sample.images[0].path or ""
    folder = str(PurePosixPath(path).parent)
    if folder != ".":
        sample.texts.setdefault("folder", folder)
    sample.split = sample.split or split_of(path)


def _label(file: str) -> str | None:
    parts = PurePosixPath(file).parts[:-1]
    if not parts or (len(parts) == 1 and split_of(file)):  # train/x.jpg: the folder is a split and not a class
        return None
    return parts[-1]


def _from_table(root: Path, file: str) -> table.Table | None:
    """One table with its paths made relative to the root; None for a table that is about something else."""
    known = PurePosixPath(file).name.lower() in TABLE_NAMES
    try:
        found = table.read_table(root / file)
        if not known and not any(table.exists(root / path) for path in found.mentioned):
            raise InputError(f"column '{found.columns.image}' leads to no file")
    except InputError as error:
        if known:
            raise
        log.warning("%s is left aside: %s", file, error)
        return None
    folder = posixpath.dirname(file)
    for row in found.rows:
        if isinstance(row, Sample):
            own = row.images[0].path or ""
            path = join_path(folder, own)
            row.images[0].path = row.texts["path"] = path
            row.id = path if row.id == own else row.id
    return table.Table(found.columns, found.rows, {join_path(folder, path) for path in found.mentioned})


def _caption_files(files: list[str], pictures: list[str]) -> tuple[dict[str, str], list[str]]:
    """Picture -> text file of the same name; and the text files that look like captions of a picture that is gone."""
    texts = {file[:-4]: file for file in files if file.lower().endswith(".txt") and not _is_table(file)}
    stems = {file: os.path.splitext(file)[0] for file in pictures}
    found = {file: texts[stem] for file, stem in stems.items() if stem in texts}
    orphans = texts.keys() - stems.values()
    lost = [stem for stem in sorted(orphans) if PurePosixPath(stem).name.lower() not in NOT_CAPTIONS]
    return found, [texts[stem] for stem in lost] if found else []


def _read_captions(path: Path) -> list[str] | str:
    """The captions of a text file, or the reason why there are none."""
    if not path.is_file():  # a pipe could block for ever
        return "caption unreadable"
    try:
        text = decode_text(path.read_bytes())
    except UnicodeDecodeError:
        return "caption not UTF-8"
    except OSError:
        return "caption unreadable"
    if not valid(text):
        return "caption not UTF-8"
    captions = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return captions or "caption empty"


def _is_table(file: str) -> bool:
    path = PurePosixPath(file)
    if path.name.lower() in TABLE_NAMES:
        return True
    return len(path.parts) == 1 and path.suffix.lower() in (".csv", ".tsv", *table.JSON_LINES)


def _is_picture(root: Path, file: str) -> bool:
    """By its extension; a file of an unknown extension, or of none, by its first bytes."""
    suffix = os.path.splitext(file)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    if suffix in OTHER_SUFFIXES:
        return False
    try:
        path = root / file
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return looks_like_image(stream.read(HEADER_BYTES))
    except OSError:
        return False


def _files(root: Path, problems: list[Rejected] | None = None) -> Iterator[str]:
    """All files under `root` as relative paths with '/', in order, without hidden ones.

    Links to folders are followed, each folder is entered once: a loop of links ends.
    """
    seen: set[tuple[int, int]] = set()

    def walk(folder: str) -> Iterator[str]:
        here = root / folder
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen or (folder and is_dataset(here)):
                return
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            if problems is not None:
                problems.append(Rejected(folder or ".", "folder unreadable", str(error)))
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            name = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry):
                yield from walk(name)
            else:
                yield name

    return walk("")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
