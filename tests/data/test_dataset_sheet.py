"""The contact sheet shows the pictures, their captions and what was rejected."""

import numpy as np
import pytest
import raw_pictures as raw
from PIL import Image

from diptych.data import masks
from diptych.data.annotate import TINT, annotate
from diptych.data.sheet import CELL, GAP, HEADER, SCALE, Picture, contact_sheet, draw_sheet, summary
from diptych.data.store import Dataset, DatasetWriter
from diptych.types import EncodedImage, InputError, Object, Question, Rejected, Sample


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


def test_boxes_masks_and_names_are_drawn_in_their_place(tmp_path):
    inside = np.zeros((100, 100), bool)
    inside[20:80, 10:50] = True
    thing = Object("cat", (10, 20, 50, 80), masks.encode(inside))
    drawn = np.asarray(annotate(Image.new("RGB", (100, 100), "white"), [thing], (200, 200))).astype(int)
    red = np.array([0xE6, 0x19, 0x4B])
    assert (drawn[40, 20:100] == red).all() and (drawn[40:160, 20] == red).all()  # two sides of the box
    tinted = np.array([255, 255, 255]) * (1 - TINT) + red * TINT
    assert np.abs(drawn[100, 60] - tinted).max() <= 2  # inside the mask
    assert (drawn[100, 150] == 255).all() and (drawn[180, 60] == 255).all()  # outside
    assert (drawn[22:38, 20:60] == red).all(axis=-1).any()  # the name's label above the box
    plain = annotate(Image.new("RGB", (100, 100), "white"), [], (200, 200))
    assert np.asarray(plain).min() == 255


def test_a_mask_of_another_size_and_a_box_outside_stop_nothing():
    wrong = Object("x", (-50, -50, 500, 500), masks.encode(np.ones((3, 3), bool)))
    drawn = np.asarray(annotate(Image.new("RGB", (40, 40), "white"), [wrong, Object("no place")], (40, 40)))
    assert (drawn[20, 20] == 255).all()


def test_several_pictures_questions_and_text_only_samples_are_shown(tmp_path):
    pictures = [EncodedImage(raw.encode(Image.new("RGB", (20, 20), c), "PNG")) for c in ("red", "lime")]
    with DatasetWriter(tmp_path / "d") as out:
        out.write(Sample("pair", pictures, questions=[Question("Are both red?", ["False"], "nlvr2")]))
        out.write(Sample("nonsense", pictures[:1], questions=[Question("Where is the cat?", answerable=False)]))
        out.write(Sample("text", captions=["only words"]))
    dataset = Dataset.open(tmp_path / "d")
    page = contact_sheet(dataset, tmp_path / "s.html").read_text()
    assert "Are both red? — False" in page and "cannot be answered" in page and "text only" in page
    sheet = np.asarray(Image.open(contact_sheet(dataset, tmp_path / "s.png", columns=3)))
    row = sheet[(HEADER + CELL // 2) * SCALE, : (GAP + CELL) * SCALE].astype(int)
    assert (row == [255, 0, 0]).all(-1).any() and (row == [0, 255, 0]).all(-1).any()  # both of the pair
