"""What writers share: pictures as files under safe names, their bytes untouched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from diptych.images import HEADER_BYTES, read_bytes
from diptych.types import EncodedImage

_UNSAFE = re.compile(r"[^\w\-]+", re.ASCII)
_SUFFIXES = (
    *((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"qoif", ".qoi")),
    *((b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"\0\0\0\x0cjP", ".jp2"), (b"\xff\x4f\xff\x51", ".jp2")),
    *((b"\0\0\1\0", ".ico"), *((b"P%d" % kind, ".ppm") for kind in range(1, 7))),
)


class Pictures:
    """A folder of pictures that is being filled: `add` copies one and gives its path from the folder's parent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = Names()
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, image: EncodedImage, id: str) -> str:
        """Raises `BadImage` if the picture is a file that cannot be read."""
        data = bytes_of(image)
        name = self._names.free(safe_name(id)) + suffix_of(data)
        (self.folder / name).write_bytes(data)
        return f"{self.folder.name}/{name}"


class Names:
    """Names of files that are taken; some file systems do not tell A from a."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def free(self, stem: str) -> str:
        """`stem`, with "-2", "-3", ... if it is taken."""
        key = stem.casefold()
        self._taken[key] += 1
        return stem if self._taken[key] == 1 else self.free(f"{stem}-{self._taken[key]}")


def bytes_of(image: EncodedImage) -> bytes:
    """A picture's encoded bytes. Raises `BadImage` if it is a file that cannot be read."""
    return image.data if image.data is not None else read_bytes(Path(image.path or ""))


def numbering(ids: list[str]) -> Callable[[str], int]:
    """The ids as they are, if all are different positive integers in plain notation; else 1, 2, 3, ... in order."""
    plain = (id.isdecimal() and id.isascii() and len(id) <= 15 and id[0] != "0" for id in ids)
    if all(plain) and len(set(ids)) == len(ids):
        return int
    count = iter(range(1, len(ids) + 1))
    return lambda id: next(count)


def safe_name(id: str) -> str:
    """A file's name, without suffix, for any id: letters, digits, "_" and "-", at most 100 of them."""
    stem = id.rsplit("/", 1)[-1]
    stem = stem.rsplit(".", 1)[0] if 1 <= len(stem) - stem.rfind(".") - 1 <= 4 and "." in stem[1:] else stem
    return _UNSAFE.sub("_", stem)[:100] or "_"


def suffix_of(data: bytes) -> str:
    """The suffix that fits a picture's first bytes; ".img" for a kind without one here."""
    head = data[:HEADER_BYTES]
    if head[8:12] == b"WEBP":
        return ".webp"
    if head[4:11] == b"ftypavi":
        return ".avif"
    return next((suffix for signature, suffix in _SUFFIXES if head.startswith(signature)), ".img")
