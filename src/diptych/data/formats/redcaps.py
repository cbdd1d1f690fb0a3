"""RedCaps: `annotations/<subreddit>_<year>.json`, and `images/<subreddit>/<image_id>.jpg` as far as they were fetched.

A picture that is not on disk becomes a row with its URL and without a picture, which `diptych data fetch` gets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.annotated import Part, Pictures, choose, find, home
from diptych.data.formats.json_stream import stream_members
from diptych.data.formats.records import BadRow, checked, head_keys, maybe, need, number, rows_of
from diptych.data.formats.rows import Row, Rows
from diptych.types import EncodedImage, Sample

NAME = re.compile(r"\w+_\d{4}(-\d{2})?\.json")
FOLDERS = ("annotations",)
PICTURES = ("images",)
KEYS = {"annotations", "image_id", "raw_caption", "subreddit"}


def recognise(path: Path) -> bool:
    """Whether a file of posts lies there or in `annotations`."""
    if path.is_file() and path.suffix.lower() != ".json":
        return False
    return any(head_keys(part.file) >= KEYS for part in find(path, NAME, FOLDERS)[:1])


def read(path: Path, *, images: str | None = None) -> Rows:
    """One sample for each post. Raises `InputError` where no such file is, or one cannot be read."""
    parts = _parts(path)
    pictures = Pictures(home(path, FOLDERS), PICTURES, images)
    items = (row for part in parts for row in _rows(part.file, pictures))
    return Rows(f"RedCaps, {len(parts):,} files of posts", items, None, root=pictures.root)


def listing(path: Path, *, images: str | None = None) -> Iterator[Path]:
    """The files of posts and the pictures."""
    yield from (part.file for part in _parts(path))
    yield from Pictures(home(path, FOLDERS), PICTURES, images).files()


def _parts(path: Path) -> list[Part]:
    return choose(find(path, NAME, FOLDERS), None, path, "RedCaps posts (annotations/<subreddit>_<year>.json)")


def _rows(file: Path, pictures: Pictures) -> Iterator[Row]:
    def make(where: str, post: Any) -> Sample:
        id = need(post, "image_id", str, where)
        subreddit = need(post, "subreddit", str, where)
        caption = need(post, "caption", str, where).strip()
        if not caption:
            raise BadRow("caption empty", where)
        url = maybe(post, "url", str, where)
        path = pictures.search(f"{subreddit}/{id}.jpg", f"{subreddit.lower()}/{id}.jpg")
        if path is None and not url:
            raise BadRow("image missing", f"{where}: no picture and no url")
        score = maybe(post, "score", (int, float), where)
        return Sample(
            id,
            [EncodedImage(None, path)] if path is not None else [],
            [caption],
            tags=[subreddit],
            texts=_texts(post, where),
            url=url,
            creator=maybe(post, "author", str, where),
            scores={} if score is None else {"score": number(score, where)},
        )

    posts = (post for name, post in stream_members(file, "annotations") if name == "annotations")
    return rows_of(((f"{file.name}#{n}", post) for n, post in enumerate(posts)), make)


def _texts(post: Any, where: str) -> dict[str, str]:
    texts = {name: maybe(post, name, str, where) for name in ("raw_caption", "permalink")}
    created = maybe(post, "created_utc", (int, float), where)
    parents = maybe(post, "crosspost_parents", list, where)
    texts["created_utc"] = None if created is None else str(int(number(created, where)))
    texts["crosspost_parents"] = json.dumps([checked(parent, str, where) for parent in parents]) if parents else None
    return {name: text for name, text in texts.items() if text is not None}
