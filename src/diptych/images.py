"""One way to read a picture: whatever the file claims to be, an upright 8-bit RGB image or a reason why not.

Every picture of the project passes through `decode`, so that an import, a training run and a search see the same
pixels.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from diptych.types import InputError

Source = bytes | str | Path | Image.Image | np.ndarray[Any, Any]

# Only decoders that Pillow carries itself: EPS, for one, would start Ghostscript on a stranger's program.
# TGA has no signature: any bytes could pass for one.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "QOI")
MAX_BYTES = 1 << 30  # no picture below `max_pixels` needs a file of more than a gibibyte
DRAFT_PIXELS = 700_000  # from about here up a scaled JPEG decode is faster than a full one
HEADER_BYTES = 32

_SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|BM|II\*\x00|MM\x00\*|RIFF....WEBP|....ftypavi[fs]"
    rb"|\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51|qoif|P[1-6]\s|\x00\x00\x01\x00",
    re.DOTALL,
)
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112
_APP1, _SCAN = b"\xe1", b"\xda"  # the second bytes of JPEG markers

# Pillow's warnings would repeat, once per file, what `decode` handles: damaged metadata.
warnings.filterwarnings("ignore", message="(Possibly c|C)orrupt EXIF data|Truncated File Read|Metadata Warning")


class BadImage(InputError):
    """A picture that cannot be read. `reason` is a short kind that can be counted, `detail` says more.

    Kinds: "image missing", "image unreadable", "image empty", "image truncated", "image corrupt", "image too large",
    "image not recognised", "image not supported".
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def decode(source: Source, *, max_pixels: int = 100_000_000, target: int | None = None) -> Image.Image:
    """Read one picture as 8-bit RGB, upright, with transparency flattened on white.

    EXIF orientation is applied, CMYK converted, 16-bit grey scaled (not clipped) to 8 bits, and of an animation the
    first frame is taken. The file's content decides, not its extension.

    Args:
        source: encoded bytes, a path, a PIL image, or an array H W, H W 1, H W 3 or H W 4 (uint8 in [0, 255], uint16 in
            [0, 65535], bool, or float in [0, 1]).
        max_pixels: more pixels than this are refused from the header, before anything is decoded.
        target: a hint that the picture will be shrunk to about this side: a large JPEG is then decoded at a
            power-of-two fraction of its size, both sides staying at least twice `target`.

    Raises:
        BadImage: with a countable `.reason`.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _decode_open(source, max_pixels)
    data = source if isinstance(source, bytes) else read_bytes(Path(source))
    return _decode_bytes(data, max_pixels, target)


def decode_plain_jpeg(data: bytes, *, max_pixels: int = DRAFT_PIXELS) -> np.ndarray[Any, Any] | None:
    """What `decode` gives, as uint8 H W 3, in little more than half the time; None for what only `decode` should read.

    That is all but upright JPEGs of at most `max_pixels` whose every byte is as it should be: anything with an EXIF or
    XMP block (it may turn the picture), other colours than YCbCr and grey, and what the decoder so much as warns about.
    The pixels are those of `decode`, because both use libjpeg-turbo with the same settings.
    """
    if not _is_plain_jpeg(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray") or not 0 < height * width <= max_pixels:
            return None
        pixels: np.ndarray[Any, Any] = simplejpeg.decode_jpeg(data)
    except Exception:  # whatever it is, `decode` finds words for it
        return None
    return pixels


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether the markers of a JPEG lead to its pixels without an APP1 block, where EXIF and XMP stand."""
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    at = 2
    while data[at : at + 1] == b"\xff" and (marker := data[at + 1 : at + 2]) != _APP1:
        if marker == _SCAN:
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def size_of(source: Source) -> tuple[int, int]:
    """(width, height) that `decode` gives a picture, from its header alone. Raises `BadImage`."""
    if isinstance(source, np.ndarray):
        return source.shape[1], source.shape[0]
    if isinstance(source, (str, Path)):
        source = read_bytes(Path(source))
    try:
        image = open_header(source) if isinstance(source, bytes) else source
        width, height = image.size
    except Exception as error:  # as in `_decode_bytes`
        raise BadImage(_why(source) if isinstance(source, bytes) else "image corrupt", str(error)) from None
    try:
        turned = image.format != "TIFF" and image.getexif().get(_EXIF_ORIENTATION, 1) >= 5  # a TIFF is turned already
    except Exception:  # a broken EXIF block does not make the picture bad
        turned = False
    return (height, width) if turned else (width, height)


def read_bytes(path: Path) -> bytes:
    """The bytes of a picture file. Raises `BadImage` when it is missing, not a regular file, empty or too large."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device could block for ever
            raise BadImage("image unreadable", f"{path} is not a regular file")
        if status.st_size > MAX_BYTES:
            raise BadImage("image too large", f"{path} has {status.st_size:,} bytes")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BadImage("image missing", f"{path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadImage("image unreadable", f"{path}: {error}") from None
    if not data:
        raise BadImage("image empty", f"{path} has no bytes")
    return data


def open_header(data: bytes, formats: Sequence[str] | None = None) -> Image.Image:
    """What `PIL.Image.open` gives: a picture of which only the header has been read, or any error on hostile bytes.

    Unlike there, no number of pixels is warned of or refused: that is the caller's to judge, as `decode` does.
    Only in TIFF, WebP and icons does Pillow's own bound, 89 million, still count: it warns, and refuses twice as many.
    """
    for name in formats or FORMATS:
        if name not in _formats():
            continue
        factory, accepts = Image.OPEN[name]
        accepted = accepts is None or accepts(data[:16])
        if accepted and not isinstance(accepted, str):  # a text says what this build of Pillow lacks
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # of another format after all
                return factory(io.BytesIO(data), "")
    raise UnidentifiedImageError("no picture of a known format")


def looks_like_image(head: bytes) -> bool:
    """Whether the first bytes of a file carry the signature of a picture format."""
    return _SIGNATURE.match(head) is not None


def _decode_bytes(data: bytes, max_pixels: int, target: int | None) -> Image.Image:
    if not data:
        raise BadImage("image empty", "no bytes")
    try:
        image = open_header(data)
        _bounded(image, max_pixels)
        if target is not None and image.format in ("JPEG", "MPO") and image.width * image.height > DRAFT_PIXELS:
            image.draft("RGB", (2 * target, 2 * target))
        return _rgb(image, own=True)
    except BadImage:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:  # the first is of TIFF, WebP and icons
        raise BadImage("image too large", str(error)) from None
    except Exception as error:  # on hostile bytes Pillow's decoders raise nearly anything: struct.error, KeyError, ...
        raise BadImage(_why(data), f"{type(error).__name__}: {error}".rstrip(": ")) from None


@cache
def _formats() -> list[str]:
    """Those of `FORMATS` that this build of Pillow has."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _decode_open(image: Image.Image, max_pixels: int) -> Image.Image:
    try:
        return _rgb(_bounded(image, max_pixels))
    except BadImage:
        raise
    except Exception as error:  # an opened file is decoded only now, see `_decode_bytes`
        raise BadImage("image truncated" if "truncated" in str(error) else "image corrupt", str(error)) from None


def _bounded(image: Image.Image, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage("image too large", f"{width} x {height} pixels, at most {max_pixels:,} are read")
    if not width * height:
        raise BadImage("image empty", f"{width} x {height} pixels")
    return image


def _why(data: bytes) -> str:
    """The reason why bytes that Pillow gave up on cannot be read, from the marks that each format puts at its end."""
    if not looks_like_image(data[:HEADER_BYTES]):
        return "image not recognised"
    tail = data.rstrip(b"\x00")[-64:]  # writers that die leave holes of zeros behind
    if data[:4] == b"RIFF":
        ended = len(data) >= int.from_bytes(data[4:8], "little") + 8
    elif data[:2] == b"BM":
        ended = len(data) >= int.from_bytes(data[2:6], "little")
    elif data[:3] == b"\xff\xd8\xff":
        ended = b"\xff\xd9" in tail
    elif data[:4] == b"\x89PNG":
        ended = b"IEND" in tail
    elif data[:3] == b"GIF":
        ended = tail.endswith(b";")
    else:
        ended = False
    return "image corrupt" if ended else "image truncated"


def _rgb(image: Image.Image, own: bool = False) -> Image.Image:
    """`image` in RGB, upright, on white, without metadata (it would be turned upright twice).

    `own` says that nobody else holds `image`: if it is RGB already it is not copied, which saves a quarter of the time.
    """
    image.load()  # before the orientation is read: some decoders apply it themselves and then take it away
    try:
        exif = image.getexif()
        upright = _TRANSPOSE.get(exif.get(_EXIF_ORIENTATION, 1))
        if own:
            exif.clear()
    except Exception:  # a broken EXIF block does not make the picture bad
        upright = None
    try:
        if image.mode.startswith("I") or image.mode == "F":
            result = _eight_bit(image)
        elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            result = _on_white(image)
        else:
            result = image if own and image.mode == "RGB" else image.convert("RGB")
    except (ValueError, KeyError) as error:
        raise BadImage("image not supported", f"mode {image.mode}: {error}") from None
    if upright is not None:
        result = result.transpose(upright)
    result.info = {}
    return result


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("La", "RGBa"):  # premultiplied alpha
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floats, scaled to 8: by its full range where that is known, else by its extremes."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        bottom, top = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    else:
        bottom, top = (0.0, 65535.0) if low >= 0 and high <= 65535 else (low, high)
    grey = (values.astype(np.float64) - bottom) * 255.0 / ((top - bottom) or 1.0)
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255.0
    return Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")


def _from_array(array: np.ndarray[Any, Any], max_pixels: int) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise BadImage("image not supported", f"an array of shape {array.shape}; expected H W, H W 3 or H W 4")
    if array.size == 0:
        raise BadImage("image empty", f"an array of shape {array.shape}")
    if array.shape[0] * array.shape[1] > max_pixels:
        raise BadImage("image too large", f"an array of shape {array.shape}, at most {max_pixels:,} pixels are read")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = np.rint(array / 257.0).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise BadImage("image not supported", "a float array with values outside [0, 1]")
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise BadImage("image not supported", f"an array of {array.dtype}; expected uint8, uint16, bool or float")
    return _rgb(Image.fromarray(np.ascontiguousarray(array)))
