"""Writing COCO: pictures as files, one JSON file of objects and one of captions for each split."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diptych.data import masks
from diptych.data.formats.boxes import Box
from diptych.data.formats.written import Names, Pictures, bytes_of, numbering
from diptych.images import BadImage, decode
from diptych.types import EncodedImage, InputError, Mask, Object, Sample

_UNSAFE = re.compile(r"[^\w\-.]+", re.ASCII)  # in the name of a split


def write(samples: Iterable[Sample], folder: Path) -> dict[str, int]:
    """Write `annotations/instances.json`, `captions.json` where there are captions, and `images/`.

    Returns what was left out: reason -> number of samples or objects.

    Samples of a split go to `instances_<split>.json` and `images/<split>/`. Ids of samples and objects are kept if all
    of them are different positive integers, and are counted from 1 otherwise; pictures are then named after their
    samples. Masks are compressed run-length text, `area` is that of the mask, or of the box where there is none. A name
    that is both thing and stuff becomes two categories, told by `isthing`.

    Deviation: an object's attributes stand in a field `attributes`, which COCO does not have and its readers ignore.
    Labels, tags, relations, questions and the other fields that COCO has no place for are not written.

    Raises:
        InputError: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: expected an empty or a new folder to write COCO into")
    parts: dict[str | None, _Part] = {}
    names = Names()
    left: Counter[str] = Counter()
    for sample in samples:
        if sample.split not in parts:
            name = names.free(_UNSAFE.sub("_", sample.split).strip(".")[:100] or "_") if sample.split else ""
            parts[sample.split] = _Part(Pictures(folder / "images" / name), name)
        try:
            parts[sample.split].add(sample, left)
        except BadImage as error:
            left[error.reason] += 1
    ordered = list(parts.values()) or [_Part(Pictures(folder / "images"), "")]
    images = [row for part in ordered for row in part.images]
    objects = [row for part in ordered for row in part.objects]
    new_image = numbering([row["id"] for row in images])
    new_object = numbering([row["id"] for row in objects])
    for row in images:
        row["id"] = new_image(row["id"])
    for row in objects:
        row["id"], row["image_id"] = new_object(row["id"]), row["image"]["id"]
        del row["image"]
    (folder / "annotations").mkdir(parents=True)
    for part in ordered:
        part.save(folder / "annotations")
    return dict(left)


class _Part:
    """What stands in the files of one split; `name` is its name in theirs."""

    def __init__(self, pictures: Pictures, name: str) -> None:
        self.pictures = pictures
        self.name = name
        self.images: list[dict[str, Any]] = []
        self.objects: list[dict[str, Any]] = []
        self.captions: list[tuple[dict[str, Any], str]] = []
        self.categories: dict[tuple[str, bool], int] = {}  # (name, is a thing) -> id
        self.licenses: dict[str, int] = {}

    def add(self, sample: Sample, left: Counter[str]) -> None:
        if len(sample.images) != 1:
            raise BadImage("not one picture", f"sample '{sample.id}' has {len(sample.images)}")
        picture = sample.images[0]
        data = bytes_of(picture)
        width, height = decode(data).size
        name = self.pictures.add(EncodedImage(data), sample.texts.get("file_name") or sample.id).rsplit("/", 1)[-1]
        image: dict[str, Any] = {"id": sample.id, "file_name": name, "height": height, "width": width}
        if sample.license:
            image["license"] = self.licenses.setdefault(sample.license, len(self.licenses) + 1)
        if sample.url:
            image["coco_url"] = sample.url
        if sample.texts.get("flickr_url"):
            image["flickr_url"] = sample.texts["flickr_url"]
        self.images.append(image)
        self.captions += [(image, caption) for caption in sample.captions]
        for thing in sample.objects:
            mask = thing.mask
            box = masks.box(mask) if thing.box is None and mask is not None else thing.box
            if box is None:
                left["object without box and mask"] += 1
            elif mask is not None and (mask.height, mask.width) != (height, width):
                left["mask of another size than its picture"] += 1
            else:
                self.objects.append(self._object(thing, box, mask, image))

    def _object(self, thing: Object, box: Box, mask: Mask | None, image: dict[str, Any]) -> dict[str, Any]:
        x0, y0, x1, y1 = box
        width, height = _length(x0, x1), _length(y0, y1)
        key = (thing.name, thing.kind != "stuff")
        return {
            "id": thing.id,
            "image": image,
            "category_id": self.categories.setdefault(key, len(self.categories) + 1),
            "bbox": [x0, y0, width, height],
            "area": width * height if mask is None else masks.area(mask),
            "segmentation": [] if mask is None else masks.to_coco(mask) | {"counts": mask.counts.decode()},
            "iscrowd": int(thing.kind == "crowd"),
            **({"attributes": thing.attributes} if thing.attributes else {}),
        }

    def save(self, folder: Path) -> None:
        suffix = f"_{self.name}" if self.name else ""
        categories = [
            {"id": id, "name": name, "supercategory": "", **({} if thing else {"isthing": 0})}
            for (name, thing), id in self.categories.items()
        ]
        licenses = [{"id": id, "name": name, "url": ""} for name, id in self.licenses.items()]
        common = {"info": {}, "licenses": licenses, "images": self.images}
        _dump(common | {"annotations": self.objects, "categories": categories}, folder / f"instances{suffix}.json")
        captions = [
            {"id": n, "image_id": image["id"], "caption": caption}
            for n, (image, caption) in enumerate(self.captions, 1)
        ]
        if captions:
            _dump(common | {"annotations": captions}, folder / f"captions{suffix}.json")


def _length(low: float, high: float) -> float:
    """`high - low`, in as few digits as give `high` back when `low` is added to it."""
    short = round(high - low, 6)
    return short if low + short == high else high - low


def _dump(content: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
