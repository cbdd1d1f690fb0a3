"""Reading pictures of the world back: what is drawn is read, badly kept pictures lose little, bad input is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from diptych.data.scenes.dials import Dials
from diptych.data.scenes.parser import Agreement, Seen, agreement, parse
from diptych.data.scenes.render import render
from diptych.data.scenes.sampling import sample_scene
from diptych.data.scenes.world import ATTRIBUTES, Scene, Thing
from diptych.types import InputError

DIALS = Dials(n=100, seed=61)


def judged(count: int, quality: int | None = None) -> Agreement:
    total = Agreement()
    for index in range(count):
        scene = sample_scene(DIALS, index)
        image = render(scene, DIALS.size).image
        if quality:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=quality)
            image = np.asarray(Image.open(buffer))
        total += agreement(parse(image), scene)
    return total


def test_true_pictures_are_read() -> None:
    total = judged(5)
    assert total.things > 18
    assert total.missed + total.invented <= 1
    assert all(total.accuracy(name) >= 0.96 for name in ATTRIBUTES)


def test_a_jpeg_of_low_quality_loses_little() -> None:
    total = judged(1, quality=60)
    assert total.missed + total.invented <= 1
    assert total.accuracy("color") >= 0.9
    assert total.accuracy("shape") >= 0.8


def test_nothing_is_seen_on_an_empty_ground() -> None:
    for background in ("plain", "stone"):
        assert parse(render(Scene((), background=background), 96).image) == []


def test_the_box_and_the_place_are_those_of_the_thing() -> None:
    scene = Scene((Thing("cube", "red", "rubber", "large", 0.5, -0.5, 0.3),), background="wood")
    drawn = render(scene, 96)
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
    assert agreement([], scene) == Agreement(2, 0, 0, (0, 0, 0, 0), 1, 0)
    wrong = Seen("cone", "green", "metal", "small", 2.0, 1.1, box, 1.0)
    far = Seen("cone", "blue", "metal", "small", -2.0, 1.0, box, 1.0)
    found = agreement([right, wrong, far], scene)
    assert found == Agreement(2, 2, 1, (2, 1, 2, 2), 1, 0)
    assert found.accuracy("color") == 0.5
    assert agreement([right], Scene(scene.things[:1])).perfect == 1
    both = found + agreement([right], Scene(scene.things[:1]))
    assert (both.things, both.missed, both.invented, both.pictures, both.perfect) == (3, 0, 1, 2, 1)


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
