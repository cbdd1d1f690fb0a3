"""Conversations about pictures, one JSON object a line, as chat models are tuned on.

Understood: `messages` with `role` and `content` (text, or a list of parts of type text, image and image_url) beside
`images`; and the older `conversations` with `from` and `value` beside `image`. Each `<image>` stands for the next
picture. A file may also be one JSON list. Paths are relative to the file's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from diptych.data.formats.records import BadRow, checked, head_keys, load_json, maybe, need, rows_of
from diptych.data.formats.rows import Row, Rows, decode_text
from diptych.data.formats.written import Pictures
from diptych.images import BadImage
from diptych.types import EncodedImage, InputError, Message, Rejected, Sample

FILE = "chat.jsonl"
IMAGE = "<image>"
ROLES = {"human": "user", "gpt": "assistant"}  # as the older layout calls them
DESCRIBE = "Describe the picture."


def recognise(path: Path) -> bool:
    """Whether `path` is a JSON or JSON-lines file of conversations, or a folder with `chat.jsonl`."""
    file = path / FILE if path.is_dir() else path
    if file.suffix.lower() not in (".json", ".jsonl") or not file.is_file():
        return False
    keys = head_keys(file)
    return {"messages", "role", "content"} <= keys or {"conversations", "from", "value"} <= keys


def read(path: Path) -> Rows:
    """One sample of each conversation. Raises `InputError` if the file is no JSON at all."""
    file = path / FILE if path.is_dir() else path
    records = list(_records(file))
    items = rows_of(((id, record) for id, record in records if not isinstance(record, Rejected)), _sample)
    broken: list[Row] = [record for _, record in records if isinstance(record, Rejected)]
    return Rows(f"{len(records):,} conversations", _then(items, broken), len(records), root=file.parent)


def listing(path: Path) -> Iterator[Path]:
    """The file and the pictures that it names."""
    rows = read(path)
    yield path / FILE if path.is_dir() else path
    for row in rows.items:
        if isinstance(row, Sample):
            yield from (rows.root / image.path for image in row.images if rows.root and image.path)


def write(samples: Iterable[Sample], folder: Path) -> dict[str, int]:
    """Write `chat.jsonl` and `images/`; returns what was left out: reason -> number.

    A sample without messages becomes a conversation of its questions, or a request to describe its picture that its
    first caption answers. Questions without an answer are left out, and so is a sample whose texts hold `<image>` as
    plain words: it would be read as one more picture.
    """
    pictures = Pictures(folder / "images")
    left: dict[str, int] = {}
    with (folder / FILE).open("w", encoding="utf-8") as file:
        for sample in samples:
            messages = sample.messages or _conversation(sample)
            try:
                if not messages:
                    raise BadImage("nothing to say", f"sample '{sample.id}' has no messages, answers or captions")
                if sum(message.text.count(IMAGE) for message in messages) > len(sample.images):
                    raise BadImage("more places than pictures", f"sample '{sample.id}' has too few for its {IMAGE}")
                images = [pictures.add(image, sample.id) for image in sample.images]
            except BadImage as error:
                left[error.reason] = left.get(error.reason, 0) + 1
                continue
            turns = [{"role": message.role, "content": message.text} for message in messages]
            record = {"id": sample.id, "messages": turns, "images": images}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return left


def _conversation(sample: Sample) -> list[Message]:
    asked = [question for question in sample.questions if question.answers]
    turns = [(question.question, max(question.answers, key=question.answers.count)) for question in asked]
    if not turns and sample.captions and sample.images:
        turns = [(DESCRIBE, sample.captions[0])]
    head = "".join(f"{IMAGE}\n" for _ in sample.images)
    found = []
    for i, (question, answer) in enumerate(turns):
        found += [Message("user", question if i else head + question), Message("assistant", answer)]
    return found


def _then(items: Iterator[Row], rest: list[Row]) -> Iterator[Row]:
    yield from items
    yield from rest


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    """(id, record) of each conversation; a line that is no JSON is a `Rejected`."""
    if file.suffix.lower() == ".json":
        for n, record in enumerate(load_json(file, list)):
            yield f"{file.name}:{n}", record
        return
    try:
        lines = decode_text(file.read_bytes()).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as text: {error}") from None
    for n, line in enumerate(lines, 1):
        if line.strip():
            where = f"{file.name}:{n}"
            try:
                yield where, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield where, Rejected(where, "row broken", f"{where}: {error}")


def _sample(where: str, record: Any) -> Sample:
    images = [_path(entry, where) for entry in _images(record, where)]
    if isinstance(record, dict) and "conversations" in record:
        turns = need(record, "conversations", list, where)
        messages = [_turn(turn, "from", "value", images, where) for turn in turns]
    else:
        messages = [_turn(turn, "role", "content", images, where) for turn in need(record, "messages", list, where)]
    if not messages:
        raise BadRow("conversation empty", where)
    stands = sum(message.text.count(IMAGE) for message in messages)
    if stands > len(images):
        raise BadRow("image missing", f"{where}: {stands} times {IMAGE}, {len(images)} images")
    id = maybe(record, "id", (str, int), where)
    return Sample(
        str(id) if id is not None else where, [EncodedImage(None, path) for path in images], messages=messages
    )


def _images(record: Any, where: str) -> list[Any]:
    if isinstance(record, dict) and isinstance(record.get("image"), list):
        return list(record["image"])
    one = maybe(record, "image", str, where)
    return [one] if one else list(maybe(record, "images", list, where) or [])


def _path(entry: Any, where: str) -> str:
    """A picture of the list: its path, or an object that holds it."""
    return str(need(entry, "path", str, where) if isinstance(entry, dict) else checked(entry, str, f"{where}: images"))


def _turn(turn: Any, role: str, content: str, images: list[str], where: str) -> Message:
    who = need(turn, role, str, where)
    said = need(turn, content, (str, list), where)
    if isinstance(said, list):
        said = "".join(_part(part, images, where) for part in said)
    return Message(ROLES.get(who, who), checked(said, str, where))


def _part(part: Any, images: list[str], where: str) -> str:
    kind = need(part, "type", str, where)
    if kind == "text":
        return str(need(part, "text", str, where))
    if kind == "image":
        if isinstance(part.get("image"), str):  # named in place and not in the list beside
            images.append(part["image"])
        return IMAGE
    if kind == "image_url":
        images.append(str(need(need(part, "image_url", dict, where), "url", str, where)))
        return IMAGE
    raise BadRow("wrong type", f"{where}: expected parts of type text, image or image_url, got {kind!r}")
