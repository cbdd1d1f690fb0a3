"""`diptych caption`: a sentence about each picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from diptych.cli import terminal
from diptych.cli.options import Device, Json, ModelName, names_of, pictures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diptych.types import Reply

SHOWN = 500  # pictures on a page


def caption(
    model: ModelName,
    /,
    *images: str,
    html: Path | None = None,
    open_: Annotated[bool, Parameter(name="--open")] = False,
    beams: int = 1,
    batch_size: int = 16,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Say in a sentence what each picture shows.

    Each line is how sure the model is (the geometric mean of its words' probabilities; nothing where it does not tell),
    the picture, and the sentence.

    Args:
        images: A folder, pictures, or a dataset.
        html: Write the pictures with their captions as a page.
        open_: Show the page in the browser.
        beams: Texts of each picture that are followed at a time; more take longer and find likelier captions.
        batch_size: Pictures that the model sees at once.
    """
    from diptych import api
    from diptych.data.sheet import check_suffix
    from diptych.paths import cache_dir
    from diptych.tasks.running import usage_of

    page = html or (cache_dir() / "captions.html" if open_ else None)
    if page is not None:
        check_suffix(page)
    with terminal.Working() as working:
        chosen = pictures(images, working.of("importing"))
        loaded = api.load(model, working)
        found = api.caption(
            loaded,
            chosen,
            beams=beams,
            batch_size=batch_size,
            device=device,
            progress=working.of("writing captions"),
        )
    names = names_of(chosen)
    if json != terminal.STDOUT:
        width = max((len(names[place]) for place in found.kept), default=0)
        for place, reply in zip(found.kept, found.replies):
            terminal.say(f"{sure(reply):>6}  {names[place]:<{width}}  {reply.text}")
    for row in found.rejected:
        terminal.note(f"left out: {row.id}: {row.reason}", "yellow")
    if usage_of(loaded):
        terminal.note(usage_of(loaded))
    told = zip(found.kept, found.replies)
    rows = [{"id": names[place], "caption": reply.text, "confidence": reply.confidence} for place, reply in told]
    terminal.write_json(rows, json)
    if page is not None:
        write_sheet(chosen, found.kept, found.replies, names, page.expanduser(), model)
        terminal.note(f"wrote {page}")
    if open_ and page is not None:
        terminal.browse(page)


def sure(reply: Reply) -> str:
    """How sure a model is of a reply: "82 %"; "" where it does not tell."""
    return "" if reply.confidence is None else f"{100 * reply.confidence:.0f} %"


def write_sheet(
    images: Any, kept: Sequence[int], replies: Sequence[Reply], names: Sequence[str], to: Path, model: str
) -> None:
    """The page: pictures beside their captions."""
    from diptych.data.sheet import Picture, thumbnail, write_pictures
    from diptych.images import BadImage
    from diptych.types import EncodedImage

    drawn = []
    for place, reply in list(zip(kept, replies))[:SHOWN]:
        here = images[place]
        image = here.images[0] if hasattr(here, "images") else EncodedImage(path=str(here))
        note = " · ".join(part for part in (Path(names[place]).name, sure(reply)) if part)
        try:
            drawn.append(Picture(thumbnail(image, names[place]), reply.text, note))
        except BadImage as error:  # it has gone since
            drawn.append(Picture(None, reply.text, str(error)))
    told = [reply.confidence for reply in replies if reply.confidence is not None]
    facts = {"captions": f"{len(replies):,}", "distinct": f"{len({reply.text for reply in replies}):,}"}
    if told:
        facts["sure in the mean"] = f"{100 * sum(told) / len(told):.0f} %"
    lead = f"Written by {model}." + (f" The first {SHOWN:,} are shown." if len(replies) > SHOWN else "")
    write_pictures(drawn, to, "Captions", facts, lead=lead)
