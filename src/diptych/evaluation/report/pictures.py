"""Pictures that a page carries in itself: small JPEGs as data addresses."""

from __future__ import annotations

import base64
import hashlib
import io

from PIL import Image

from diptych.images import BadImage, decode

QUALITY = 80


class Thumbnails:
    """Makes each thumbnail once, however often the page shows it."""

    def __init__(self) -> None:
        self._made: dict[tuple[bytes, int], str | None] = {}

    def __call__(self, data: bytes | None, side: int = 176) -> str | None:
        """The picture as a `data:` address, its longer side at most `side` pixels; None if it cannot be read."""
        if data is None:
            return None
        key = (hashlib.blake2b(data, digest_size=16).digest(), side)
        if key not in self._made:
            self._made[key] = _data_address(data, side)
        return self._made[key]


def _data_address(data: bytes, side: int) -> str | None:
    try:
        picture = decode(data, target=side)
    except BadImage:
        return None
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
