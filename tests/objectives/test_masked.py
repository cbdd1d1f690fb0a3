import math

import pytest
import torch

from diptych.objectives.masked import (
    hidden_patches,
    hidden_words,
    masked_pixels,
    patch_pixels,
    region_kl,
    with_masks,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _flags(text: str) -> torch.Tensor:
    return torch.tensor([[int(one) for one in row] for row in text.split()], dtype=torch.bool)


def test_words_are_hidden_whole_and_nothing_else_is() -> None:
    # <bos> re ##d cube <eos> <pad>, and a text of one word
    starts, maskable = _flags("110110 110000"), _flags("011100 010000")
    seen = set()
    for seed in range(200):
        hidden = hidden_words(starts, maskable, 0.3, _generator(seed))
        assert not (hidden & ~maskable).any()
        assert hidden.any(dim=1).all()  # every text has something to guess
        assert hidden[0, 1] == hidden[0, 2]
        seen.add(tuple(hidden[0].tolist()))
    assert seen == {
        (False, True, True, False, False, False),
        (False, False, False, True, False, False),
        (False, True, True, True, False, False),
    }


def test_words_are_hidden_at_the_rate() -> None:
    starts = torch.ones(1000, 40, dtype=torch.bool)
    hidden = hidden_words(starts, starts, 0.15, _generator())
    assert hidden.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert hidden_words(starts, starts, 1.0, _generator()).all()


def test_a_text_with_nothing_to_hide_hides_nothing() -> None:
    none = torch.zeros(2, 3, dtype=torch.bool)
    assert not hidden_words(torch.ones(2, 3, dtype=torch.bool), none, 0.5, _generator()).any()


def test_eight_of_ten_hidden_tokens_are_masks_one_is_another_one_stays() -> None:
    tokens = torch.full((100, 500), 7)
    hidden = torch.rand(tokens.shape, generator=_generator(1)) < 0.5
    seen = with_masks(tokens, hidden, 3, 1000, _generator())
    assert (seen[~hidden] == 7).all()
    assert (seen[hidden] == 3).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (seen[hidden] == 7).float().mean().item() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.75, 1.0])
def test_so_many_patches_are_hidden(rate: float) -> None:
    hidden = hidden_patches(20, 8, 6, rate, _generator())
    assert hidden.shape == (20, 48)
    assert (hidden.sum(dim=1) == round(rate * 48)).all()


def test_hidden_patches_lie_together() -> None:
    maps = hidden_patches(50, 14, 14, 0.4, _generator()).view(50, 14, 14)
    neighbours = (maps[:, :, 1:] == maps[:, :, :-1]).float().mean().item()
    assert neighbours > 0.8  # of patches hidden one by one: 0.4^2 + 0.6^2 = 0.52


def test_region_kl_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    detector = torch.tensor([[0.75, 0.25], [0.75, 0.25]])
    # the first: 0.75 ln(0.75 / 0.5) + 0.25 ln(0.25 / 0.5); the second agrees
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert region_kl(logits, detector).item() == pytest.approx(first / 2, abs=1e-6)
    assert region_kl(logits[:0], detector[:0]).item() == 0


def test_patches_are_rows_of_pixels() -> None:
    pixels = torch.arange(2 * 3 * 4 * 6).float().view(2, 3, 4, 6)
    rows = patch_pixels(pixels, 2)
    assert rows.shape == (2, 6, 12)
    corner = pixels[0, :, 2:4, 4:6]  # the last patch: rows 2 and 3, columns 4 and 5
    assert torch.equal(rows[0, 5], corner.permute(1, 2, 0).flatten())
    assert torch.equal(patch_pixels(pixels[:, :, :, :5], 2), rows[:, [0, 1, 3, 4]])


def test_the_mean_of_a_patch_costs_one() -> None:
    patches = torch.rand(5, 300, generator=_generator())
    nothing = torch.zeros_like(patches)
    assert masked_pixels(nothing, patches).item() == pytest.approx(1, abs=0.01)
    own = (patches - patches.mean(dim=1, keepdim=True)) / (patches.var(dim=1, keepdim=True) + 1e-6).sqrt()
    assert masked_pixels(own, patches).item() == pytest.approx(0, abs=1e-6)
    assert masked_pixels(nothing, patches, normalized=False).item() == pytest.approx((patches**2).mean().item())
    assert masked_pixels(nothing[:0], patches[:0]).item() == 0
