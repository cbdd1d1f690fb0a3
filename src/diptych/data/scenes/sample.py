"""A rendered scene as a `Sample`: the picture without loss, and of each thing its mask, box, depth and attributes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from diptych.data import masks
from diptych.data.scenes.describe import describe
from diptych.data.scenes.dials import Dials
from diptych.data.scenes.episodes import episode
from diptych.data.scenes.labels import Composite, sample_id
from diptych.data.scenes.pairs import pair
from diptych.data.scenes.render import Rendered, render_many
from diptych.data.scenes.robot import robot
from diptych.data.scenes.sampling import sample_scene
from diptych.data.scenes.world import Scene
from diptych.types import EncodedImage, InputError, Object, Region, Sample

LICENSE = "CC0-1.0"
MAKERS: dict[str, Callable[[Dials, int], Composite]] = {"pairs": pair, "episodes": episode, "robot": robot}
_SCENES = TypeAdapter(Scene)

DRAWN = frozenset(("images", "objects", "regions"))  # fields that need the picture
SAID = frozenset(("captions", "questions", "negatives", "regions", "relations", "scores"))


def samples_of(dials: Dials, indices: Sequence[int], fields: Collection[str]) -> list[Sample]:
    """The samples at `indices`. None depends on the others; what `fields` does not name may stay empty."""
    if dials.task != "scene":
        return [_made_of_several(dials, i, fields) for i in indices]
    samples = [Sample(id=sample_id(dials, i)) for i in indices]
    drawn, said = not DRAWN.isdisjoint(fields), not SAID.isdisjoint(fields)
    scenes = [sample_scene(dials, i) for i in indices] if drawn or said or "texts" in fields else []
    for sample in samples:
        sample.source, sample.license, sample.split = "scenes", LICENSE, dials.split
    if "texts" in fields:
        for sample, scene in zip(samples, scenes):
            sample.texts = {"scene": to_json(scene)}
    if drawn:
        for sample, scene, rendered in zip(samples, scenes, render_many(scenes, dials.size)):
            if "images" in fields:
                sample.images = [encode(rendered.image)]
            sample.objects = objects_of(scene, rendered)
    if said:
        for sample, scene, i in zip(samples, scenes, indices):
            told = describe(scene, dials, i)
            sample.captions, sample.questions, sample.negatives = told.captions, told.questions, told.negatives
            sample.relations = told.relations
            sample.regions = [_placed(region, sample.objects) for region in told.regions]
            if dials.noise:
                sample.scores = {"noisy": float(told.noisy)}
    return samples


def _made_of_several(dials: Dials, index: int, fields: Collection[str]) -> Sample:
    """A sample of another task: the pictures of its scenes, which stand as JSON in `texts["scenes"]`, and its texts."""
    made = MAKERS[dials.task](dials, index)
    sample = made.sample
    sample.source, sample.license, sample.split = "scenes", LICENSE, dials.split
    sample.texts["scenes"] = json.dumps([asdict(scene) for scene in made.scenes])
    if "images" in fields:
        sample.images = [encode(rendered.image) for rendered in render_many(made.scenes, dials.size)]
    return sample


def encode(image: np.ndarray[Any, Any]) -> EncodedImage:
    """The picture as lossless WebP, so that what is seen is exactly what was drawn."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, quality=0, method=0)  # the fastest; larger by 2 %
    return EncodedImage(buffer.getvalue())


def objects_of(scene: Scene, rendered: Rendered) -> list[Object]:
    """The scene's things, in its order, as they are seen. One of which no pixel is seen has no box and no depth."""
    count = len(scene.things)
    seen = rendered.ids >= 0
    depth = np.full(count, np.inf, np.float32)
    np.minimum.at(depth, rendered.ids[seen], rendered.depth[seen])
    objects = []
    for thing, mask, near in zip(scene.things, masks.encode_labels(rendered.ids, count), depth.tolist()):
        box, far = (None, None) if near == np.inf else (masks.box(mask), near)
        objects.append(Object(thing.shape, box, mask, [thing.size, thing.color, thing.material], depth=far))
    return objects


def to_json(scene: Scene) -> str:
    """The scene as JSON text, which `from_json` reads back."""
    return json.dumps(asdict(scene))


def from_json(text: str) -> Scene:
    """The scene of a sample's `texts["scene"]`. Raises `InputError` if it is not one."""
    try:
        return _SCENES.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise InputError(f"scene: {where}: {first['msg']}") from None


def _placed(region: Region, objects: list[Object]) -> Region:
    if region.object is not None and objects:
        region.box = objects[region.object].box
    return region
