"""A DICOM picture as a PNG of grey values or colours, and nothing else of the file: no name, no date, no number.

Needs pydicom, the extra `medical`. What a scanner has burnt into the pixels stays in them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diptych.data.formats.records import BadRow
from diptych.types import InputError

MAX_PIXELS = 100_000_000


def require_pydicom() -> None:
    """Raise `InputError` if pydicom is not installed."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise InputError('DICOM pictures need pydicom: pip install "diptych[medical]"') from None


def to_png(path: Path) -> bytes:
    """The first frame of a DICOM file as PNG: grey of 8 bits, or of 16 where more than 8 are stored, or RGB.

    Stored values pass through the modality table or rescale slope, then through the VOI table or window, whose range
    becomes black to white; without a window the picture's own extremes do. MONOCHROME1 (bright is low) is inverted.

    Raises:
        BadRow: the file is no DICOM, holds no picture, or is compressed in a way that cannot be read here.
    """
    import pydicom
    from pydicom.pixels import pixel_array

    if not path.is_file():
        raise BadRow("image missing", f"{path} does not exist")
    try:
        data = pydicom.dcmread(path)
        if "PixelData" not in data:
            raise BadRow("image empty", f"{path} holds no picture")
        if int(data.Rows) * int(data.Columns) > MAX_PIXELS:
            raise BadRow("image too large", f"{path}: {data.Columns} x {data.Rows} pixels")
        pixels = pixel_array(data, index=0)
        return _png(_colour(pixels, data) if _is_colour(data) else _grey(pixels, data))
    except BadRow:
        raise
    except pydicom.errors.InvalidDicomError:
        raise BadRow("image not recognised", f"{path} is no DICOM file") from None
    except Exception as error:  # on damaged files pydicom and its decoders raise nearly anything
        raise BadRow("image corrupt", f"{path}: {type(error).__name__}: {error}") from None


def _is_colour(data: Any) -> bool:
    return not str(data.PhotometricInterpretation).startswith("MONOCHROME")


def _colour(pixels: np.ndarray[Any, Any], data: Any) -> np.ndarray[Any, Any]:
    from pydicom.pixels import apply_color_lut

    if data.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, data)
    bits = 16 if pixels.dtype.itemsize > 1 else 8
    return (pixels >> (bits - 8)).astype(np.uint8)  # PNG's colours as Pillow writes them have 8 bits


def _grey(pixels: np.ndarray[Any, Any], data: Any) -> np.ndarray[Any, Any]:
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    rescaled = apply_modality_lut(pixels, data)
    values = apply_voi_lut(rescaled, data).astype(np.float64)
    if "VOILUTSequence" in data and data.VOILUTSequence:
        low, high = 0.0, float(2 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    elif data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        low, high = _window_range(data)
    else:
        low, high = float(values.min()), float(values.max())
    scaled = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    if data.PhotometricInterpretation == "MONOCHROME1":
        scaled = 1 - scaled
    top, kind = (65535, np.uint16) if int(data.BitsStored) > 8 else (255, np.uint8)
    grey: np.ndarray[Any, Any] = np.rint(scaled * top).astype(kind)
    return grey


def _window_range(data: Any) -> tuple[float, float]:
    """What pydicom's windowing makes of black and white: the range of the stored values after the modality step."""
    bits = int(data.BitsStored)
    if data.get("ModalityLUTSequence"):
        return 0.0, float(2 ** int(data.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    low, high = (0, 2**bits - 1) if int(data.PixelRepresentation) == 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    slope, intercept = float(data.get("RescaleSlope") or 1), float(data.get("RescaleIntercept") or 0)
    return low * slope + intercept, high * slope + intercept


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
