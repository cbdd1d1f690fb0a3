"""The records of a JSON file that is one long list, one after the other, without the whole of it in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.types import InputError

CHUNK = 1 << 22  # characters read at a time

_SPACE = re.compile(r"[ \t\r\n]*")


def stream_list(path: Path, chunk: int = CHUNK) -> Iterator[Any]:
    """Each element of the list.

    Raises:
        InputError: the file is missing, cut short, no JSON, or no list at the top.
    """
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding="utf-8-sig") as file:
            text, at = file.read(chunk), 0

            def next_token() -> str:
                nonlocal text, at
                while True:
                    at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # matches nothing at least
                    if at < len(text):
                        return text[at]
                    text, at = file.read(chunk), 0
                    if not text:
                        return ""

            if next_token() != "[":
                raise InputError(f"{path}: expected a list at the top")
            at += 1
            first = True
            while (token := next_token()) != "]":
                if not first:
                    if token != ",":
                        raise ValueError("expected ',' or ']' after an element, or the file is cut short")
                    at += 1
                    next_token()
                first = False
                while True:
                    try:
                        value, end = decoder.raw_decode(text, at)
                        if end < len(text):  # a number that ends with the text may go on
                            break
                        problem = ValueError("the file is cut short")
                    except json.JSONDecodeError as error:
                        problem = error
                    more = file.read(max(chunk, len(text) - at))  # doubling: a long element is not parsed too often
                    if not more:
                        raise problem
                    text, at = text[at:] + more, 0
                at = end
                yield value
            at += 1
            if next_token():
                raise ValueError("more text after the list")
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON: {error}") from None
