"""`diptych data leaks`: what of a test set stands in the training data as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli import terminal
from diptych.cli.options import Device, Json
from diptych.types import InputError

if TYPE_CHECKING:
    from diptych.data import Dataset
    from diptych.data.curate.leakage import Leak, Leaks
    from diptych.data.sheet import Picture

EXAMPLES_SHOWN = 4  # of each kind
SIDE = 304  # of a thumbnail, in pixels
PAIRS_A_LINE = 3


def leaks(
    train: str,
    test: str,
    /,
    *,
    difference: float = 2.0,
    model: str | None = None,
    threshold: float = 0.95,
    png: Path | None = None,
    count: int = 48,
    device: Device = "auto",
    json: Json = None,
) -> int:
    """Find test rows whose picture or caption stands in the training data as well; exit code 1 if a picture does.

    Args:
        train: What a model learns from: a built-in dataset, a Diptych dataset or raw data.
        test: What it is judged on.
        difference: Of the thumbnails of two near pictures at most, mean over pixels, 0 to 255.
        model: Compare the embeddings of this model as well: "pocket", a model folder, or hf:ORG/NAME.
        threshold: Cosine from which two embeddings count as a leak.
        png: Write a sheet of leaked pictures, each beside the training picture that gives it away.
        count: Pairs on the sheet.
    """
    from diptych.data import open_dataset
    from diptych.data.curate.leakage import PICTURE_KINDS, find_leaks

    with terminal.Working() as working:
        seen, asked = (open_dataset(name, working.of("importing")) for name in (train, test))
        vectors = None if model is None else _vectors(model, seen, asked, device, working)
        progress = working.of("pictures compared")
        found = find_leaks(seen, asked, difference=difference, vectors=vectors, threshold=threshold, progress=progress)
    ids = (seen.ids, asked.ids)
    if json != terminal.STDOUT:
        _show(found, seen, asked, ids)
    terminal.write_json(_facts(found, ids), json)
    if png is not None:
        _sheet(found, seen, asked, png.expanduser(), count)
    return int(len(found.rows(PICTURE_KINDS)) > 0)


def _vectors(model: str, train: Dataset, test: Dataset, device: str, working: terminal.Working) -> tuple[Any, Any]:
    """A vector for each row of both; zero for a row whose picture cannot be read."""
    import numpy as np

    from diptych import api, tasks

    loaded = api.load(model, working)
    sets = (train, test)
    found = [tasks.embed_readable_images(loaded, one, device=device, progress=working.of("embedding")) for one in sets]
    width = max((one.vectors.shape[1] for one in found if len(one.kept)), default=1)
    made = [np.zeros((len(dataset), width), np.float32) for dataset in sets]
    for rows, one in zip(made, found):
        if len(one.kept):
            rows[one.kept] = one.vectors
    return made[0], made[1]


def _show(found: Leaks, train: Dataset, test: Dataset, ids: tuple[list[str], list[str]]) -> None:
    table = terminal.table(f"{train.name} in {test.name}", "leak", "test rows", "share", "for example", "in training")
    for column in table.columns[3:]:
        column.justify = "left"
    for kind, number in found.counts().items():
        of_kind = [leak for leak in found.found if leak.kind == kind]
        examples: list[Leak | None] = [*of_kind[:EXAMPLES_SHOWN]] or [None]
        for i, leak in enumerate(examples):
            head = ("", "", "") if i else (kind, f"{number:,}", f"{number / max(found.test_rows, 1):.1%}")
            pair = ("", "") if leak is None else (ids[1][leak.test], ids[0][leak.train])
            table.add_row(*head, *map(terminal.printable, pair))
    terminal.out.print(table)
    rows = len(found.rows())
    terminal.say(
        f"{terminal.count(rows, 'test picture')} of {found.test_rows:,} "
        f"({rows / max(found.test_rows, 1):.1%}) {'is' if rows == 1 else 'are'} among the {found.train_rows:,} "
        "training rows"
    )
    if found.unread:
        terminal.note(f"{terminal.count(found.unread, 'picture')} could not be read and leak nothing", "yellow")


def _facts(found: Leaks, ids: tuple[list[str], list[str]]) -> dict[str, Any]:
    pairs = [
        {"kind": leak.kind, "test": ids[1][leak.test], "train": ids[0][leak.train], "distance": leak.distance}
        for leak in found.found
    ]
    counts = {"train_rows": found.train_rows, "test_rows": found.test_rows, "unread": found.unread}
    return {**counts, "leaked_pictures": len(found.rows()), "counts": found.counts(), "pairs": pairs}


def _sheet(found: Leaks, train: Dataset, test: Dataset, to: Path, count: int) -> None:
    from diptych.data.curate.leakage import PICTURE_KINDS
    from diptych.data.sheet import draw_sheet

    if to.suffix != ".png":
        raise InputError(f"{to}: expected a name that ends in .png")
    pairs = [leak for leak in found.found if leak.kind in PICTURE_KINDS]
    shown = pairs[:: max(1, len(pairs) // max(count, 1))][:count]  # spread over the whole test set
    cells = [cell for leak in shown for cell in (_cell(test, leak.test, leak), _cell(train, leak.train, None))]
    facts = f"{len(shown):,} of {len(pairs):,} leaks, each test picture to the left of its training picture"
    draw_sheet(cells, f"{train.name} in {test.name}", facts, 2 * PAIRS_A_LINE).save(to)
    terminal.note(f"wrote {to}")


def _cell(dataset: Dataset, row: int, leak: Leak | None) -> Picture:
    from diptych.data.sheet import ENLARGE, Picture
    from diptych.data.store import image_source
    from diptych.images import BadImage, decode

    sample = dataset[row]
    note = f"test: {leak.kind}" if leak else "training"
    if leak is not None and leak.distance:
        note += f", {leak.distance:.2f}"
    try:
        image = decode(image_source(sample), target=SIDE)
        scale = min(SIDE / max(image.size), ENLARGE)
        image = image.resize([max(1, round(scale * side)) for side in image.size])
    except BadImage as error:
        return Picture(None, sample.id, str(error))
    return Picture(image, sample.id, note)
