"""Parameter groups by regular expression, and the proof that frozen weights stay."""

import pytest
import torch
from torch import nn
from toy_training import Toy

from diptych.training.config import TrainConfig
from diptych.training.groups import (
    FrozenWeightsChanged,
    Group,
    adamw,
    arranged,
    assign,
    frozen_hashes,
    frozen_modules,
    set_rate,
    training_mode,
)
from diptych.types import InputError


def small() -> nn.Module:
    model = nn.Module()
    model.tower = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model.head = nn.Linear(4, 2)
    model.scale = nn.Parameter(torch.zeros(()))
    return model


def test_the_first_match_wins_and_the_rest_comes_last():
    groups = assign(small(), [("head.bias", 0.5), ("head", None), ("^tower", 0.1)], lr=0.01)
    assert [(g.pattern, g.lr, g.names, g.weights) for g in groups] == [
        ("head.bias", 0.5, ["head.bias"], 2),
        ("head", None, ["head.weight"], 8),
        ("^tower", 0.1, ["tower.0.weight", "tower.0.bias", "tower.1.weight", "tower.1.bias"], 24),
        ("all others", 0.01, ["scale"], 1),
    ]
    assert str(groups[1]) == "head: frozen, 1 tensor, 8 weights in head"
    assert str(groups[2]) == "^tower: lr 0.1, 4 tensors, 24 weights in tower"


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ([("visual", None)], r"'visual' selects no parameter .* names begin with head, scale, tower"),
        ([("head", None), ("head.bias", 0.1)], "'head.bias' selects no parameter that an earlier pattern"),
        ([("he(ad", None)], r"'he\(ad' is not a regular expression"),
        ([("", None)], "every parameter is frozen"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(patterns, message):
    with pytest.raises(InputError, match=message):
        assign(small(), patterns, lr=0.01)


def test_what_the_model_froze_stays_frozen():
    model = small()
    model.tower.requires_grad_(False)
    groups = assign(model, [("0.weight|head", 0.1)], lr=0.01)
    assert [(g.pattern, g.lr, len(g.names)) for g in groups] == [
        ("0.weight|head", 0.1, 2),
        ("all others", 0.01, 1),
        ("frozen by the model", None, 4),
    ]
    assert str(groups[2]) == "frozen by the model: 4 tensors, 24 weights in tower"
    assert str(Group("x", 0.1, [f"{part}.weight" for part in "abcdefg"], 9)).endswith("in a, b, c, d, e, f, ...")
    with pytest.raises(InputError, match="'tower' selects no parameter"):
        assign(model, [("tower", 0.1)], lr=0.01)
    assert [g.pattern for g in assign(model, [("tower", None)], lr=0.01)] == ["tower", "all others"]


def test_no_decay_below_two_dimensions_and_rates_scale_together():
    model = small()
    config = TrainConfig(steps=1, lr=0.01, weight_decay=0.3)
    optimizer = adamw(model, assign(model, [("tower", 0.1), ("head.bias", None)], config.lr), config)
    found = {
        (g["peak"], g["weight_decay"]): sorted(tuple(p.shape) for p in g["params"]) for g in optimizer.param_groups
    }
    assert found == {(0.1, 0.3): [(4, 3)], (0.1, 0.0): [(4,), (4,), (4,)], (0.01, 0.3): [(2, 4)], (0.01, 0.0): [()]}
    set_rate(optimizer, 0.5)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [0.005, 0.05]


def test_frozen_modules_are_in_evaluation_mode_and_guarded_with_their_buffers():
    model = small()
    with arranged(model, assign(model, [("tower", None)], 0.01)) as hashes:
        training_mode(model)
        assert [name for name, _ in frozen_modules(model)] == ["tower"]
        assert not model.tower[1].training
        assert not model.tower[2].training
        assert model.head.training
        model.tower(torch.randn(5, 3))
        assert set(hashes) == {f"tower.{n}" for n in model.tower.state_dict()}
        assert frozen_hashes(model) == hashes
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["tower.0.weight", "tower.1.running_mean"])
def test_a_frozen_tensor_that_moves_is_an_error_that_names_it(name):
    model = small()
    with (
        pytest.raises(FrozenWeightsChanged, match=rf"1 frozen tensors changed in training: {name}"),
        arranged(model, assign(model, [("tower", None)], 0.01)),
    ):
        value = model.state_dict()[name]
        value.view(-1)[0] = torch.nextafter(value.view(-1)[0], torch.tensor(9.0))  # the last bit
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_partly_frozen_module_keeps_training():
    model = Toy()
    with arranged(model, assign(model, [("image.0", None)], 0.01)):
        training_mode(model)
        assert model.image.training
        assert not model.image[0].training
        assert model.image[2].training
