"""`diptych data label`: a teacher labels what nobody has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from diptych.cli import terminal
from diptych.cli.options import Device, Json


def label(
    model: str,
    dataset: str,
    /,
    *,
    to: Path,
    what: Literal["answers", "captions", "classes"] = "answers",
    sure: float = 0.9,
    labels: str = "",
    replace: bool = False,
    batch_size: int = 64,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Let a model answer, caption or classify what nobody has, and keep what it is sure of as a new dataset.

    Known labels stay, and measure how often the model is right.

    Args:
        model: The teacher: a model folder, "pocket", hf:ORG/NAME or a chat endpoint.
        dataset: What to label; it is only read.
        to: The new dataset's folder.
        what: Answers to questions, captions of samples without one, or classes of samples without one.
        sure: Least confidence of what is kept.
        labels: The classes, separated by commas.
        replace: Take the teacher's labels in the place of known ones too.
        batch_size: Pictures at a time.
    """
    from diptych import labelling

    names = [name.strip() for name in labels.split(",") if name.strip()]
    with terminal.Working() as working:
        found = labelling.label(
            model,
            dataset,
            to.expanduser(),
            what,
            sure=sure,
            labels=names,
            replace=replace,
            batch_size=batch_size,
            device=device,
            progress=working.of("labelling"),
        )
    if json != terminal.STDOUT:
        samples = terminal.count(len(found.dataset), "sample")
        terminal.say(f"{to}: {samples}, {found.kept:,} of {found.asked:,} {what} kept")
        if found.precision is not None:
            value, low, high, n, _ = found.precision
            terminal.say(f"right where the truth is known: {value:.1%} ({low:.1%} to {high:.1%}) of {n:,}")
        if found.rejected:
            terminal.say(f"rejected: {terminal.reasons(Counter(one.reason for one in found.rejected))}")
    facts = found._asdict() | {"dataset": str(to), "rejected": len(found.rejected)}
    facts["precision"] = None if found.precision is None else found.precision._asdict()
    terminal.write_json(facts, json)
