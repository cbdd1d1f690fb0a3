"""Masks against tables drawn by hand."""

import torch

from diptych.blocks import masks


def table(text: str) -> torch.Tensor:
    return torch.tensor([[cell == "1" for cell in row.split()] for row in text.strip().splitlines()])


def test_causal() -> None:
    assert torch.equal(masks.causal(3)[0, 0], table("1 0 0\n1 1 0\n1 1 1"))


def test_padding_is_a_row_of_keys() -> None:
    keep = table("1 1 0\n1 0 0")
    assert masks.padding(keep).shape == (2, 1, 1, 3)
    assert torch.equal(masks.padding(keep)[:, 0, 0], keep)


def test_prefix_sees_itself_and_the_rest_is_causal() -> None:
    mask = masks.prefix(torch.tensor([0, 2, 4]), 4)
    assert torch.equal(mask[0], masks.causal(4)[0])
    assert torch.equal(mask[1, 0], table("1 1 0 0\n1 1 0 0\n1 1 1 0\n1 1 1 1"))
    assert mask[2].all()


def test_masks_join() -> None:
    joined = masks.causal(3) & masks.padding(table("1 1 1\n0 1 1"))
    assert torch.equal(joined[1, 0], table("0 0 0\n0 1 0\n0 1 1"))
