"""Reading pictures of the world back: what is drawn is read, badly kept pictures lose little, bad input is refused."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from diptych.data.scenes.agreement import Agreement, agreement
from diptych.data.scenes.dials import Dials
from diptych.data.scenes.parser import Seen, parse
from diptych.data.scenes.render import render
from diptych.data.scenes.sampling import sample_scene
from diptych.data.scenes.world import ATTRIBUTES, BACKGROUNDS, Scene, Thing
from diptych.types import InputError


def judged(style: str, size: int, count: int, quality: int | None = None) -> Agreement:
    total = Agreement()
    dials = Dials(n=100, seed=61, size=size, style=style)  # type: ignore[arg-type]
    for index in range(count):
        scene = sample_scene(dials, index)
        image = render(scene, size).image
        if quality:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=quality)
            image = np.asarray(Image.open(buffer))
        total += agreement(parse(image, style), scene, size)
    return total


@pytest.mark.parametrize(("style", "size", "count"), [("photo", 64, 3), ("flat", 64, 1), ("sketch", 64, 1)])
def test_true_pictures_are_read(style: str, size: int, count: int) -> None:
    total = judged(style, size, count)
    assert total.things >= 3 * count
    assert total.missed + total.invented <= 1
    for name, right in zip(ATTRIBUTES, total.right):
        assert right >= total.found - 1, name


def test_a_jpeg_of_low_quality_loses_little() -> None:
    total = judged("photo", 64, 1, quality=60)
    assert total.missed + total.invented <= 1
    assert total.accuracy("color") >= 0.9
    assert total.accuracy("shape") >= 0.8


@pytest.mark.parametrize("style", ["photo", "flat", "sketch"])
def test_nothing_is_seen_on_an_empty_ground(style: str) -> None:
    for index, background in enumerate(BACKGROUNDS[::2]):
        empty = replace(sample_scene(Dials(n=10, seed=62), index), things=(), background=background, style=style)
        assert parse(render(empty, 64).image, style) == [], background


def test_a_picture_of_nothing_ends_without_error() -> None:
    image = np.full((32, 32, 3), 255, np.uint8)
    for one in parse(image):
        x0, y0, x1, y1 = one.box
        assert 0 <= x0 < x1 <= 32
        assert 0 <= y0 < y1 <= 32
        assert 0 <= one.confidence <= 1


def test_a_large_picture_has_boxes_in_its_own_pixels() -> None:
    scene = Scene((Thing("sphere", "cyan", "metal", "large", 0.0, 0.0),), background="sand")
    drawn = render(scene, 256)
    (seen,) = parse(drawn.image)
    rows, columns = np.nonzero(drawn.ids == 0)
    assert np.abs(np.array(seen.box) - [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).max() <= 4


def test_the_box_and_the_place_are_those_of_the_thing() -> None:
    scene = Scene((Thing("cube", "red", "rubber", "large", 0.5, -0.5, 0.3),), background="wood")
    drawn = render(scene, 64)
    (seen,) = parse(drawn.image)
    rows, columns = np.nonzero(drawn.ids == 0)
    assert np.abs(np.array(seen.box) - [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).max() <= 1
    assert abs(seen.x - 0.5) < 0.1
    assert abs(seen.y + 0.5) < 0.1
    assert seen.confidence > 0.9


def test_agreement_counts_what_is_wrong() -> None:
    scene = Scene(
        (Thing("cube", "red", "rubber", "large", 0.0, 0.0), Thing("cone", "blue", "metal", "small", 2.0, 1.0))
    )
    box = (0.0, 0.0, 1.0, 1.0)
    right = Seen("cube", "red", "rubber", "large", 0.1, 0.0, box, 1.0)
    assert agreement([], scene, 64) == Agreement(2, 0, 0, (0, 0, 0, 0), 1, 0)
    assert agreement([], Scene(()), 64) == Agreement(0, 0, 0, (0, 0, 0, 0), 1, 1)
    wrong = Seen("cone", "green", "metal", "small", 2.0, 1.1, box, 1.0)
    far = Seen("cone", "blue", "metal", "small", -2.0, 1.0, box, 1.0)
    found = agreement([right, wrong, far], scene, 64)
    assert found == Agreement(2, 2, 1, (2, 1, 2, 2), 1, 0)
    assert found.accuracy("color") == 0.5
    assert agreement([right], Scene(scene.things[:1]), 64).perfect == 1
    both = found + agreement([right], Scene(scene.things[:1]), 64)
    assert (both.things, both.missed, both.invented, both.pictures, both.perfect) == (3, 0, 1, 2, 1)


def test_things_match_by_their_boxes_where_their_places_are_off() -> None:
    scene = Scene((Thing("cube", "red", "rubber", "large", 0.0, 0.0),))
    rows, columns = np.nonzero(render(scene, 64).ids == 0)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    there = Seen("cube", "red", "rubber", "large", 0.1, 1.2, tuple(float(v) for v in box), 1.0)  # type: ignore[arg-type]
    assert agreement([there], scene, 64).perfect == 1
    assert agreement([replace(there, box=(0.0, 0.0, 9.0, 9.0))], scene, 64).found == 0


def test_as_many_things_match_as_can() -> None:
    """The nearest pair first would leave the other two without a match."""
    scene = Scene(tuple(Thing("cube", "red", "rubber", "small", x, 0.0) for x in (0.0, 0.6)))
    box = (0.0, 0.0, 1.0, 1.0)
    seen = [Seen("cube", "red", "rubber", "small", x, 0.0, box, 1.0) for x in (-0.5, 0.2)]
    assert agreement(seen, scene, 64).found == 2


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((96, 96), np.uint8),
        np.zeros((96, 96, 3), np.float32),
        np.zeros((96, 64, 3), np.uint8),
        np.zeros((16, 16, 3), np.uint8),
    ],
)
def test_other_pictures_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="parse: expected"):
        parse(image)


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(InputError, match="no style 'oil'"):
        parse(np.zeros((96, 96, 3), np.uint8), "oil")
