"""The finest level of a pyramid: its size, and that it is told what the coarser ones see."""

import torch

from diptych.blocks.pyramid import Pyramid
from diptych.blocks.resnet import ResNet


def made() -> Pyramid:
    torch.manual_seed(0)
    return Pyramid(ResNet((1, 1, 1), stem_width=8, block="basic"), 16).eval()


@torch.no_grad()
def test_it_is_as_fine_as_the_first_stage_whatever_the_size() -> None:
    pyramid = made()
    for height, width in ((64, 64), (72, 104), (33, 50)):
        map = pyramid(torch.randn(2, 3, height, width))
        assert map.shape == (2, 16, (height + 3) // 4, (width + 3) // 4)


@torch.no_grad()
def test_every_level_is_added() -> None:
    pyramid = made()
    pixels = torch.randn(1, 3, 64, 64)
    whole = pyramid(pixels)
    for lateral in pyramid.laterals:
        weight = lateral.weight.clone()
        lateral.weight.zero_()
        assert not torch.allclose(pyramid(pixels), whole)
        lateral.weight.copy_(weight)
    maps = pyramid.trunk.maps(pixels)
    assert [map.shape[2] for map in maps] == [16, 8, 4] and [map.shape[1] for map in maps] == pyramid.trunk.widths
    by_hand = pyramid.laterals[2](maps[2]).repeat_interleave(2, 2).repeat_interleave(2, 3) + pyramid.laterals[1](
        maps[1]
    )
    by_hand = by_hand.repeat_interleave(2, 2).repeat_interleave(2, 3) + pyramid.laterals[0](maps[0])
    torch.testing.assert_close(whole, pyramid.smooth(by_hand))
