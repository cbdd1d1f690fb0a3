"""`diptych data show`: what a dataset holds, in numbers and as a contact sheet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli import terminal
from diptych.cli.options import Json, Seed

if TYPE_CHECKING:
    from diptych.data import Dataset

TOP = 5  # commonest creators, labels, captions
LOOKED_AT = 1000  # samples of a generated dataset, each of which must be made to be counted


def show(
    dataset: str,
    /,
    *,
    html: Path | None = None,
    png: Path | None = None,
    count: int = 48,
    plain: bool = False,
    seed: Seed = 0,
    json: Json = None,
) -> None:
    """Show what a dataset holds: numbers, fields, captions, creators and labels, and what was rejected.

    Args:
        dataset: A built-in one, a Diptych dataset, raw data, a mixture, or a generated world.
        html: Write a contact sheet of random samples as a page.
        png: Write a contact sheet of random samples as a picture.
        count: Samples on the contact sheet.
        plain: Leave out the boxes, masks and names that are drawn over the pictures.
    """
    from diptych.data import open_dataset
    from diptych.data.sheet import contact_sheet, summary

    with terminal.Working() as working:
        opened = open_dataset(dataset, working.of("importing"))
    looked = opened if opened.folder is not None else opened.select(range(min(len(opened), LOOKED_AT)))
    at = opened.address if opened.folder is None else str(opened.folder)
    facts = {"name": opened.name, "folder": at, **describe(looked), "samples": len(opened)}
    if json != terminal.STDOUT:
        table = terminal.table(opened.name, "", "")
        for key, value in {**summary(looked), "samples": f"{len(opened):,}"}.items():
            table.add_row(key, value)
        terminal.out.print(table)
        if len(looked) < len(opened):
            terminal.say(f"(counted over the first {len(looked):,} of {len(opened):,} samples)\n")
        _show_parts(opened.card.get("parts", []))
        _show_fields(facts["filled"], len(looked), facts["caption_words"])
        for title, counts in (("rejected", facts["rejected"]), *facts["commonest"].items()):
            _show_counts(title, counts)
    terminal.write_json(facts, json)
    for to in (html, png):
        if to is not None:
            made = contact_sheet(opened, to.expanduser(), count=count, seed=seed, annotated=not plain)
            terminal.note(f"wrote {made}")


def describe(dataset: Dataset) -> dict[str, Any]:
    """How many samples fill each field, how long captions are, the commonest values, and what was rejected."""
    from diptych.data.store import SCHEMA

    table = dataset.table(fields=[name for name in SCHEMA.names if name != "images"])
    filled = {name: _filled(table.column(name)) for name in table.schema.names}
    for top in ("texts", "scores"):
        if filled.pop(top):
            filled |= Counter(f"{top}.{p['name']}" for row in table.column(top).to_pylist() for p in row or ())
    captions = [caption for of_one in table.column("captions").to_pylist() for caption in of_one or ()]
    words = sorted(len(caption.split()) for caption in captions)
    common = {name: table.column(name).to_pylist() for name in ("creator", "label")}
    common["caption"] = captions
    common["tag"] = [tag for of_one in table.column("tags").to_pylist() for tag in of_one or ()]
    return {
        "samples": len(dataset),
        "filled": {name: number for name, number in filled.items() if number},
        "caption_words": {"median": words[len(words) // 2], "least": words[0], "most": words[-1]} if words else {},
        "commonest": {name: dict(Counter(filter(None, values)).most_common(TOP)) for name, values in common.items()},
        "rejected": dict(dataset.card.get("rejected", {})),
        "parts": dataset.card.get("parts", []),
    }


def _filled(column: Any) -> int:
    """Rows of an Arrow column of texts or lists that are neither null nor empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    length = pc.list_value_length if pa.types.is_list(column.type) else pc.utf8_length
    return int(pc.sum(pc.greater(length(column), 0)).as_py() or 0)


def _show_parts(parts: list[dict[str, Any]]) -> None:
    """What a mixture is made of, and what it is said to be made of."""
    if parts:
        table = terminal.table("", "part", "rows", "taken", "said to have")
        for part in parts:
            rows = "absent" if part["state"] == "absent" else f"{part['rows']:,}"
            expected = f"{part['expected']:,}" if part["expected"] else ""
            table.add_row(terminal.printable(part["name"]), rows, f"{part['taken']:,}", expected)
        terminal.out.print(table)


def _show_fields(filled: dict[str, int], samples: int, words: dict[str, int]) -> None:
    table = terminal.table("", "field", "filled", "share")
    for name, number in filled.items():
        table.add_row(terminal.printable(name), f"{number:,}", f"{number / samples:.0%}")
    terminal.out.print(table)
    if words:
        terminal.say(f"words in a caption: {words['median']} in the median, {words['least']} to {words['most']}\n")


def _show_counts(title: str, counts: dict[str, int]) -> None:
    if counts:
        table = terminal.table("", title, "samples")
        for value, number in counts.items():
            table.add_row(terminal.printable(value), f"{number:,}")
        terminal.out.print(table)
