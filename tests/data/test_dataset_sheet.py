"""The contact sheet shows the pictures, their captions and what was rejected."""

import numpy as np
import pytest
import raw_pictures as raw
from PIL import Image

from diptych.data.sheet import CELL, GAP, HEADER, SCALE, Picture, contact_sheet, draw_sheet, summary
from diptych.data.store import Dataset, DatasetWriter
from diptych.types import EncodedImage, InputError, Rejected, Sample


@pytest.fixture
def dataset(tmp_path):
    colours = ("red", "lime", "blue")
    with DatasetWriter(tmp_path / "d", name="colours & more") as out:
        for i, colour in enumerate(colours):
            data = raw.encode(Image.new("RGB", (20, 20), colour), "PNG")
            captions = [f"<b>{colour}</b> square"] if i else ["twice", "twice"]
            out.write(Sample(id=colour, images=[EncodedImage(data)], captions=captions, label=colour, tags=["flat"]))
        out.write(Sample(id="broken", images=[EncodedImage(b"x")]))
        out.reject(Rejected("lost.png", "image missing"))
    return Dataset.open(tmp_path / "d")


def test_png_has_each_picture_in_its_place(dataset, tmp_path):
    path = contact_sheet(dataset, tmp_path / "sheet.png", columns=2)
    sheet = np.asarray(Image.open(path))
    centre = (CELL // 2 + GAP) * SCALE
    top = (HEADER + CELL // 2) * SCALE
    assert sheet[top, centre].tolist() == [255, 0, 0]
    assert sheet[top, centre + (CELL + GAP) * SCALE].tolist() == [0, 255, 0]
    assert (sheet[: HEADER * SCALE] < 90).any()  # the heading is written


def test_html_is_one_escaped_page(dataset, tmp_path):
    text = contact_sheet(dataset, tmp_path / "sheet.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 3 and "http" not in text
    assert "colours &amp; more" in text and "&lt;b&gt;lime&lt;/b&gt; square" in text and "<b>" not in text
    assert "image missing" in text and "lost.png" in text
    assert "image not recognised" in text  # in place of the picture that is broken


def test_the_number_and_choice_of_samples(dataset, tmp_path):
    one = contact_sheet(dataset, tmp_path / "a.html", count=2, seed=1).read_text()
    assert one.count("<figure") == 2
    assert contact_sheet(dataset, tmp_path / "b.html", count=2, seed=1).read_text() == one
    picks = {contact_sheet(dataset, tmp_path / "c.html", count=1, seed=seed).read_text() for seed in range(8)}
    assert len(picks) > 1
    with pytest.raises(InputError, match="sheet.gif"):
        contact_sheet(dataset, tmp_path / "sheet.gif")


def test_summary(dataset):
    assert summary(dataset) == {
        "samples": "4",
        "without caption": "1",
        "captions": "4",
        "distinct captions": "3",
        "the commonest stands": "2 times",
        "labels": "3",
        "rejected": "1",
    }


def test_long_and_empty_texts_fit(tmp_path):
    pictures = [Picture(None, "word " * 500, "w" * 5000), Picture(None, "", ""), Picture(None, "x" * 5000)]
    sheet = draw_sheet(pictures, "t", columns=3)
    assert sheet.size == ((3 * (CELL + GAP) + GAP) * SCALE, (HEADER + CELL + 52 + 2 * GAP) * SCALE)
    right = np.asarray(sheet)[HEADER * SCALE :, -GAP * SCALE + SCALE * 2 :]
    assert (right == right[0, 0]).all()  # nothing runs over the edge
    assert draw_sheet([], "empty").size[0] > 0
