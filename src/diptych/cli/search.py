"""`diptych search`: the pictures of a folder, a dataset or an index that fit a text or look like a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from diptych.capabilities import ExplainsSimilarity
from diptych.cli import terminal
from diptych.cli.options import Device, Json, ModelName
from diptych.types import InputError

if TYPE_CHECKING:
    from diptych.search import Hit


def search(
    folder: str,
    /,
    *query: str,
    image: Path | None = None,
    k: Annotated[int, Parameter(name=["-k"])] = 10,
    model: ModelName = "pocket",
    html: Path | None = None,
    png: Path | None = None,
    open_: Annotated[bool, Parameter(name="--open")] = False,
    explain: bool = False,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Find the pictures that fit a text, or that look like a picture.

    A folder is indexed on first use, and after that only what is new, changed or gone.

    Args:
        folder: Any folder of pictures; also a dataset, or an index made by `diptych index`.
        query: The text to search for.
        image: Search for pictures like this one instead of a text.
        k: How many to show.
        html: Write a contact sheet of the hits as a page.
        png: Write a contact sheet of the hits as a picture.
        open_: Show the contact sheet in the browser.
        explain: Say which known pairs are behind the best hit, for models that can (pocket).
    """
    from diptych import api

    text = " ".join(query)
    if bool(text) == (image is not None):
        raise InputError("search: expected either a text or --image")
    asked = text if image is None else image.expanduser()
    with terminal.Working() as working:
        loaded = api.load(model, working)
        if explain and not isinstance(loaded, ExplainsSimilarity):
            raise InputError(f"--explain: {model} cannot say why; expected a model such as pocket")
        hits, pictures, about = _search(folder, asked, loaded, k, device, working)
    terminal.note(about)
    because = _because(loaded, asked, hits, pictures, device) if explain else []
    found = [
        {"rank": rank, "id": hit.id, "score": hit.score, "path": hit.id, **hit.fields}
        for rank, hit in enumerate(hits, 1)
    ]
    terminal.write_json({"hits": found, "because": because} if explain else found, json)
    if json != terminal.STDOUT:
        _show(hits, because)
    _write_sheets(hits, asked, pictures, f"{model}: {about}", html, png, open_)


def _search(
    address: str, asked: Any, model: Any, k: int, device: str, working: terminal.Working
) -> tuple[list[Hit], dict[str, Any] | None, str]:
    """The hits, their pictures by id where they are not files (None: they are), and what was searched."""
    from diptych import api
    from diptych.data import image_source, is_address
    from diptych.paths import cache_dir
    from diptych.search import FolderIndex, VectorIndex
    from diptych.search.build import model_fingerprint

    path = Path(address).expanduser()
    if VectorIndex.exists(path):
        index = VectorIndex.open(path)
        if index.meta.get("model") != model_fingerprint(model):
            raise InputError(f"{address}: this index was made by another model; name that one with --model")
        hits = _ask(index, asked, model, k, device)
        files = all(Path(hit.id).is_file() for hit in hits)
        return hits, None if files else {}, f"{terminal.count(len(index), 'picture')} in {address}"
    if is_address(address):
        dataset = api.open_dataset(address)
        at = cache_dir() / "indexes" / f"{dataset.fingerprint()}-{model_fingerprint(model)}"
        built = api.build_index(model, dataset, at, device=device, progress=working.of("indexing"))
        hits = [] if built.index is None else _ask(built.index, asked, model, k, device)
        row = {id: i for i, id in enumerate(dataset.ids)}
        samples = dataset.take([row[hit.id] for hit in hits], fields=("images",))
        about = f"{terminal.count(len(dataset) - len(built.rejected), 'picture')} in {dataset.name}"
        return hits, {sample.id: image_source(sample) for sample in samples}, about
    folder = FolderIndex(path, model)
    new = folder.refresh(device=device, progress=working.of("indexing"))
    if not len(folder):
        raise InputError(f"{address}: expected a folder with pictures, found none that can be read")
    news = {"new": new.added, "changed": new.changed, "gone": new.removed}
    changes = [f"{number:,} {what}" for what, number in news.items() if number]
    if new.rejected:
        changes.append(f"left out: {terminal.reasons(new.rejected)}")
    about = f"{terminal.count(len(folder), 'picture')} in {address}" + (f" ({', '.join(changes)})" if changes else "")
    return folder.search(asked, k, device=device), None, about


def _ask(index: Any, asked: Any, model: Any, k: int, device: str) -> list[Hit]:
    from diptych import api

    return api.retrieve(model, [asked], index, k, device=device)[0]


def _because(model: Any, asked: Any, hits: list[Hit], pictures: dict[str, Any] | None, device: str) -> list[Any]:
    """The known pairs behind the best hit, with what each adds to its score."""
    import torch

    from diptych import api
    from diptych.tasks.retrieve import embed_queries

    if not hits:
        return []
    best = hits[0]
    source = Path(str(best.fields.get("path", best.id))) if pictures is None else pictures.get(best.id)
    if source is None:
        raise InputError(f"--explain: {best.id}: its picture is not at hand; search the dataset and not an index of it")
    image = api.embed_images(model, [source], device=device)[0]
    query = embed_queries(model, [asked], device=device)[0]
    pairs = model.explain(torch.from_numpy(image), torch.from_numpy(query))
    return [{"pair": name, "adds": value} for name, value in pairs]


def _show(hits: list[Hit], because: list[Any]) -> None:
    for rank, hit in enumerate(hits, 1):
        name, caption = hit.fields.get("path", hit.id), hit.fields.get("caption", "")
        terminal.say(f"{rank:>3}  {hit.score:.3f}  {name}  {caption}".rstrip())
    if because:
        terminal.say(f"\nBehind {hits[0].score:.3f} of the first hit, among others:")
        for entry in because:
            terminal.say(f"     {entry['adds']:.3f}  {entry['pair']}")


def _write_sheets(
    hits: list[Hit],
    asked: Any,
    pictures: dict[str, Any] | None,
    about: str,
    html: Path | None,
    png: Path | None,
    open_: bool,
) -> None:
    from diptych.paths import cache_dir
    from diptych.search import write_sheet

    if open_ and html is None and png is None:
        html = cache_dir() / "search.html"
    for to in (html, png):
        if to is not None:
            write_sheet(hits, asked, to.expanduser(), pictures=pictures, note=about)
            terminal.note(f"wrote {to}")
    if open_:
        terminal.browse(html or png or Path())
