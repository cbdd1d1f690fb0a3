"""Whether what came is a picture. The bytes decide; what the server called them does not matter."""

from __future__ import annotations

import hashlib
import zlib

from diptych.data.fetch.reasons import Failed
from diptych.images import HEADER_BYTES, BadImage, decode, looks_like_image

ENCODINGS = {"": False, "identity": False, "gzip": True, "x-gzip": True, "deflate": True}


class Body:
    """The body of an answer as it arrives: unpacked, bounded, and given up as soon as it cannot be a picture."""

    def __init__(self, limit: int, encoding: str, picture: bool = True) -> None:
        """`encoding` is the `Content-Encoding`; `picture` False lets any bytes pass. Raises `Failed` if unknown."""
        encoding = encoding.strip().lower()
        if encoding not in ENCODINGS:
            raise Failed("encoding not supported", encoding[:50])
        self._limit = limit
        self._unpack = zlib.decompressobj(wbits=47) if ENCODINGS[encoding] else None  # 47: gzip or zlib, by its head
        self._picture = picture
        self._data = bytearray()
        self._came = 0

    def add(self, part: bytes) -> None:
        """Take what has arrived. Raises `Failed`: too much, or no picture."""
        short = len(self._data) < HEADER_BYTES
        self._came += len(part)
        if self._unpack is None:
            self._data += part
        else:
            room = self._limit - len(self._data) + 1
            try:
                self._data += self._unpack.decompress(part, room)
            except zlib.error as error:
                raise Failed("image corrupt", f"its {error}") from None
        if max(len(self._data), self._came) > self._limit:  # what is packed may go on for ever behind its end
            raise Failed("file too large", f"more than {self._limit:,} bytes")
        if self._picture and short and len(self._data) >= HEADER_BYTES:
            self._look()

    @property
    def seen(self) -> bytes:
        """What has come, up to the limit."""
        return bytes(self._data[: self._limit])

    def end(self) -> bytes:
        """All of a picture. Raises `Failed` if it is empty, stops early, or is none."""
        if self._unpack is not None and self._data and not self._unpack.eof:
            raise Failed("image truncated", "the compressed body stops early")
        if not self._data:
            raise Failed("image empty", "no bytes")
        self._look()
        return bytes(self._data)

    def _look(self) -> None:
        head = bytes(self._data[:HEADER_BYTES])
        if not looks_like_image(head):
            raise Failed("image not recognised", f"begins with {head[:16]!r}")


def prove(data: bytes, max_pixels: int) -> str:
    """Decode the picture, the only proof that it can be; returns its sha256. Raises `Failed`."""
    try:
        decode(data, max_pixels=max_pixels, target=1)  # reads every byte; large JPEGs at a fraction of their size
    except BadImage as error:
        raise Failed(error.reason, error.detail) from None
    return hashlib.sha256(data).hexdigest()
