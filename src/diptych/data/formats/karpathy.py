"""The split file of Karpathy and Fei-Fei (arXiv:1412.2306) for COCO, Flickr8k and Flickr30k: five sentences a picture.

    ROOT/dataset_coco.json with ROOT/val2014/..., or dataset_flickr8k.json, dataset_flickr30k.json with the pictures in
    ROOT/images/, ROOT/Flicker8k_Dataset/, ROOT/flickr30k-images/ or ROOT/ itself

The raw sentences become captions. "restval" (the part of COCO's validation set that papers add to the training set)
stays a split of its own unless the option `restval=train` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.places import below, edge_keys, home_of, pictures_root, plain_split, root_of
from diptych.data.formats.records import BadRow, load_json, maybe, need, rows_of
from diptych.data.formats.rows import Rows
from diptych.types import EncodedImage, InputError, Sample

FOLDERS = ("", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images", "flickr30k_images", "Images")


def recognise(path: Path) -> bool:
    """A JSON file with pictures of sentences, or a folder with one called dataset*.json."""
    try:
        return _looks_right(_file(path))
    except InputError:
        return False


def read(path: Path, *, split: str = "", restval: str = "restval", images: str = "") -> Rows:
    """All pictures with their captions.

    Args:
        split: only the pictures of this split, as the result calls it: "train", "validation", "test", "restval".
        restval: the split that pictures of "restval" belong to: "train" as papers do, or itself.
        images: the folder that paths start from, if it is not one of the usual.

    Raises:
        InputError: no such file, or one that is cut short, no JSON, or without a list of images.
    """
    file = _file(path)
    base = pictures_root(root_of(file), images)
    records = load_json(file).get("images")
    if not isinstance(records, list):
        raise InputError(f"{file}: images: expected a list, got {type(records).__name__}")
    home = home_of(base, FOLDERS, [name for record in records[:100] if (name := _path(record))])

    def sample(where: str, record: Any) -> Sample:
        name = need(record, "filename", str, where)
        maybe(record, "filepath", str, where)
        path = f"{home}/{_path(record)}" if home else _path(record)
        sentences = need(record, "sentences", list, where)
        captions = [need(s, "raw", str, f"{where}: sentences[{i}]").strip() for i, s in enumerate(sentences)]
        captions = [caption for caption in captions if caption]
        if not captions:
            raise BadRow("caption empty", where)
        id = maybe(record, "cocoid", int, where)
        id = need(record, "imgid", int, where) if id is None else id
        of = need(record, "split", str, where)
        of = restval if of == "restval" else plain_split(of)
        return Sample(str(id), [EncodedImage(None, path)], captions, texts={"file_name": name}, split=of)

    wanted = ((f"{file.name}: images[{i}]", r) for i, r in enumerate(records) if _in(r, split, restval))
    total = sum(_in(record, split, restval) for record in records)
    return Rows(f"Karpathy's splits, {total:,} pictures", rows_of(wanted, sample), total, root=base)


def listing(path: Path, *, split: str = "", restval: str = "restval", images: str = "") -> Iterator[Path]:
    """The split file, and all files that lie in folders beside it."""
    file = _file(path)
    yield file
    root = pictures_root(root_of(file), images)
    yield from below(folder for folder in sorted(root.iterdir()) if folder.is_dir())
    yield from sorted(one for one in root.iterdir() if one.is_file() and one != file)


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(file for folder in (path, path / "annotations") for file in folder.glob("dataset*.json"))
    files = [file for file in files if _looks_right(file)] or files
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise InputError(f"{path}: expected one file called dataset_coco.json, dataset_flickr30k.json ..., got {names}")
    return files[0]


def _looks_right(file: Path) -> bool:
    return file.suffix.lower() == ".json" and {"images", "sentences", "raw", "filename"} <= edge_keys(file)


def _path(record: Any) -> str:
    """A picture's path below the pictures' root; "" for a record without one."""
    if not isinstance(record, dict) or not isinstance(record.get("filename"), str):
        return ""
    folder = record.get("filepath")
    return f"{folder}/{record['filename']}" if folder and isinstance(folder, str) else str(record["filename"])


def _in(record: Any, split: str, restval: str) -> bool:
    """Whether a record is wanted; one that does not say its split is, so that it is counted."""
    of = record.get("split") if isinstance(record, dict) else None
    if not split or not isinstance(of, str):
        return True
    return split in (of, restval if of == "restval" else plain_split(of))
