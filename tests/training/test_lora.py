"""Adapters of low rank: nothing at the start, only they train, the weights they made in the end."""

import pytest
import torch
from torch import nn

import diptych
from diptych import fitting
from diptych.models.simvlm import SimVLM
from diptych.recipes import recipe
from diptych.training.lora import Adapters
from diptych.types import InputError


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


def test_the_start_is_the_model_itself_and_the_update_is_of_low_rank():
    model, x = small(), torch.randn(3, 6)
    before, weight = model(x), model[0].weight.clone()
    adapters = Adapters(model, 2, "^0$")
    assert adapters.names == ["0"]
    assert torch.equal(model(x), before)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == ["0.parametrizations.weight.0.a", "0.parametrizations.weight.0.b"]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    for _ in range(3):
        model(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    adapter = model[0].parametrizations.weight[0]
    after = model(x)
    torch.testing.assert_close(model[0].weight, weight + 2.0 * adapter.b @ adapter.a)
    average = adapters.merged({"0.parametrizations.weight.0.a": adapter.a, "0.parametrizations.weight.0.b": adapter.b})
    adapters.merge()
    assert average.keys() == {"0.weight"}
    torch.testing.assert_close(average["0.weight"], model[0].weight.detach())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert {name for name, _ in model.named_parameters()} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    torch.testing.assert_close(model(x), after)
    assert torch.linalg.matrix_rank(model[0].weight - weight) == 2


def test_what_does_not_fit_is_told():
    wrong = [(0, "0", "rank of 1"), (2, "nothing", "lora_on: .* matches nothing"), (2, "(", "not a regular expression")]
    for rank, pattern, message in wrong:
        with pytest.raises(InputError, match=message):
            Adapters(small(), rank, pattern)
    with pytest.raises(InputError, match="lora_also: .* matches nothing"):
        Adapters(small(), 2, "0", also="heads")


def test_heads_train_as_they_are_and_locked_parts_get_none():
    model = nn.ModuleDict({"locked": small(), "open": small(), "head": nn.Linear(4, 2)})
    model["locked"].requires_grad_(False)
    adapters = Adapters(model, 1, "0$|head", also="^head")
    assert adapters.names == ["open.0"]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    made = {f"open.0.parametrizations.weight.0.{one}" for one in "ab"}
    assert trained == made | {"head.weight", "head.bias"}
    adapters.merge()
    assert {name.partition(".")[0] for name, one in model.named_parameters() if one.requires_grad} == {"open", "head"}


def test_a_run_trains_little_and_is_saved_whole(tmp_path):
    world = diptych.open_dataset("scenes:?n=16&size=32&objects=1")
    settings = {"loader": {"batch_size": 8, "held_out": 0.0}, "training": {"steps": 2}}
    model = {"model": {"image": {"size": 32}}}
    start = fitting.train(recipe("simvlm", settings=settings | model), world, tmp_path / "start", show="silent")
    settings["training"] = {"steps": 4, "lora": 2, "lr": 1e-2, "ema": 0.5}
    with pytest.raises(InputError, match=r"lora: expected a model that has learnt something"):
        fitting.train(recipe("simvlm", settings=settings | model), world, tmp_path / "fresh", show="silent")
    tuned = recipe("simvlm", start=tmp_path / "start", settings=settings)
    done = fitting.train(tuned, world, tmp_path / "tuned", show="silent")
    assert isinstance(done.model, SimVLM)
    assert done.run.ema.keys() <= done.model.state_dict().keys()
    again = diptych.load(tmp_path / "tuned")
    before, after = start.model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.endswith("_proj.weight") for name in changed)
    for name in changed:
        assert torch.linalg.matrix_rank((after[name] - before[name]).float(), rtol=1e-3) <= 2
