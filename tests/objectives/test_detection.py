"""FCOS's targets and losses, by hand."""

import math

import pytest
import torch

from diptych.objectives.detection import assigned, centredness, focal, places, sides


def test_places_are_the_middles_of_cells() -> None:
    expected = torch.tensor([[0.25, 1 / 6], [0.75, 1 / 6], [0.25, 0.5], [0.75, 0.5], [0.25, 5 / 6], [0.75, 5 / 6]])
    torch.testing.assert_close(places(3, 2), expected)


def test_a_place_tells_of_the_smallest_box_around_it() -> None:
    boxes = torch.tensor(
        [
            [0.0, 0.0, 1.0, 1.0],  # the whole first picture
            [0.0, 0.0, 0.5, 0.5],  # and a part of it, smaller
            [0.5, 0.5, 1.0, 1.0],  # of the third
            [0.3, 0.3, 0.4, 0.4],  # of the third, around no middle
        ]
    )
    which = assigned(boxes, torch.tensor([0, 0, 2, 2]), 3, places(2, 2))
    assert which.tolist() == [[1, 0, 0, 0], [-1] * 4, [-1, -1, -1, 2]]
    assert assigned(boxes[:0], torch.zeros(0, dtype=torch.long), 2, places(2, 2)).tolist() == [[-1] * 4] * 2


def test_sides_and_centredness() -> None:
    box, at = torch.tensor([[0.0, 0.0, 4.0, 2.0]] * 3), torch.tensor([[2.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    found = sides(box, at)
    assert found.tolist() == [[2, 1, 2, 1], [1, 1, 3, 1], [0, 1, 4, 1]]
    torch.testing.assert_close(centredness(found), torch.tensor([1.0, math.sqrt(1 / 3), 0.0]))


def test_focal_loss() -> None:
    logits, wanted = torch.tensor([[0.0, 2.0]]), torch.tensor([[True, False]])
    p = 1 / (1 + math.exp(-2.0))
    by_hand = -0.25 * 0.5**2 * math.log(0.5) - 0.75 * p**2 * math.log(1 - p)
    assert focal(logits, wanted).item() == pytest.approx(by_hand, rel=1e-6)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted.float(), reduction="sum")
    assert focal(logits, wanted, alpha=0.5, gamma=0.0).item() == pytest.approx(plain.item() / 2)
