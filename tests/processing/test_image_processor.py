"""Pictures to squares: geometry, Hugging Face's words for it, and normalisation."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.processing.image import IMAGENET_MEAN, IMAGENET_STD, ImageConfig, ImageProcessor, from_hf, to_hf
from diptych.processing.normalize import Normalize
from diptych.types import InputError


def _stripes(width: int, height: int) -> Image.Image:
    """Left third red, middle third green, right third blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for part in range(3):
        pixels[:, part * width // 3 : (part + 1) * width // 3, part] = 255
    return Image.fromarray(pixels)


def test_crop_keeps_the_middle() -> None:
    square = ImageProcessor(ImageConfig(size=8, resize="crop", interpolation="nearest"))(_stripes(30, 10))
    assert square.shape == (8, 8, 3) and square.dtype == np.uint8
    assert (square == [0, 255, 0]).all()  # the middle third of 3:1 is exactly the square


def test_squash_keeps_everything() -> None:
    square = ImageProcessor(ImageConfig(size=9, resize="squash", interpolation="nearest"))(_stripes(30, 10))
    assert [tuple(square[4, x]) for x in (1, 4, 7)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_pad_fills_with_the_mean() -> None:
    config = ImageConfig(size=9, resize="pad", interpolation="nearest", mean=(0.0, 0.2, 1.0))
    square = ImageProcessor(config)(_stripes(30, 10))
    assert tuple(square[0, 0]) == tuple(square[8, 8]) == (0, 51, 255)
    assert [tuple(square[4, x]) for x in (1, 4, 7)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_short_side_larger_than_size_cuts_a_margin() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[4:28, 4:28] = 255
    square = ImageProcessor(ImageConfig(size=12, short_side=16, interpolation="box"))(Image.fromarray(picture))
    assert square.shape == (12, 12, 3) and square.min() == 255  # the black frame of 2 px at 16 px is cut off


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (7, 3)])
def test_any_shape_gives_the_square(resize: str, shape: tuple[int, int]) -> None:
    square = ImageProcessor(ImageConfig(size=16, resize=resize))(np.full((*shape, 3), 90, np.uint8))  # type: ignore[arg-type]
    assert square.shape == (16, 16, 3)
    assert (square == 90).any()


def test_the_right_size_passes_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(ImageProcessor(ImageConfig(size=16))(pixels), pixels)


def test_bytes_and_paths_read_the_same(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    _stripes(40, 30).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    processor = ImageProcessor(ImageConfig(size=16))
    expected = processor(_stripes(40, 30))
    assert np.array_equal(processor(buffer.getvalue()), expected)
    assert np.array_equal(processor(tmp_path / "a.png"), expected)


def test_geometry_equals_hugging_faces_processor() -> None:
    """Same geometry as the PIL processor of CLIP: identical pixels after resize and centre crop."""
    transformers = pytest.importorskip("transformers")
    config = ImageConfig(size=24)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 77, 3), dtype=np.uint8)
    theirs_class = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    theirs = theirs_class(**{k: v for k, v in to_hf(config).items() if k != "image_processor_type"})
    expected = theirs(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    ours = torch.tensor(ImageProcessor(config)(pixels)).permute(2, 0, 1)[None]
    torch.testing.assert_close(Normalize(config.mean, config.std)(ours), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "config",
    [
        ImageConfig(),
        ImageConfig(size=224, short_side=256, mean=IMAGENET_MEAN, std=IMAGENET_STD, interpolation="bilinear"),
        ImageConfig(size=64, resize="squash"),
        ImageConfig(size=64, resize="pad", interpolation="lanczos"),
        ImageConfig(size=64, resize="keep", long_side=100, multiple=16),
    ],
)
def test_save_and_load(config: ImageConfig, tmp_path: Path) -> None:
    ImageProcessor(config).save(tmp_path)
    loaded = ImageProcessor.load(tmp_path)
    assert loaded.config == config
    assert loaded.fingerprint() == ImageProcessor(config).fingerprint()


def test_fingerprint_sees_every_field() -> None:
    plain = ImageProcessor(ImageConfig()).fingerprint()
    others = [
        ImageConfig(size=32),
        ImageConfig(resize="pad"),
        ImageConfig(interpolation="box"),
        ImageConfig(mean=(0.0, 0.0, 0.0)),
    ]
    assert len({plain, *(ImageProcessor(config).fingerprint() for config in others)}) == 5


def test_foreign_configs() -> None:
    vit = {"size": {"height": 384, "width": 384}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    assert from_hf(vit) == ImageConfig(384, "squash", "bilinear", None, (0.5,) * 3, (0.5,) * 3)
    vilt = vit | {"size": {"shortest_edge": 384}, "size_divisor": 32}
    assert from_hf(vilt) == ImageConfig(384, "keep", "bilinear", None, (0.5,) * 3, (0.5,) * 3, 639, 32)
    old_clip = {"size": 224, "do_center_crop": True, "crop_size": 224, "resample": 3, "do_normalize": False}
    assert from_hf(old_clip) == ImageConfig(224, "crop", "bicubic", None, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"do_resize": False}, "do_resize"),
        ({"size": {"height": 3, "width": 4}}, "size"),
        ({"size": "large"}, "size"),
        ({"resample": 17}, "resample"),
        ({"image_mean": [0.5]}, "image_mean"),
    ],
)
def test_bad_foreign_configs_name_the_field(data: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"folder/p.json: .*{message}"):
        from_hf(data, "folder/p.json")


def test_bad_sizes() -> None:
    with pytest.raises(InputError, match="short_side"):
        ImageConfig(size=32, short_side=16)


def test_normalize_by_hand() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    out = Normalize((0.5, 0.1, 0.0), (0.5, 0.2, 0.25))(pixels).flatten()
    torch.testing.assert_close(out, torch.tensor([-1.0, 0.5, 4.0]))


def test_normalize_passes_floats_through_and_has_no_state() -> None:
    module = Normalize((0.5,) * 3, (0.5,) * 3)
    pixels = torch.rand(1, 3, 2, 2)
    assert torch.equal(module(pixels), pixels)
    assert not module.state_dict()


@pytest.mark.parametrize("size", [(40, 32), (32, 41), (32, 32), (45, 50), (300, 33), (24, 24), (24, 70), (6, 24)])
@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("short_side", [None, 32])
def test_jpeg_bytes_give_what_the_decoded_picture_gives(size, resize, short_side) -> None:
    """A plain JPEG takes a faster way, and no resize where only the margin has to go."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, "JPEG")
    processor = ImageProcessor(ImageConfig(size=24, resize=resize, short_side=short_side))
    found = processor(buffer.getvalue())
    assert found.shape == (24, 24, 3) and found.dtype == np.uint8
    assert np.array_equal(found, processor(Image.open(buffer)))
