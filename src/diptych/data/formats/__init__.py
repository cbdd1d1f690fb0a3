"""The public formats that raw data comes in, one a file. A new format is a new file and one line in `FORMATS`.

What readers share: `rows` (what they hand over, columns by name), `records` and `json_stream` (JSON, whole or
streamed), `places` and `annotated` (splits and where pictures lie), `boxes`, `dicom`. What writers share: `written`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from diptych.data.formats import (
    aro,
    chat,
    clevr,
    coco,
    coco_panoptic,
    conceptual_captions,
    flickr30k,
    gqa,
    image_folder,
    imagenet,
    karpathy,
    laion,
    nlvr2,
    parquet,
    redcaps,
    reports,
    sugarcrepe,
    table,
    textcaps,
    texts,
    textvqa,
    visual_genome,
    vizwiz,
    vqa,
    wds,
    winoground,
)
from diptych.data.formats.rows import Row, Rows
from diptych.types import InputError, Sample

__all__ = ["FORMATS", "Format", "Row", "Rows", "check_options", "recognise"]


class Format(NamedTuple):
    """How a kind of source is told, read, watched for changes, and written.

    The keyword-only parameters of `read` are the format's options: text, as in `coco:ROOT?split=val2017`. `listing` is
    called with the same options. `write` fills a folder and returns what it had to leave out: reason -> number.
    """

    recognise: Callable[[Path], bool]
    read: Callable[..., Rows]
    listing: Callable[..., Iterator[Path]]
    write: Callable[[Iterable[Sample], Path], Mapping[str, int] | None] | None = None


FORMATS: dict[str, Format] = {  # asked in this order: those that are told by more come first
    "wds": Format(wds.recognise, wds.read, wds.listing, wds.write),  # img2dataset puts tables beside its tars
    "coco": Format(coco.recognise, coco.read, coco.listing, coco.write),
    "coco-panoptic": Format(coco_panoptic.recognise, coco_panoptic.read, coco_panoptic.listing),
    "karpathy": Format(karpathy.recognise, karpathy.read, karpathy.listing),
    "visual-genome": Format(visual_genome.recognise, visual_genome.read, visual_genome.listing),
    "imagenet": Format(imagenet.recognise, imagenet.read, imagenet.listing),
    "flickr30k": Format(flickr30k.recognise, flickr30k.read, flickr30k.listing),
    "conceptual-captions": Format(conceptual_captions.recognise, conceptual_captions.read, conceptual_captions.listing),
    "redcaps": Format(redcaps.recognise, redcaps.read, redcaps.listing),
    "textcaps": Format(textcaps.recognise, textcaps.read, textcaps.listing),
    "laion": Format(laion.recognise, laion.read, laion.listing),
    "vqa": Format(vqa.recognise, vqa.read, vqa.listing, vqa.write),
    "textvqa": Format(textvqa.recognise, textvqa.read, textvqa.listing),
    "vizwiz": Format(vizwiz.recognise, vizwiz.read, vizwiz.listing),
    "clevr": Format(clevr.recognise, clevr.read, clevr.listing),
    "nlvr2": Format(nlvr2.recognise, nlvr2.read, nlvr2.listing),
    "gqa": Format(gqa.recognise, gqa.read, gqa.listing),
    "aro": Format(aro.recognise, aro.read, aro.listing),
    "winoground": Format(winoground.recognise, winoground.read, winoground.listing),
    "sugarcrepe": Format(sugarcrepe.recognise, sugarcrepe.read, sugarcrepe.listing),
    "chat": Format(chat.recognise, chat.read, chat.listing, chat.write),
    "reports": Format(reports.recognise, reports.read, reports.listing),
    "text": Format(texts.recognise, texts.read, texts.listing),
    "parquet": Format(parquet.recognise, parquet.read, parquet.listing, parquet.write),
    "table": Format(table.recognise, table.read, table.listing, table.write),
    "folder": Format(image_folder.recognise, image_folder.read, image_folder.listing, image_folder.write),
}


def recognise(path: Path) -> str:
    """The name of the format of `path`. Raises `InputError` when nothing there can be read."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    for name, format in FORMATS.items():
        if format.recognise(path):
            return name
    raise InputError(
        f"{path}: expected a folder of pictures, a CSV, TSV or JSON-lines table, Parquet, or one of the formats "
        f"{', '.join(FORMATS)}; found none"
    )


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Raise `InputError` for an option that the format does not have."""
    parameters = inspect.signature(FORMATS[name].read).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise InputError(f"{name}: no option '{option}'; it has {', '.join(known) or 'none'}")
