"""A run's settings: preset, then file, then command line, each strictly."""

import pytest

from diptych.models.clip import PRESETS
from diptych.recipes import recipe
from diptych.types import InputError


def test_first_preset_is_the_default():
    found = recipe("clip")
    assert found.model == PRESETS["tiny"]
    assert found.training.epochs == 10


def test_settings_then_overrides():
    found = recipe(
        "clip",
        preset="small",
        settings={"training": {"lr": 0.5, "steps": 7}, "model": {"vision": {"layers": 2}}, "loader": {"batch_size": 9}},
        overrides={"training.lr": "1e-2", "model.embed_dim": "64", "loader.split_by": "label"},
    )
    assert (found.training.lr, found.training.steps, found.training.epochs) == (0.01, 7, None)
    assert (found.model.embed_dim, found.model.vision.layers, found.model.vision.width) == (64, 2, 256)
    assert (found.loader.batch_size, found.loader.split_by) == (9, "label")


def test_another_kind_of_tower_replaces_the_old_one_whole():
    found = recipe("clip", settings={"model": {"vision": {"kind": "resnet", "depths": [1, 1, 1, 1]}}})
    assert found.model.vision.kind == "resnet"
    assert found.model.vision.depths == (1, 1, 1, 1)


def test_a_length_on_the_command_line_replaces_the_default_one():
    found = recipe("clip", overrides={"training.steps": "5"})
    assert (found.training.steps, found.training.epochs) == (5, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"family": "clop"}, "unknown family 'clop'.*did you mean 'clip'"),
        ({"family": "clip", "preset": "huge"}, "clip: unknown preset 'huge'; it has tiny, small"),
        ({"family": "clip", "settings": {"trainin": {}}}, "unknown section 'trainin' .did you mean 'training'"),
        ({"family": "clip", "settings": {"training": {"lrr": 1}}}, "config: training: unknown key 'lrr'"),
        ({"family": "clip", "overrides": {"model.visio.width": "3"}}, "unknown key 'visio.width'"),
        ({"family": "clip", "overrides": {"training.lr": "fast"}}, "training: lr: .*number"),
        ({"family": "clip", "overrides": {"data.batch_size": "3"}}, "unknown section 'data'"),
    ],
)
def test_mistakes_are_named(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        recipe(**arguments)
