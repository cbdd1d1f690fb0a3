"""Every picture becomes upright 8-bit RGB, or a reason."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

sys.path.insert(0, str(Path(__file__).parent / "data"))
import raw_pictures as raw

from diptych.images import BadImage, decode, decode_plain_jpeg, looks_like_image, read_bytes
from diptych.types import InputError

pytestmark = pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning", "ignore::UserWarning")


def corner(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    return image.getpixel((x, y))


def test_plain_pictures_keep_their_pixels():
    image = raw.noise()
    for format in ("PNG", "BMP", "TIFF", "PPM"):
        decoded = decode(raw.encode(image, format))
        assert decoded.mode == "RGB"
        assert np.array_equal(np.asarray(decoded), np.asarray(image)), format
    assert decode(raw.jpeg()).size == (24, 16)
    assert decode(raw.encode(image, "WEBP", lossless=True)).tobytes() == image.tobytes()


def test_the_content_decides_and_not_the_extension(tmp_path):
    (tmp_path / "a.jpg").write_bytes(raw.png())
    assert decode(tmp_path / "a.jpg").tobytes() == raw.noise().tobytes()
    assert decode(str(tmp_path / "a.jpg")).tobytes() == raw.noise().tobytes()


def test_of_an_animation_the_first_frame_is_read():
    assert corner(decode(raw.animated())) == (255, 0, 0)


def test_cmyk_becomes_rgb():
    red, green, blue = corner(decode(raw.cmyk()))
    assert red > 240 and green < 15 and blue < 15


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    row = np.asarray(decode(raw.sixteen_bit()))[0]
    assert np.array_equal(row[:, 0], np.rint(np.linspace(0, 65535, 256).astype(np.uint16) / 257))
    assert row[0, 0] == 0 and row[-1, 0] == 255 and 126 <= row[128, 0] <= 130
    assert (row[:, 0] == row[:, 2]).all()


@pytest.mark.parametrize("byteorder", ["<u2", ">u2"])
def test_sixteen_bit_grey_of_either_byte_order(byteorder):
    image = Image.frombytes(
        "I;16" if byteorder == "<u2" else "I;16B", (2, 1), np.array([257, 65535], byteorder).tobytes()
    )
    assert np.asarray(decode(image))[0, :, 0].tolist() == [1, 255]


def test_thirty_two_bit_and_float_grey_use_their_range():
    integers = Image.fromarray(np.array([[-100, 0, 100]], np.int32))
    assert np.asarray(decode(integers))[0, :, 0].tolist() == [0, 128, 255]
    unit = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert np.asarray(decode(unit))[0, :, 0].tolist() == [0, 128, 255]
    wide = Image.fromarray(np.array([[0.0, 1.0, np.nan, 4.0]], np.float32))
    assert np.asarray(decode(wide))[0, :, 0].tolist() == [0, 64, 0, 255]


def test_transparency_is_flattened_on_white():
    palette = decode(raw.transparent_palette())
    assert corner(palette) == (255, 0, 0) and corner(palette, 7, 0) == (255, 255, 255)
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert corner(decode(raw.encode(half, "PNG"))) == (127, 127, 127)
    grey = Image.new("LA", (1, 1), (0, 0))
    assert corner(decode(raw.encode(grey, "PNG"))) == (255, 255, 255)
    key = Image.new("RGB", (2, 1), (10, 20, 30))
    assert corner(decode(raw.encode(key, "PNG", transparency=(10, 20, 30)))) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_orientation_is_applied_once(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = raw.encode(raw.noise(), format, exif=exif)
    decoded = decode(data)
    assert decoded.size == ((24, 16) if orientation < 5 else (16, 24))
    assert decoded.tobytes() == ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB").tobytes()
    again = (decode(decoded), ImageOps.exif_transpose(decoded), ImageOps.exif_transpose(decoded.copy()))
    assert all(image.tobytes() == decoded.tobytes() for image in again)  # nothing is left that would turn it again
    assert decoded.info == {} and dict(decoded.getexif()) == {}


def test_a_broken_exif_block_does_not_make_a_picture_bad():
    data = raw.encode(raw.noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data).size == (24, 16)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image empty"),
        (raw.jpeg()[:-40], "image truncated"),
        (raw.png()[:-40], "image truncated"),
        (raw.png()[:20], "image truncated"),
        (raw.encode(raw.noise(), "WEBP")[:-40], "image truncated"),
        (raw.encode(raw.noise(), "GIF")[:-40], "image truncated"),
        (raw.png()[:-40] + raw.png()[-12:], "image corrupt"),
        (raw.bomb(), "image too large"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image not recognised"),
        (b"just some words", "image not recognised"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image not recognised"),
    ],
)
def test_what_cannot_be_read_has_a_reason(data, reason):
    with pytest.raises(BadImage) as error:
        decode(data)
    assert error.value.reason == reason
    assert isinstance(error.value, InputError)


def test_bombs_are_refused_before_decoding(monkeypatch):
    small = raw.png()
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadImage, match="17000 x 10000"):
        decode(raw.bomb())
    with pytest.raises(BadImage, match="too large"):
        decode(small, max_pixels=100)


@pytest.mark.parametrize("pillows", [100, 200])  # it would refuse 256 pixels, or warn of them
def test_the_bound_on_pixels_is_ours_and_not_pillows(monkeypatch, pillows):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows)
    for name in ("PNG", "JPEG", "GIF", "BMP", "JPEG2000", "PPM", "QOI"):
        data = raw.encode(Image.new("RGB", (16, 16)), name)
        assert decode(data, max_pixels=256).size == (16, 16)
        with pytest.raises(BadImage, match="16 x 16 pixels, at most 255 are read"):
            decode(data, max_pixels=255)


def test_files_that_cannot_be_read_have_a_reason(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {
        "none.jpg": "image missing",
        "empty.jpg": "image empty",
        "loop.jpg": "image unreadable",
        "pipe.jpg": "image unreadable",
        "nul\0.jpg": "image unreadable",
        "empty.jpg/x.jpg": "image missing",
        ".": "image unreadable",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadImage) as error:
            read_bytes(tmp_path / name)
        assert error.value.reason == reason, name


def test_arrays():
    colour = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    assert np.array_equal(np.asarray(decode(colour)), colour)
    assert np.array_equal(np.asarray(decode(colour / 255.0)), colour)
    assert corner(decode(np.zeros((2, 3), np.uint8))) == (0, 0, 0)
    assert corner(decode(np.ones((2, 3, 1), bool))) == (255, 255, 255)
    assert corner(decode(np.full((2, 3), 65535, np.uint16))) == (255, 255, 255)
    assert corner(decode(np.zeros((2, 3, 4), np.uint8))) == (255, 255, 255)
    for bad in (np.zeros(3), np.zeros((2, 2, 2)), np.full((2, 2), 2.0), np.zeros((2, 2), np.int64), np.zeros((0, 2))):
        with pytest.raises(BadImage):
            decode(bad)


def test_a_target_shrinks_large_jpegs_only():
    large = raw.encode(raw.noise(1600, 1200), "JPEG")
    assert decode(large).size == (1600, 1200)
    assert decode(large, target=224).size == (800, 600)  # both sides at least 448
    assert decode(raw.jpeg(), target=4).size == (24, 16)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(raw.encode(raw.noise(1600, 1200), "JPEG", exif=exif), target=224).size == (600, 800)


def test_an_open_pil_image_is_decoded_and_left_alone():
    image = Image.open(io.BytesIO(raw.transparent_palette()))
    assert corner(decode(image), 7, 0) == (255, 255, 255)
    assert image.mode == "P" and "transparency" in image.info
    with pytest.raises(BadImage) as error:
        decode(Image.open(io.BytesIO(raw.jpeg()[:-40])))
    assert error.value.reason == "image truncated"


def test_signatures():
    assert all(map(looks_like_image, (raw.jpeg(), raw.png(), raw.animated(), raw.encode(raw.noise(), "WEBP"))))
    assert not any(map(looks_like_image, (b"", b"file,caption\n", b"PAR1", b"{}")))


SEEDS = [raw.jpeg(), raw.png(), raw.animated(), raw.cmyk(), raw.transparent_palette(), raw.encode(raw.noise(), "TIFF")]
SEEDS += [raw.encode(raw.noise(), "WEBP"), raw.encode(raw.noise(), "BMP"), raw.encode(raw.noise(), "JPEG2000")]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=6)), max_size=4), st.booleans()
)
def test_no_bytes_crash_the_decoder(data, patches, cut):
    changed = bytearray(data)
    for at, patch in patches:
        changed[at % len(data) : at % len(data) + len(patch)] = patch
    if cut and patches:
        del changed[patches[0][0] % len(data) :]
    try:
        assert decode(bytes(changed), max_pixels=1_000_000).mode == "RGB"
    except BadImage as error:
        assert error.reason.startswith("image ")


def test_the_fast_way_gives_the_pixels_of_decode_or_nothing():
    """Whole, cut, appended to and flipped JPEGs: wherever the fast decoder answers, `decode` answers the same."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((45, 33), Image.Resampling.BICUBIC)
    kinds = [
        {"subsampling": 0},
        {"subsampling": 2, "progressive": True},
        {"subsampling": 1, "restart_marker_blocks": 3},
        {"quality": 30},
    ]
    whole = []
    for mode in ("RGB", "L"):
        for options in kinds:
            buffer = io.BytesIO()
            noise.convert(mode).save(buffer, "JPEG", **options)
            whole.append(buffer.getvalue())
    for data in whole:
        assert np.array_equal(decode_plain_jpeg(data), np.asarray(decode(data)))
    answered = 0
    for n in range(3000):
        data = bytearray(whole[n % len(whole)])
        if n % 7 == 0:
            del data[rng.integers(2, len(data)) :]
        elif n % 7 == 1:
            data += bytes(rng.integers(0, 256, 20, dtype=np.uint8))
        else:
            data[rng.integers(len(data))] = rng.integers(256)
        pixels = decode_plain_jpeg(bytes(data))
        if pixels is not None:
            answered += 1
            assert np.array_equal(pixels, np.asarray(decode(bytes(data))))
    assert answered > 500


def test_the_fast_way_leaves_the_rest_to_decode():
    def jpeg(image, **options):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **options)
        return buffer.getvalue()

    image = Image.new("RGB", (6, 4), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_plain_jpeg(jpeg(image)) is not None
    assert decode_plain_jpeg(jpeg(image, exif=exif)) is None and decode(jpeg(image, exif=exif)).size == (4, 6)
    assert decode_plain_jpeg(jpeg(image.convert("CMYK"))) is None
    assert decode_plain_jpeg(jpeg(image), max_pixels=23) is None
    for data in (b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0", b"\x89PNG", jpeg(image)[:-40]):
        assert decode_plain_jpeg(data) is None
