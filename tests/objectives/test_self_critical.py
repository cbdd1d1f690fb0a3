"""The self-critical loss: by hand, and its gradient against that of the expected reward."""

import pytest
import torch

from diptych.objectives.self_critical import self_critical


def test_by_hand():
    log_probs = torch.tensor([[-1.0, -2.0, -9.0], [-0.5, -0.5, -0.5]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    # (3 - 1) * -3 and (0 - 1) * -1.5, negated and averaged
    loss = self_critical(log_probs, mask, torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert float(loss) == pytest.approx((6.0 - 1.5) / 2)


def test_padding_may_be_anything():
    log_probs = torch.tensor([[-1.0, float("-inf")]])
    loss = self_critical(log_probs, torch.tensor([[True, False]]), torch.ones(1), torch.zeros(1))
    assert float(loss) == 1.0


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_its_mean_gradient_is_that_of_the_expected_reward(baseline):
    logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64, requires_grad=True)
    rewards = torch.tensor([1.0, 4.0, -2.0], dtype=torch.float64)
    log_probs = logits.log_softmax(0)
    expected = torch.autograd.grad((log_probs.exp() * rewards).sum(), logits, retain_graph=True)[0]
    mean = torch.zeros(3, dtype=torch.float64)
    for word, chance in enumerate(log_probs.detach().exp()):  # every text that can be drawn, as often as it is
        mask = torch.ones(1, 1, dtype=torch.bool)
        rate = torch.full((1,), baseline, dtype=torch.float64)
        loss = self_critical(log_probs[word].view(1, 1), mask, rewards[word].view(1), rate)
        mean += chance * torch.autograd.grad(loss, logits, retain_graph=True)[0]
    assert torch.allclose(-mean, expected)
