"""How a model runs when it is used."""

import torch
from torch import nn

from diptych.tasks.running import computing, ready


def test_a_locked_model_is_as_before_and_its_weights_are_cast_once() -> None:
    """Autocast keeps a cast only of weights that want gradients; a locked language model has none."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8).requires_grad_(False)).train()
    casts = {}
    for name in ("ready", "not"):
        if name == "not":
            model.requires_grad_(False)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            if name == "ready":
                with ready(model, "cpu") as device, computing(device, "bf16"):
                    assert not model.training
                    outputs = [model(torch.ones(1, 8, dtype=torch.bfloat16)) for _ in range(6)]
                    assert not outputs[0].requires_grad
            else:
                with computing(torch.device("cpu"), "bf16"):
                    outputs = [model(torch.ones(1, 8, dtype=torch.bfloat16)) for _ in range(6)]
        casts[name] = sum(event.count for event in profile.key_averages() if event.key == "aten::_to_copy")
        if name == "ready":
            assert model.training
            assert [parameter.requires_grad for parameter in model.parameters()] == [True, True, False, False]
    assert casts == {"ready": 4, "not": 24}
