"""What writers share: pictures as files under safe names, their bytes untouched."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from diptych.images import HEADER_BYTES, read_bytes
from diptych.types import EncodedImage

_UNSAFE = re.compile(r"[^\w\-]+", re.ASCII)
_SUFFIXES = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"II*\0", ".tif"))


class Pictures:
    """A folder of pictures that is being filled: `add` copies one and gives its path from the folder's parent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, image: EncodedImage, id: str) -> str:
        """Raises `BadImage` if the picture is a file that cannot be read."""
        data = image.data if image.data is not None else read_bytes(Path(image.path or ""))
        name = self._free(safe_name(id)) + suffix_of(data)
        (self.folder / name).write_bytes(data)
        return f"{self.folder.name}/{name}"

    def _free(self, stem: str) -> str:
        key = stem.casefold()  # some file systems do not tell A from a
        self._taken[key] += 1
        if self._taken[key] == 1:
            return stem
        return self._free(f"{stem}-{self._taken[key]}")


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
    return next((suffix for signature, suffix in _SUFFIXES if head.startswith(signature)), ".img")
