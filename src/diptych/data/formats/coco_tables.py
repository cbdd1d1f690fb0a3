"""What the JSON files of the COCO family share: tables of pictures, categories and licences, joined by ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from diptych.data.formats.places import below, plain_split, root_of
from diptych.data.formats.records import BadRow, load_json, maybe, need
from diptych.types import EncodedImage, InputError, Rejected, Sample

Id = int | str


class Picture(NamedTuple):
    """A row of `images`. Height and width are in pixels, None where the file does not say."""

    id: Id
    file_name: str
    height: int | None
    width: int | None
    license: str | None
    url: str | None
    flickr_url: str | None


class Category(NamedTuple):
    """A row of `categories`; `kind` is "thing" or "stuff"."""

    name: str
    kind: str


class Tables:
    """The tables of one split, filled from one file after another. Rows that cannot be read gather in `rejected`."""

    def __init__(self, split: str) -> None:
        self.split = split
        self.pictures: dict[Id, Picture] = {}
        self.lost: set[Id] = set()  # pictures that were rejected: their annotations go with them
        self.categories: dict[Id, Category] = {}
        self.rejected: list[Rejected] = []

    def load(self, file: Path) -> Iterator[tuple[Id, str, Any]]:
        """Read a file's tables; gives (picture's id, own name, record) of each annotation of a known picture."""
        content = load_json(file)
        tables = {name: _table(content, name, file) for name in ("images", "annotations", "categories", "licenses")}
        if "images" not in content:
            raise InputError(f"{file}: images: expected a list, the file has none")
        licenses = {record["id"]: _license(record) for record in tables["licenses"] if _has_id(record)}
        own: set[Id] = set()
        for i, record in enumerate(tables["images"]):
            self._picture(record, f"{file.name}: images[{i}]", licenses, own)
        for i, record in enumerate(tables["categories"]):
            self._category(record, f"{file.name}: categories[{i}]")
        del content
        return self._joined(tables["annotations"], file.name)

    def _picture(self, record: Any, where: str, licenses: dict[Id, str | None], own: set[Id]) -> None:
        id = record["id"] if _has_id(record) else None
        try:
            found = Picture(
                need(record, "id", (int, str), where),
                need(record, "file_name", str, where),
                maybe(record, "height", int, where),
                maybe(record, "width", int, where),
                licenses.get(record["license"]) if isinstance(record.get("license"), int | str) else None,
                maybe(record, "coco_url", str, where) or maybe(record, "url", str, where),
                maybe(record, "flickr_url", str, where),
            )
            known = self.pictures.get(found.id)
            if found.id in own or (known is not None and known.file_name != found.file_name):
                raise BadRow("id not unique", f"{where}: id {found.id} is that of another picture")
        except BadRow as error:
            self.rejected.append(Rejected(where, error.reason, error.detail))
            if id is not None and id not in self.pictures:
                self.lost.add(id)
        else:
            own.add(found.id)
            self.pictures.setdefault(found.id, found)

    def _category(self, record: Any, where: str) -> None:
        try:
            kind = "stuff" if maybe(record, "isthing", (int, bool), where) == 0 else "thing"
            id = need(record, "id", (int, str), where)
            self.categories[id] = Category(need(record, "name", str, where), kind)
        except BadRow as error:
            self.rejected.append(Rejected(where, error.reason, error.detail))

    def _joined(self, annotations: list[Any], file: str) -> Iterator[tuple[Id, str, Any]]:
        for i, record in enumerate(annotations):
            name = f"{file}#{record['id']}" if _has_id(record) else f"{file}#[{i}]"
            try:
                of = need(record, "image_id", (int, str), name)
                if of in self.pictures:
                    yield of, name, record
                elif of not in self.lost:
                    raise BadRow("dangling id", f"{name}: image_id {of} is not among the images")
            except BadRow as error:
                self.rejected.append(Rejected(name, error.reason, error.detail))

    def category(self, record: Any, where: str) -> Category:
        """The category that a record's `category_id` means. Raises `BadRow` if there is none of that id."""
        id = need(record, "category_id", (int, str), where)
        found = self.categories.get(id)
        if found is None:
            raise BadRow("dangling id", f"{where}: category_id {id} is not among the categories")
        return found

    def sample(self, picture: Picture, home: str) -> Sample:
        """A sample of the picture alone; `home` is the folder of this split's pictures."""
        path = f"{home}/{picture.file_name}" if home else picture.file_name
        texts = {"file_name": picture.file_name}
        if picture.flickr_url and picture.url:
            texts["flickr_url"] = picture.flickr_url
        return Sample(
            str(picture.id),
            [EncodedImage(None, path)],
            texts=texts,
            license=picture.license,
            url=picture.url or picture.flickr_url,
            split=plain_split(self.split),
        )


def find_files(path: Path, pattern: re.Pattern[str], split: str) -> dict[str, dict[str, Path]]:
    """split -> {kind: file} of the JSON files in `path/annotations` or `path` that fit (groups: kind, split).

    Raises:
        InputError: there are none, or none of `split`.
    """
    if path.is_file():
        match = pattern.fullmatch(path.name)
        return {(match[2] or "") if match else "": {match[1] if match else "": path}}
    found: dict[str, dict[str, Path]] = {}
    for folder in (path / "annotations", path):
        for file in sorted(folder.glob("*.json")) if folder.is_dir() and not found else ():
            if match := pattern.fullmatch(file.name):
                found.setdefault(match[2] or "", {})[match[1]] = file
    if split and split not in found:
        raise InputError(f"{path}: split '{split}': expected one of {', '.join(filter(None, found)) or 'no splits'}")
    if not found:
        raise InputError(
            f"{path}: expected JSON files with COCO's names (instances_val2017.json), here or in annotations"
        )
    return {split: found[split]} if split else found


def homes(split: str) -> list[str]:
    """Where the pictures of a split may lie, below the data set's folder."""
    return [*([split, f"images/{split}"] if split else []), "images", ""]


def watched(path: Path, files: Iterable[Path], splits: Iterable[str], images: str) -> Iterator[Path]:
    """The annotation files, and all files of the folders in which their pictures may lie."""
    yield from files
    root = root_of(path)
    if images:
        yield from below([root / Path(images).expanduser()])
        return
    named = [root / split for split in splits if split]
    yield from below([*named, root / "images"])
    yield from sorted(file for file in root.iterdir() if file.is_file() and file.suffix != ".json")


def _table(content: dict[str, Any], name: str, file: Path) -> list[Any]:
    rows = content.get(name) or []
    if not isinstance(rows, list):
        raise InputError(f"{file}: {name}: expected a list, got {type(rows).__name__}")
    return rows


def _has_id(record: Any) -> bool:
    return isinstance(record, dict) and isinstance(record.get("id"), int | str)


def _license(record: dict[str, Any]) -> str | None:
    name, url = (value if isinstance(value := record.get(key), str) else "" for key in ("name", "url"))
    return f"{name} ({url})" if name and url else name or url or None
