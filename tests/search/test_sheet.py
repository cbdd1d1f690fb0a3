"""The contact sheet: self-contained, with every hit in it, whatever the names."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from toy_encoder import COLOURS, picture

from diptych.search import Hit, write_sheet
from diptych.types import InputError


@pytest.fixture
def hits(tmp_path):
    found = []
    for i, name in enumerate(COLOURS):
        path = tmp_path / f"{name} <b>& a very long name that does not fit {i}.png"
        picture(name, size=(60, 30) if i % 2 else (30, 60)).save(path)
        found.append(Hit(path.name, 0.5 - 0.1 * i, {"path": str(path), "folder": "of/colours"}))
    return found


def test_a_page_holds_everything_and_needs_nothing(hits, tmp_path):
    page = write_sheet(hits, 'red & "<script>"', tmp_path / "new" / "s.html", note="toy · 5 pictures").read_text(
        "utf-8"
    )
    assert "<script" not in page and "&lt;script&gt;" in page and "<b>" not in page
    assert page.count("<figure>") == 5 and "toy · 5 pictures" in page and "0.500" in page and "0.100" in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 10 and all(source.startswith(("data:image/jpeg;base64,", "file:///")) for source in sources)
    pictures = [base64.b64decode(s.partition(",")[2]) for s in sources if s.startswith("data:")]
    colours = [np.asarray(Image.open(io.BytesIO(p))).mean(axis=(0, 1)) for p in pictures]
    assert np.allclose(colours, list(COLOURS.values()), atol=6), "the pictures are there, in the order of the hits"
    assert re.findall(r"width:(\d+)%", page) == ["100", "80", "60", "40", "20"]


def test_a_sheet_as_a_picture_shows_the_hits(hits, tmp_path):
    sheet = Image.open(write_sheet(hits, "red", tmp_path / "s.png", columns=3)).convert("RGB")
    seen = {colour for _, colour in sheet.getcolors(1 << 24)}
    assert {tuple(c) for c in COLOURS.values()} <= seen
    wide = Image.open(write_sheet(hits, "red", tmp_path / "wide.png", columns=5))
    assert wide.width > sheet.width and wide.height < sheet.height
    assert Image.open(write_sheet([], "red", tmp_path / "none.png")).size[0] > 0


@pytest.mark.parametrize("name", ["s.html", "s.png"])
def test_a_picture_as_the_query_and_pictures_that_are_gone(hits, tmp_path, name):
    hits = [*hits, Hit("gone.png", 0.01, {}), Hit("odd\udce9\n.png", -0.2, {"path": "/nowhere/odd\udce9\n.png"})]
    to = write_sheet(hits, picture("green"), tmp_path / name)
    if name == "s.html":
        page = to.read_text("utf-8")
        assert page.count("cannot be read") == 2 and "Pictures like this one" in page and page.count("<figure>") == 7
    else:
        assert np.asarray(Image.open(to))[152, 164].tolist() == list(COLOURS["green"]), "the query is in the corner"


def test_pictures_of_a_dataset_come_by_id(tmp_path):
    hits = [Hit("s1", 0.9, {"caption": "a red thing"}), Hit("s2", 0.8, {})]
    page = write_sheet(hits, "red", tmp_path / "s.html", pictures={"s1": picture("red")}).read_text("utf-8")
    assert "a red thing" in page and page.count("data:image") == 1 and page.count("cannot be read") == 1


def test_wrong_calls_get_a_sentence(hits, tmp_path):
    with pytest.raises(InputError, match="ends in .html or .png"):
        write_sheet(hits, "red", tmp_path / "s.pdf")
    with pytest.raises(InputError, match="image not recognised"):
        write_sheet(hits, b"?", tmp_path / "s.html")
