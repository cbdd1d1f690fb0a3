"""The records of a large JSON file, one after the other, without the whole of it in memory.

Millions of questions cost their text in memory five times over once they are Python objects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from diptych.types import InputError

CHUNK = 1 << 22  # characters read at a time

_SPACE = re.compile(r"[ \t\r\n]*")


def stream_list(path: Path, chunk: int = CHUNK) -> Iterator[Any]:
    """Each element of the list that the file is.

    Raises:
        InputError: the file is missing, cut short, no JSON, or no list at the top.
    """
    with _opened(path, chunk, "[", "a list") as scan:
        for _ in scan.entries("[", "]"):
            yield scan.value()
        scan.finish()


def stream_members(path: Path, inside: str | None = None, chunk: int = CHUNK) -> Iterator[tuple[str, Any]]:
    """(name, value) of each member of the object that the file is; of the list `inside`, (name, element) one by one.

    Raises:
        InputError: the file is missing, cut short, no JSON, no object at the top, or without the list `inside`.
    """
    with _opened(path, chunk, "{", "an object") as scan:
        seen = inside is None
        for _ in scan.entries("{", "}"):
            name = scan.value()
            scan.take(":")
            if name != inside:
                yield name, scan.value()
                continue
            if scan.peek() != "[":
                raise InputError(f"{path}: {inside}: expected a list, got {type(scan.value()).__name__}")
            seen = True
            for _ in scan.entries("[", "]"):
                yield name, scan.value()
        scan.finish()
        if not seen:
            raise InputError(f"{path}: {inside}: expected a list, found no such field")


@contextmanager
def _opened(path: Path, chunk: int, start: str, kind: str) -> Iterator[_Scan]:
    try:  # undecodable bytes stay visible as surrogates, so that they cost one record
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            scan = _Scan(file, chunk)
            if scan.peek() != start:
                found = type(scan.value()).__name__ if scan.peek() in "[{" else "something else"
                raise InputError(f"{path}: expected {kind} at the top, got {found}")
            yield scan
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON: {error}") from None


class _Scan:
    """A place in a JSON file, of which the text around it is in memory."""

    def __init__(self, file: TextIO, chunk: int) -> None:
        self._file = file
        self._chunk = chunk
        self._text = ""
        self._at = 0
        self._before = 0  # characters of the file before `_text`
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # matches nothing at least
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, character: str) -> None:
        if self.peek() != character:
            raise ValueError(f"'{character}' missing at character {self._before + self._at}, or the file is cut short")
        self._at += 1

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                if end < len(self._text) or not self._more():  # a number that ends with the text may go on
                    self._at = min(end, len(self._text))
                    return value
            except json.JSONDecodeError as error:
                problem = f"{error.msg} at character {self._before + error.pos}, or the file is cut short"
                if not self._more():
                    raise ValueError(problem) from None

    def entries(self, start: str, end: str) -> Iterator[None]:
        """Stand before each entry of an object or a list; the caller reads it."""
        self.take(start)
        if self.peek() != end:
            yield
            while self.peek() == ",":
                self.take(",")
                yield
        self.take(end)

    def finish(self) -> None:
        if self.peek():
            raise ValueError(f"more text after the end, at character {self._before + self._at}")

    def _more(self) -> bool:
        """Read on, twice as far each time, so that a long value is not parsed too often."""
        more = self._file.read(max(self._chunk, len(self._text) - self._at))
        if more:
            self._before += self._at
            self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)
