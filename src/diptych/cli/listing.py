"""`diptych list`: the families, datasets and models that can be named."""

from __future__ import annotations

import sys
from typing import Any, Literal

from diptych.cli import terminal
from diptych.cli.options import Json

What = Literal["families", "datasets", "models"]


def list_(what: What | None = None, /, *, json: Json = None) -> None:
    """List what can be named: families to train, datasets, ready-made models.

    Args:
        what: One of them; all by default.
    """
    parts = {"families": families, "datasets": datasets, "models": ready_made}
    found = {name: part() for name, part in parts.items() if what in (None, name)}
    terminal.write_json(found if what is None else found[what], json)
    if json == terminal.STDOUT:
        return
    for name, rows in found.items():
        table = terminal.table(name, *rows[0], left=len(rows[0]))
        for row in rows:
            table.add_row(*(terminal.printable(", ".join(v) if isinstance(v, list) else str(v)) for v in row.values()))
        terminal.out.print(table)


def families() -> list[dict[str, Any]]:
    """Each family with what its file says of itself, and its presets."""
    from diptych import models

    rows = []
    for name in models.FAMILIES:
        found = models.family(name)
        about = (sys.modules[found.__module__].__doc__ or "").strip().partition("\n")[0]
        about = about.removeprefix(f"{found.__name__}: ")
        rows.append({"family": name, "presets": list(found.PRESETS), "about": about})
    return rows


def datasets() -> list[dict[str, Any]]:
    """The built-in datasets, and what was imported into the cache."""
    from diptych.data import BUILTIN, Dataset, open_dataset
    from diptych.data.store import is_store
    from diptych.paths import cache_dir

    rows = [{"dataset": name, "samples": len(open_dataset(name)), "from": "built in"} for name in BUILTIN]
    for folder in sorted((cache_dir() / "datasets").glob("*")):
        if is_store(folder):
            cached = Dataset.open(folder)
            rows.append({"dataset": str(folder), "samples": len(cached), "from": cached.card.get("source") or ""})
    return rows


def ready_made() -> list[dict[str, Any]]:
    """The models that have a name, and whether they are in the cache."""
    from diptych import pocket

    about = "training-free search: EfficientNet-Lite0 and MiniLM, joined by known pairs"
    return [{"model": "pocket", "here": "yes" if pocket.is_made() else "made on first use", "about": about}]
