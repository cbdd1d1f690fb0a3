"""Encoded pictures of every kind that turns up in the wild, made on the spot."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def noise(width: int = 24, height: int = 16, seed: int = 0, channels: int = 3) -> Image.Image:
    """A picture that no encoder can shrink to nothing."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values[:, :, 0] if channels == 1 else values)


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def jpeg(seed: int = 0) -> bytes:
    return encode(noise(seed=seed), "JPEG", quality=90)


def png(seed: int = 0) -> bytes:
    return encode(noise(seed=seed), "PNG")


def animated() -> bytes:
    """Two frames, the first red, the second blue."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


def cmyk() -> bytes:
    return encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)


def sixteen_bit() -> bytes:
    """Grey from 0 to 65535 in one row."""
    return encode(Image.fromarray(np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)), "PNG")


def transparent_palette() -> bytes:
    """Left half opaque red, right half transparent."""
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (4, 0, 8, 8))
    return encode(image, "PNG", transparency=1)


def bomb() -> bytes:
    """A sound PNG of 170 megapixels in some kilobytes: one colour compresses well."""
    width, height = 17_000, 10_000
    line = b"\0" * (1 + width // 8)
    packer = zlib.compressobj(9)
    packed = b"".join([packer.compress(line * 1000) for _ in range(height // 1000)]) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
            (b"IDAT", packed),
            (b"IEND", b""),
        )
    )
