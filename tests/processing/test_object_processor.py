"""Boxes follow their picture to the model's size, whatever becomes of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.images import BadImage, size_of
from diptych.processing import ImageConfig, ImageProcessor
from diptych.processing.objects import ObjectProcessor
from diptych.types import UNLISTED, InputError, Object

BLACK = (0.0, 0.0, 0.0)


def drawn(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """A white rectangle on black."""
    picture = Image.new("RGB", (width, height))
    picture.paste((255, 255, 255), box)
    return picture


@pytest.mark.parametrize("size", [(120, 80), (60, 140), (64, 64)])
@pytest.mark.parametrize(
    "config", [{}, {"short_side": 80}, {"resize": "squash"}, {"resize": "pad", "mean": (0.0,) * 3}]
)
def test_the_box_lies_around_what_it_lay_around(size: tuple[int, int], config: dict) -> None:
    width, height = size
    box = (width // 2 - 10, height // 2 - 16, width // 2 + 14, height // 2 + 8)
    processor = ObjectProcessor(ImageProcessor(ImageConfig(size=64, **config)), ["thing"])
    picture = drawn(width, height, box)
    batch = processor.collate(["a"], [processor.decode_image(picture)], objects=[(size, [Object("thing", box)])])
    y, x = np.nonzero(batch.pixels[0].float().mean(dim=0).numpy() > 128)
    seen = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    np.testing.assert_allclose(batch.boxes[0].numpy() * 64, seen, atol=1.01)
    assert batch.box_of.tolist() == [0] and batch.names.tolist() == [0]


def test_what_is_not_seen_or_no_thing_is_left_out() -> None:
    processor = ObjectProcessor(ImageProcessor(ImageConfig(size=8)), ["cat", "dog"])
    things = [
        Object("dog", (45.0, 0.0, 60.0, 40.0)),  # half in view: the square shows x from 10 to 50
        Object("cat", (0.0, 0.0, 9.0, 9.0)),  # left of it
        Object("cow", (20.0, 10.0, 30.0, 20.0)),
        Object("cat"),
        Object("cat", (20.0, 10.0, 30.0, 20.0), kind="crowd"),
    ]
    pictures = [processor.decode_image(drawn(60, 40, (0, 0, 60, 40)))] * 3
    batch = processor.collate(["a", "b", "c"], pictures, objects=[((60, 40), []), ((60, 40), things), ((60, 40), [])])
    assert batch.box_of.tolist() == [1, 1] and batch.names.tolist() == [1, UNLISTED]
    np.testing.assert_allclose(batch.boxes, [[0.875, 0, 1, 1], [0.25, 0.25, 0.5, 0.5]])
    first, second, third = batch.chunks(1)
    assert len(first.boxes) == len(third.boxes) == 0
    assert second.box_of.tolist() == [0, 0] and second.names.tolist() == [1, UNLISTED]


def test_save_load_and_fingerprint(tmp_path: Path) -> None:
    processor = ObjectProcessor(ImageProcessor(ImageConfig(size=8)), ["cat", "dog"])
    processor.save(tmp_path)
    again = ObjectProcessor.load(tmp_path)
    assert again.names == ["cat", "dog"] and again.fingerprint() == processor.fingerprint()
    assert ObjectProcessor(processor.image, ["dog"]).fingerprint() != processor.fingerprint()
    (tmp_path / "names.json").write_text('{"names": [1]}', encoding="utf-8")
    with pytest.raises(InputError, match=r"names\.json: names: expected a list"):
        ObjectProcessor.load(tmp_path)


def test_boxes_and_cut_out_parts_do_not_go_together() -> None:
    processor = ObjectProcessor(ImageProcessor(ImageConfig(size=8)), ["cat"])
    with pytest.raises(InputError, match=r"loader\.augment"):
        processor.collate(["a"], [np.zeros((8, 8, 3), np.uint8)], augment=True)


def test_the_size_of_a_picture_is_that_of_the_decoded_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    drawn(30, 20, (0, 0, 5, 5)).save(tmp_path / "turned.jpg", exif=exif)
    assert size_of(tmp_path / "turned.jpg") == size_of((tmp_path / "turned.jpg").read_bytes()) == (20, 30)
    assert size_of(drawn(30, 20, (0, 0, 5, 5))) == (30, 20) and size_of(np.zeros((4, 6, 3), np.uint8)) == (6, 4)
    for bad in (b"", b"no picture"):
        with pytest.raises(BadImage):
            size_of(bad)
    with pytest.raises(BadImage, match="image missing"):
        size_of(tmp_path / "none.jpg")
