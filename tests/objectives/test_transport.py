import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from diptych.objectives.transport import cosine_cost, ipot, word_patch_alignment


def _exact(cost: np.ndarray) -> float:
    """The cheapest plan with even margins, by linear programming."""
    n, m = cost.shape
    rows = [np.repeat(np.eye(n)[i], m) for i in range(n)]
    columns = [np.tile(np.eye(m)[j], n) for j in range(m)]
    found = linprog(cost.ravel(), A_eq=np.stack(rows + columns), b_eq=[1 / n] * n + [1 / m] * m)
    return float(found.fun)


def test_the_plan_has_even_margins_and_goes_towards_the_cheapest() -> None:
    cost = torch.rand(1, 4, 6, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 6, dtype=torch.bool)
    plan = ipot(cost, rows, columns, iterations=3000)
    assert torch.allclose(plan.sum(dim=2), torch.full((1, 4), 1 / 4), atol=1e-5)
    assert torch.allclose(plan.sum(dim=1), torch.full((1, 6), 1 / 6), atol=1e-5)
    assert (plan * cost).sum().item() == pytest.approx(_exact(cost[0].numpy()), abs=2e-4)
    soon = (ipot(cost, rows, columns) * cost).sum().item()  # the paper's 50 iterations
    assert _exact(cost[0].numpy()) <= soon + 1e-6 < _exact(cost[0].numpy()) + 0.1


def test_padding_takes_no_part() -> None:
    cost = torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(1))
    rows, columns = torch.tensor([[True, True, False]]), torch.tensor([[True, False, True, True]])
    plan = ipot(cost, rows, columns)
    alone = ipot(cost[:, :2][:, :, [0, 2, 3]], rows[:, :2], columns[:, [0, 2, 3]])
    assert torch.allclose(plan[:, :2][:, :, [0, 2, 3]], alone, atol=1e-6)
    assert plan[:, 2].abs().sum() == 0 and plan[:, :, 1].abs().sum() == 0
    assert ipot(cost, torch.zeros_like(rows), columns).abs().sum() == 0


def test_cosine_cost_by_hand() -> None:
    x = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    y = torch.tensor([[[3.0, 0.0], [-1.0, 0.0]]])
    assert torch.allclose(cosine_cost(x, y), torch.tensor([[[0.0, 2.0], [1.0, 1.0]]]))


def test_pairs_that_fit_are_drawn_together_and_others_apart() -> None:
    words = torch.eye(2).repeat(2, 1, 1).requires_grad_()
    patches = torch.eye(2).repeat(2, 1, 1)
    all_real = torch.ones(2, 2, dtype=torch.bool)
    # each word lies on a patch of its own: the way is free
    aligned = word_patch_alignment(words, patches, all_real, all_real, torch.tensor([True, True]))
    assert aligned.item() == pytest.approx(0, abs=1e-3)
    # the second pair's patches are the words' opposites: cost 2 on one's own, 1 on the other's; it does not fit
    apart = word_patch_alignment(
        words, torch.stack([patches[0], -patches[1]]), all_real, all_real, torch.tensor([True, False])
    )
    assert apart.item() == pytest.approx(-1 / 2, abs=1e-2)
    apart.backward()
    assert words.grad is not None and words.grad[1].abs().sum() > 0
