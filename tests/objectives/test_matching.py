import math

import pytest
import torch

from diptych.objectives.matching import CHANCE, hard_negatives, matching, replaced, same_rows


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_matching_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    # p(fits) = 1/2 and 3/4
    expected = -(math.log(0.5) + math.log(0.25)) / 2
    assert matching(logits, torch.tensor([True, False])).item() == pytest.approx(expected, abs=1e-6)
    assert matching(torch.zeros(4, 2), torch.tensor([True, False, False, True])).item() == pytest.approx(CHANCE)
    assert matching(torch.zeros(0, 2), torch.zeros(0, dtype=torch.bool)).item() == 0


def test_half_of_the_rows_get_another_picture_and_none_that_fits() -> None:
    tokens = torch.tensor([[1, 2], [1, 2], [3, 0], [4, 5]])
    same = same_rows(tokens)
    assert same.tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]
    drawn = torch.stack([replaced(same, 0.5, _generator(seed)) for seed in range(2000)])
    own = torch.arange(4)
    assert (drawn == own).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert set(drawn[:, 0].tolist()) == {0, 2, 3}  # never row 1, which reads the same
    assert set(drawn[:, 3].tolist()) == {0, 1, 2, 3}
    assert torch.equal(replaced(torch.ones(3, 3, dtype=torch.bool), 1.0, _generator()), torch.arange(3))


def test_the_more_alike_the_likelier_as_a_negative() -> None:
    similarity = torch.tensor([[9.0, math.log(3), 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
    fits = torch.eye(3, dtype=torch.bool)
    fits[2] = True
    drawn = [hard_negatives(similarity, fits, _generator(seed)) for seed in range(2000)]
    first = torch.stack([columns[0] for columns, _ in drawn])
    assert set(first.tolist()) == {1, 2}
    assert (first == 1).float().mean().item() == pytest.approx(0.75, abs=0.03)  # 3 to 1
    assert all(there.tolist() == [True, True, False] for _, there in drawn)
