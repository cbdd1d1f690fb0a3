"""A contact sheet of what a search found: one self-contained HTML page, or a PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from PIL import Image, ImageDraw, ImageFont

from diptych.images import BadImage, decode
from diptych.tasks.retrieve import Hit
from diptych.types import InputError

_THUMB = 360  # pixels; shown at half of that, so that it stays sharp on dense screens


@dataclass(frozen=True)
class Card:
    """One hit as it is drawn. `bar` is its score as a fraction of the best one, in [0, 1]."""

    rank: int
    name: str
    below: str  # the folder or other place, in small letters
    score: float
    bar: float
    picture: Image.Image | None
    link: str


def write_sheet(
    hits: Sequence[Hit],
    query: Any,
    to: str | Path,
    *,
    pictures: Mapping[str, Any] | None = None,
    note: str = "",
    columns: int = 5,
) -> Path:
    """Write the hits of one query, best first, to `to`: HTML or PNG by its suffix. Returns the path.

    Args:
        query: the text (`str`), or the picture (a `Path`, PIL image, array or bytes) that was searched for.
        pictures: for each hit's id its picture, as `diptych.images.decode` takes it; by default the file in the hit's
            field "path", else the file that the id names. One that cannot be read leaves its place empty.
        note: small print, e.g. which model searched how many pictures.
        columns: of the PNG; a page has as many as fit.

    Raises `InputError` for another suffix, or a query picture that cannot be read.
    """
    to = Path(to)
    if to.suffix.lower() not in (".html", ".htm", ".png"):
        raise InputError(f"{to}: expected a name that ends in .html or .png")
    best = max((hit.score for hit in hits), default=0.0)
    cards = [_card(rank, hit, best, pictures) for rank, hit in enumerate(hits, 1)]
    asked = query if isinstance(query, str) else _thumbnail(query)
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.suffix.lower() == ".png":
        draw_sheet(cards, asked, note, columns).save(to)
    else:
        to.write_text(_page(cards, asked, note), encoding="utf-8")
    return to


def _card(rank: int, hit: Hit, best: float, pictures: Mapping[str, Any] | None) -> Card:
    path = Path(str(hit.fields.get("path", hit.id)))
    source = path if pictures is None else pictures.get(hit.id)
    name, below = path.name, str(hit.fields.get("folder", ""))
    if pictures is not None:
        name, below = str(hit.fields.get("caption", hit.id)), hit.id if "caption" in hit.fields else ""
    link = path.absolute().as_uri() if pictures is None and path.exists() else ""
    try:
        picture = None if source is None else _thumbnail(source)
    except BadImage:
        picture = None
    bar = min(1.0, max(0.0, hit.score / best)) if best > 0 else 0.0
    return Card(rank, _printable(name), _printable(below), hit.score, bar, picture, link)


def _thumbnail(source: Any) -> Image.Image:
    picture = decode(source, target=_THUMB)
    picture.thumbnail((_THUMB, _THUMB), Image.Resampling.LANCZOS)
    return picture


def _printable(text: str) -> str:
    """Bytes of a file name that are not UTF-8, and control characters, shown as question marks."""
    return "".join(
        c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


# ---------------------------------------------------------------- HTML

_TEMPLATE = Path(__file__).with_name("sheet.html")


def _page(cards: Sequence[Card], asked: str | Image.Image, note: str) -> str:
    picture = "" if isinstance(asked, str) else _data_uri(asked)
    template = Environment(autoescape=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=_title(asked), picture=picture, cards=cards, note=note, data=_data_uri)


def _title(asked: str | Image.Image) -> str:
    return f"\u201c{_printable(asked)}\u201d" if isinstance(asked, str) else "Pictures like this one"


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


# ---------------------------------------------------------------- PNG

_PAGE, _CARD, _INK, _SOFT, _LINE, _MAT, _ACCENT = (
    "#f6f5f2",
    "#ffffff",
    "#1d1d1f",
    "#75757c",
    "#e3e1dc",
    "#eceae5",
    "#c2512f",
)
_SIDE, _GAP, _EDGE, _TEXT = 360, 32, 64, 132  # of a card's picture, between cards, around all, a card's text


def draw_sheet(cards: Sequence[Card], asked: str | Image.Image, note: str, columns: int = 5) -> Image.Image:
    """The sheet as a picture, for dense screens: `columns` cards of 360 pixels side by side."""
    columns = max(1, min(columns, len(cards) or 1))
    rows = -(-len(cards) // columns)
    width = max(2 * _EDGE + columns * (_SIDE + _GAP) - _GAP, 1100)
    top = 300 if isinstance(asked, Image.Image) else 220
    height = top + rows * (_SIDE + _TEXT + _GAP) + 70
    sheet = Image.new("RGB", (width, height), _PAGE)
    draw = ImageDraw.Draw(sheet)
    left = _EDGE
    if isinstance(asked, Image.Image):
        _paste(sheet, asked, (left, 52, left + 200, 252), 20)
        draw.rounded_rectangle((left, 52, left + 200, 252), 20, outline=_ACCENT, width=6)
        left += 240
    middle = 52 + (100 if isinstance(asked, Image.Image) else 62)
    draw.text((left, middle - 62), "SEARCH", _ACCENT, _font(24, bold=True))
    title = _fit(draw, _title(asked), _font(52, bold=True), width - left - _EDGE)
    draw.text((left, middle - 30), title, _INK, _font(52, bold=True))
    count = f"{len(cards) or 'No'} picture{'' if len(cards) == 1 else 's'}{', best first' if len(cards) > 1 else ''}"
    draw.text((left, middle + 44), count, _SOFT, _font(26))
    for i, card in enumerate(cards):
        x = _EDGE + i % columns * (_SIDE + _GAP)
        _draw_card(sheet, draw, card, x, top + i // columns * (_SIDE + _TEXT + _GAP))
    draw.text((_EDGE, height - 70), _fit(draw, note, _font(24), width - 2 * _EDGE), _SOFT, _font(24))
    return sheet


def _draw_card(sheet: Image.Image, draw: ImageDraw.ImageDraw, card: Card, x: int, y: int) -> None:
    box = (x, y, x + _SIDE, y + _SIDE + _TEXT)
    draw.rounded_rectangle(box, 22, fill=_CARD)
    draw.rounded_rectangle((x, y, x + _SIDE, y + _SIDE + 22), 22, fill=_MAT)
    draw.rectangle((x, y + _SIDE, x + _SIDE, y + _SIDE + 22), fill=_CARD)
    if card.picture is None:
        draw.text((x + _SIDE / 2, y + _SIDE / 2), "cannot be read", _SOFT, _font(26), anchor="mm")
    else:
        _paste(sheet, card.picture, (x, y, x + _SIDE, y + _SIDE), 22, whole=True)
    draw.rounded_rectangle(box, 22, outline=_LINE, width=2)
    inner, right = x + 22, x + _SIDE - 22
    draw.text((inner, y + _SIDE + 14), str(card.rank), _SOFT, _font(24))
    draw.text((right, y + _SIDE + 14), f"{card.score:.3f}", _INK, _font(24, bold=True), anchor="ra")
    draw.rounded_rectangle((inner, y + _SIDE + 50, right, y + _SIDE + 55), 3, fill=_LINE)
    if card.bar > 0:
        draw.rounded_rectangle(
            (inner, y + _SIDE + 50, inner + max(6, card.bar * (right - inner)), y + _SIDE + 55), 3, fill=_ACCENT
        )
    draw.text((inner, y + _SIDE + 64), _fit(draw, card.name, _font(26), right - inner), _INK, _font(26))
    draw.text((inner, y + _SIDE + 97), _fit(draw, card.below, _font(21), right - inner), _SOFT, _font(21))


def _paste(
    sheet: Image.Image, picture: Image.Image, box: tuple[int, int, int, int], radius: int, whole: bool = False
) -> None:
    """Put a picture into a box: filling it, or with `whole` all of it, centred; the box's upper corners are rounded."""
    size = (box[2] - box[0], box[3] - box[1])
    scale = (min if whole else max)(size[0] / picture.width, size[1] / picture.height)
    scaled = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    filled = Image.new("RGB", size, _MAT)
    filled.paste(scaled, ((size[0] - scaled.width) // 2, (size[1] - scaled.height) // 2))
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rounded_rectangle(
        (0, 0, size[0] - 1, size[1] - 1 + (radius if whole else 0)), radius, fill=255
    )
    sheet.paste(filled, box[:2], mask)


def _fit(draw: ImageDraw.ImageDraw, text: str, font: Any, width: float) -> str:
    """`text`, its middle cut out where it is wider than `width`: the end of a file name often tells files apart."""
    if draw.textlength(text, font) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        short = f"{text[: (kept + 1) // 2]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - kept // 2 :]}"
        if draw.textlength(short, font) <= width:
            return short
    return ""


def _font(size: int, bold: bool = False) -> Any:
    """DejaVu Sans, which comes with matplotlib and has most of the world's letters."""
    from matplotlib import get_data_path

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size)
