"""Caps, so that no author and no concept fills the data set."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence

from diptych.data.curate.steps import Change, StepReport
from diptych.types import Sample


def cap(
    rows: Sequence[Sample], group: Callable[[Sample], str], most: int, name: str, seed: int
) -> tuple[list[Sample], StepReport]:
    """Keep at most `most` rows of each group; which ones is decided by a hash of (seed, id), so it is stable.

    Rows whose group is "" are not limited.
    """
    groups: dict[str, list[Sample]] = defaultdict(list)
    for row in rows:
        groups[group(row)].append(row)
    dropped: dict[str, str] = {}
    for value, members in groups.items():
        if value and len(members) > most:
            surplus = sorted(members, key=lambda row: _draw(seed, row.id))[most:]
            dropped.update((row.id, value) for row in surplus)
    kept = [row for row in rows if row.id not in dropped]
    changes = [Change(row.id, f"{name} '{dropped[row.id]}'", "") for row in rows if row.id in dropped]
    sentence = f"At most {most} pictures of one {name} were kept."
    return kept, StepReport(f"cap per {name}", sentence, len(rows), len(kept), changes)


def drop_uncaptioned(rows: Sequence[Sample]) -> tuple[list[Sample], StepReport]:
    """Drop rows that are left without any caption."""
    kept = [row for row in rows if row.captions]
    changes = [Change(row.id, "no text is left", "") for row in rows if not row.captions]
    return kept, StepReport(
        "uncaptioned", "Pictures without any usable text were dropped.", len(rows), len(kept), changes
    )


def _draw(seed: int, id: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{id}".encode(), digest_size=8).digest()
