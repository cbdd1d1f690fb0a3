import numpy as np
import pytest
import torch

from diptych.blocks.boxes import area, generalised_iou, iou, pooled_inside, suppressed


def test_overlaps_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [5.0, 0.0, 6.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    assert torch.equal(area(b), torch.tensor([4.0, 1.0, 0.0]))
    # 1 shared of 4 + 4 - 1; nothing; nothing
    torch.testing.assert_close(iou(a, b), torch.tensor([[1 / 7, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    # hull 9, union 7; hull 6, union 2
    expected = torch.tensor([1 / 7 - 2 / 9, 0 - 4 / 6])
    torch.testing.assert_close(generalised_iou(a, b[:2]), expected)
    torch.testing.assert_close(generalised_iou(a, a), torch.ones(2))
    assert iou(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0


def test_of_many_boxes_the_best_are_looked_at() -> None:
    low = torch.arange(5000.0)[:, None].expand(-1, 2) * 2
    kept = suppressed(torch.cat([low, low + 1], dim=1), torch.linspace(0, 1, 5000))
    assert kept.tolist() == list(range(4999, 3999, -1))


def test_suppression_equals_the_definition() -> None:
    rng = np.random.default_rng(0)
    low = torch.tensor(rng.random((200, 2)), dtype=torch.float32)
    boxes = torch.cat([low, low + torch.tensor(rng.random((200, 2)) * 0.3 + 0.05, dtype=torch.float32)], dim=1)
    scores = torch.tensor(rng.random(200), dtype=torch.float32)
    kept = suppressed(boxes, scores, 0.4).tolist()
    overlaps = iou(boxes, boxes)
    expected: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(overlaps[i, j] <= 0.4 for j in expected):
            expected.append(i)
    assert kept == expected and 1 < len(kept) < 200
    assert suppressed(boxes, scores, 0.4, most=3).tolist() == expected[:3]
    assert suppressed(boxes[:0], scores[:0]).tolist() == []


def test_what_a_box_shows() -> None:
    y, x = torch.meshgrid(torch.arange(8.0) + 0.5, torch.arange(8.0) + 0.5, indexing="ij")
    map = torch.stack([x, y])[None] / 8  # each cell holds the place of its middle
    boxes = torch.tensor([[[0.25, 0.5, 0.75, 0.75], [0.2, 0.3, 0.4, 0.9]]])
    found = pooled_inside(map, boxes)
    middles = torch.tensor([[[0.5, 0.625], [0.3, 0.6]]])  # a map that is linear is shown as its value in the middle
    torch.testing.assert_close(found, middles)


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_a_box_shows_nothing_of_what_is_outside(samples: int) -> None:
    map = torch.zeros(1, 1, 8, 8)
    map[..., 6:] = 1
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.85, 0.0, 1.0, 1.0]]])
    assert pooled_inside(map, boxes, samples).flatten().tolist() == pytest.approx([0, 1], abs=1e-6)
