"""Contact sheets: what a dataset looks like, as one PNG or one self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diptych.data.annotate import annotate, font, side_by_side
from diptych.data.store import Dataset, image_source
from diptych.images import BadImage, decode
from diptych.types import EncodedImage, InputError, Object, Question, Sample

TEMPLATE = Path(__file__).parent / "sheet.html.j2"

# The PNG is laid out in these units and drawn at twice the size.
SCALE = 2
CELL = 168  # side of a picture's square
GAP = 16
TEXT_HEIGHT = 52
HEADER = 92
MOST_IMAGES = 4  # of one sample
MOST_LINES = 4  # of one kind on the page
ENLARGE = 3  # a small drawing is shown at up to this many times its size
INK, FAINT, PAPER, CARD, EDGE = "#1d2430", "#6b7585", "#f4f5f7", "#ffffff", "#dfe3e8"


class Picture(NamedTuple):
    """One cell of a sheet: a thumbnail (None where the picture cannot be read), its caption, a line below, and more.

    `lines` stand on the page only: what else the sample says, ready to print.
    """

    thumbnail: Image.Image | None
    caption: str
    note: str = ""
    lines: tuple[str, ...] = ()


def contact_sheet(
    dataset: Dataset,
    to: str | Path,
    *,
    count: int = 48,
    columns: int = 6,
    seed: int = 0,
    annotated: bool = True,
) -> Path:
    """Draw `count` random samples of `dataset` with their captions; the suffix of `to` (.png or .html) says how.

    The HTML page also shows questions, how the dataset is made up, and what was rejected when it was imported.

    Args:
        annotated: draw boxes, masks and names of the objects over the pictures.

    Raises:
        InputError: the suffix is neither .png nor .html, or `count` is below 1.
    """
    if count < 1:
        raise InputError(f"count: expected at least one sample, got {count}")
    check_suffix(to)
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    pictures = [_picture(sample, annotated) for sample in dataset.take(np.sort(chosen))]
    lead = f"{len(pictures)} samples drawn at random."
    return write_pictures(pictures, to, dataset.name, summary(dataset), lead=lead, columns=columns, of=dataset)


def check_suffix(to: str | Path) -> None:
    """Raises `InputError` for a name of a sheet that ends neither in .png nor in .html."""
    if Path(to).suffix not in (".png", ".html"):
        raise InputError(f"{to}: expected a name that ends in .png or .html")


def write_pictures(
    pictures: Sequence[Picture],
    to: str | Path,
    title: str,
    facts: Mapping[str, str],
    *,
    lead: str = "",
    columns: int = 6,
    of: Dataset | None = None,
) -> Path:
    """Write a sheet of these pictures, .png or .html. `lead` is a sentence below the title of the page, which also
    tells what was rejected when the dataset `of` was imported."""
    to = Path(to)
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.suffix == ".png":
        draw_sheet(pictures, title, " · ".join(f"{name} {value}" for name, value in facts.items()), columns).save(to)
    else:
        to.write_text(_page(title, facts, lead, pictures, _rejected(of) if of else []), encoding="utf-8")
    return to


def summary(dataset: Dataset) -> dict[str, str]:
    """What a dataset holds, in a few numbers ready to print."""
    captions = dataset.column("captions")
    flat = [caption for of_one in captions for caption in of_one]
    common = Counter(flat).most_common(1)
    facts = {
        "samples": f"{len(dataset):,}",
        "without caption": f"{sum(not of_one for of_one in captions):,}",
        "captions": f"{len(flat):,}",
        "distinct captions": f"{len(set(flat)):,}",
        "the commonest stands": f"{common[0][1]:,} times" if common and common[0][1] > 1 else "",
        "labels": _distinct(dataset.column("label")),
        "creators": _distinct(dataset.column("creator")),
        "rejected": f"{sum(dataset.card.get('rejected', {}).values()):,}",
    }
    return {name: value for name, value in facts.items() if value not in ("", "0")}


def draw_sheet(pictures: Sequence[Picture], title: str, facts: str = "", columns: int = 6) -> Image.Image:
    """A grid of pictures with captions under a heading, as an RGB image."""
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    step_x, step_y = CELL + GAP, CELL + TEXT_HEIGHT + GAP
    width, height = max(420, columns * step_x + GAP), HEADER + rows * step_y + GAP
    sheet = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
    draw = ImageDraw.Draw(sheet)
    big, text, small = font(26 * SCALE, bold=True), font(12 * SCALE), font(10 * SCALE)
    draw.text((GAP * SCALE, 20 * SCALE), title, INK, big)
    draw.text((GAP * SCALE, 58 * SCALE), _fit(facts, small, width - 2 * GAP, 1)[0], FAINT, small)
    for i, picture in enumerate(pictures):
        x, y = GAP + i % columns * step_x, HEADER + i // columns * step_y
        box = [v * SCALE for v in (x, y, x + CELL, y + CELL + TEXT_HEIGHT)]
        draw.rounded_rectangle(box, 8 * SCALE, CARD, EDGE, SCALE)
        _paste(sheet, picture.thumbnail, x, y)
        lines = _fit(picture.caption or "(no caption)", text, CELL - 16, 2)
        colour = INK if picture.caption else FAINT
        draw.multiline_text(((x + 8) * SCALE, (y + CELL) * SCALE), "\n".join(lines), colour, text, spacing=2 * SCALE)
        note = _fit(picture.note, small, CELL - 16, 1)[0]
        draw.text(((x + 8) * SCALE, (y + CELL + 34) * SCALE), note, FAINT, small)
    return sheet


def data_uri(image: Image.Image) -> str:
    """A thumbnail as the address of an image in a self-contained page."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _picture(sample: Sample, annotated: bool) -> Picture:
    caption = " / ".join(sample.captions) or " / ".join(map(_question, sample.questions[:1]))
    note = " · ".join(text for text in (sample.label, ", ".join(sample.tags), sample.creator) if text)
    lines = _lines(sample)
    if not sample.images and (sample.captions or sample.url):
        return Picture(None, caption, sample.url or "text only", lines)
    try:
        shown = sample.images[:MOST_IMAGES] or [EncodedImage()]
        side = (CELL - 16) * SCALE // len(shown)
        things = sample.objects if annotated and len(shown) == 1 else []
        found = [thumbnail(image, sample.id, things, side) for image in shown]
    except BadImage as error:
        return Picture(None, caption, str(error), lines)
    return Picture(side_by_side(found, CARD) if len(found) > 1 else found[0], caption, note, lines)


def thumbnail(
    encoded: EncodedImage, id: str, things: Sequence[Object] = (), side: int = (CELL - 16) * SCALE
) -> Image.Image:
    """A picture at the size of a cell, with boxes and names of `things`. Raises `BadImage`."""
    image = decode(image_source(Sample(id, [encoded])), target=None if things else side)
    scale = min(side / max(image.size), ENLARGE)
    width, height = (max(1, round(scale * old)) for old in image.size)
    if things:
        return annotate(image, things, (width, height))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _lines(sample: Sample) -> tuple[str, ...]:
    """What a sample says besides its captions: a few questions with their answers, wrong captions, phrases, turns."""
    lines = [_question(question) for question in sample.questions[:MOST_LINES]]
    lines += [f"✗ {negative.text}" for negative in sample.negatives[:MOST_LINES]]
    lines += [f"▸ {region.phrase}" for region in sample.regions[:MOST_LINES]]
    lines += [f"{message.role}: {message.text}" for message in sample.messages[: 2 * MOST_LINES]]
    return tuple(lines)


def _question(question: Question) -> str:
    answer = "cannot be answered" if question.answerable is False else ", ".join(dict.fromkeys(question.answers))
    return f"{question.question} — {answer or 'no answer given'}"


def _paste(sheet: Image.Image, thumbnail: Image.Image | None, x: int, y: int) -> None:
    if thumbnail is not None:
        left = (x + CELL // 2) * SCALE - thumbnail.width // 2
        sheet.paste(thumbnail, (left, (y + CELL // 2) * SCALE - thumbnail.height // 2))


def _rejected(dataset: Dataset) -> list[dict[str, Any]]:
    counts: dict[str, int] = dataset.card.get("rejected", {})
    examples: dict[str, list[str]] = {}
    for row in dataset.quarantine():
        examples.setdefault(row.reason, []).append(row.id)
    return [
        {"reason": reason, "count": n, "share": n / max(counts.values()), "examples": examples.get(reason, [])[:4]}
        for reason, n in counts.items()
    ]


def _page(
    title: str, facts: Mapping[str, str], lead: str, pictures: Sequence[Picture], rejected: list[dict[str, Any]]
) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    cards: list[dict[str, Any]] = [
        {"image": data_uri(p.thumbnail) if p.thumbnail else "", "caption": p.caption, "note": p.note, "lines": p.lines}
        for p in pictures
    ]
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(name=title, facts=facts, lead=lead, cards=cards, rejected=rejected)


def _distinct(values: list[str | None]) -> str:
    return f"{len({value for value in values if value}):,}"


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """`text` broken into one to `lines` lines of `width`, with an ellipsis where it does not fit."""
    words = text.split()
    fitted: list[str] = []
    while words and len(fitted) < lines:
        line = words.pop(0)
        if len(fitted) == lines - 1:
            line, words = " ".join([line, *words]), []
        while words and font.getlength(f"{line} {words[0]}") <= width * SCALE:
            line += f" {words.pop(0)}"
        if font.getlength(line) > width * SCALE:
            line = line[: 4 * width]  # far more letters than fit; bounds the search below
            while font.getlength(line.rstrip() + "…") > width * SCALE:
                line = line[:-1]
            line = line.rstrip() + "…"
        fitted.append(line)
    return fitted or [""]
