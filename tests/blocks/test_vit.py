"""Patches and positions."""

import torch

from diptych.blocks.vit import PatchEmbedding, fit_positions


def test_a_patch_is_a_linear_map_of_its_own_pixels() -> None:
    torch.manual_seed(0)
    patches, pixels = PatchEmbedding(4, 8), torch.randn(1, 3, 8, 12)
    map = patches(pixels)
    assert map.shape == (1, 8, 2, 3)
    weight = patches.projection.weight.flatten(1)
    by_hand = weight @ pixels[0, :, 4:8, 8:12].flatten() + patches.projection.bias
    torch.testing.assert_close(map[0, :, 1, 2], by_hand)


def test_positions_stay_where_the_grid_is_the_learned_one() -> None:
    positions = torch.randn(17, 8)
    assert fit_positions(positions, 4, 4, leading=1) is positions


def test_positions_follow_a_ramp_to_another_grid() -> None:
    """What grows from top to bottom still does after interpolation, and columns stay alike."""
    ramp = torch.arange(4.0).repeat_interleave(4)[:, None]
    fitted = fit_positions(torch.cat([torch.full((1, 1), 9.0), ramp]), 8, 2, leading=1)
    assert fitted.shape == (17, 1)
    assert fitted[0] == 9
    grid = fitted[1:].view(8, 2)
    torch.testing.assert_close(grid[:, 0], grid[:, 1])
    assert (grid[:, 0].diff() > 0).all()
    torch.testing.assert_close(grid.mean(), ramp.mean())
