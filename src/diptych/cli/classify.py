"""`diptych classify`: the class of each picture among names, without training."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from cyclopts import Parameter

from diptych.cli import terminal
from diptych.cli.options import Device, Json, ModelName, names_of, pictures
from diptych.types import InputError


def classify(
    model: ModelName,
    /,
    *images: str,
    labels: list[str],
    template: Annotated[list[str] | None, Parameter(name="--template")] = None,
    batch_size: int = 64,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Name the class of each picture, among classes that you name.

    Args:
        images: A folder, pictures, or a dataset.
        labels: The classes, separated by commas; may be given several times.
        template: A sentence with {} for the class, e.g. "an X-ray of a {}"; several are averaged.
        batch_size: Pictures that the model sees at once.
    """
    from diptych import api, tasks

    classes = [name.strip() for part in labels for name in part.split(",") if name.strip()]
    if len(classes) < 2:
        raise InputError(f"--labels: expected at least two classes separated by commas, got {', '.join(labels)!r}")
    with terminal.Working() as working:
        chosen = pictures(images, working.of("importing"))
        loaded = api.load(model, working)
        found = tasks.classify_readable_images(
            loaded, chosen, classes, template, batch_size=batch_size, device=device, progress=working.of("classifying")
        )
    names = names_of(chosen)
    rows = [(names[place], answer) for place, answer in zip(found.kept, found.answers)]
    if json != terminal.STDOUT:
        width = max(map(len, classes))
        for name, answer in rows:
            terminal.say(f"{answer.probability:6.1%}  {answer.label:<{width}}  {name}")
    for row in found.rejected:
        terminal.note(f"left out: {row.id}: {row.reason}", "yellow")
    if len(rows) > 1:
        counts = Counter(answer.label for _, answer in rows).most_common()
        terminal.note(", ".join(f"{number:,} {label}" for label, number in counts))
    terminal.write_json([{"id": name, **answer._asdict()} for name, answer in rows], json)
