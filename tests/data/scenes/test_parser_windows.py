"""Windows of pictures: the same pixels as the whole picture has."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.data.scenes.dials import Dials
from diptych.data.scenes.render import render
from diptych.data.scenes.sampling import sample_scene
from diptych.data.scenes.windows import Stage
from diptych.data.scenes.world import Scene, Thing


@pytest.mark.parametrize("style", ["photo", "flat", "sketch"])
def test_a_window_shows_what_the_picture_shows(style: str) -> None:
    scene = sample_scene(Dials(n=10, seed=3, size=64, style=style), 4)  # type: ignore[arg-type]
    whole, stage = render(scene, 64), Stage(scene, 64)
    regions = [(slice(0, 64), slice(0, 64)), *(stage.region([thing]) for thing in scene.things)]
    for (picture, ids), region in zip(stage.draw([(scene.things, region) for region in regions]), regions):
        assert np.array_equal(ids, whole.ids[region])
        inner = (slice(1, -1), slice(1, -1))  # at a window's border edges are not smoothed
        apart = np.abs(picture[inner] - whole.image[region][inner])
        assert apart.max() <= 1  # sums are taken in another order
        assert (apart > 0).mean() < 0.001


def test_a_region_holds_the_things() -> None:
    things = (
        Thing("cube", "red", "rubber", "large", -1.0, 0.0, 0.7),
        Thing("cone", "blue", "metal", "small", 1.5, 1.0),
    )
    ids = render(Scene(things), 96).ids
    for i, thing in enumerate(things):
        rows, columns = Stage(Scene(things), 96).region([thing])
        inside = np.zeros(ids.shape, bool)
        inside[rows, columns] = True
        assert inside[ids == i].all()
        assert inside.mean() < 0.3


def test_a_window_beside_the_picture_is_empty() -> None:
    far = Thing("cube", "red", "rubber", "large", 40.0, 0.0)
    stage = Stage(Scene(()), 64)
    ((picture, ids),) = stage.draw([((far,), stage.region([far]))])
    assert picture.size == ids.size == 0 or (ids == -1).all()
