"""`diptych index`: pictures into a vector index of one's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from diptych.cli import terminal
from diptych.cli.options import Device, Json, ModelName, pictures


def index(
    model: ModelName, /, *images: str, to: Path, batch_size: int = 64, device: Device = "auto", json: Json = None
) -> None:
    """Put the vectors of pictures into an index, to search with `diptych search INDEX`.

    A run that was interrupted goes on where it last saved. `diptych search` indexes folders by itself; an index of your
    own can lie anywhere and be read by other programs.

    Args:
        images: A folder, pictures, or a dataset, whose labels, creators and captions are kept with the vectors.
        to: The index's folder.
        batch_size: Pictures that the model sees at once.
    """
    from diptych import api

    with terminal.Working() as working:
        chosen = pictures(images, working.of("importing"))
        loaded = api.load(model, working)
        progress = working.of("indexing")
        built = api.build_index(
            loaded, chosen, to.expanduser(), batch_size=batch_size, device=device, progress=progress
        )
    rejected = dict(Counter(row.reason for row in built.rejected))
    if json != terminal.STDOUT:
        earlier = f", {built.present:,} were there" if built.present else ""
        terminal.say(f"{to}: {terminal.count(built.added, 'picture')} added{earlier}")
        if rejected:
            terminal.say(f"left out: {terminal.reasons(rejected)}")
    terminal.write_json({"index": str(to), "added": built.added, "present": built.present, "rejected": rejected}, json)
