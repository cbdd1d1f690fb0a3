import math

import pytest
import torch

from diptych.objectives.autoencoding import EDGE, inside, logit_laplace, outside, uniform_kl


def test_pixels_go_inside_and_back() -> None:
    pixels = torch.linspace(0, 1, 11)
    there = inside(pixels)
    assert there.min().item() == pytest.approx(EDGE) and there.max().item() == pytest.approx(1 - EDGE)
    torch.testing.assert_close(outside(there), pixels)


def test_logit_laplace_is_a_density() -> None:
    """Its integral over (0, 1) is 1, and its value is that of the formula."""
    x = torch.linspace(0, 1, 20_002, dtype=torch.float64)[1:-1].float()
    mean, log_scale = torch.tensor(0.4), torch.tensor(-0.3)
    densities = torch.stack(
        [(-logit_laplace(*(v.view(1, 1, 1, 1) for v in (mean, log_scale, one)))).exp() for one in x[::20]]
    )
    assert (densities.mean()).item() == pytest.approx(1, abs=0.01)
    at = 0.7
    b = math.exp(-0.3)
    by_hand = math.exp(-abs(math.log(at / (1 - at)) - 0.4) / b) / (2 * b * at * (1 - at))
    found = logit_laplace(*(v.view(1, 1, 1, 1) for v in (mean, log_scale, torch.tensor(at))))
    assert math.exp(-found.item()) == pytest.approx(by_hand, rel=1e-5)


def test_kl_to_uniform_by_hand() -> None:
    assert uniform_kl(torch.zeros(2, 5, 3, 3)).item() == pytest.approx(0, abs=1e-6)
    sure = torch.zeros(1, 4, 1, 1)
    sure[0, 2] = 50
    assert uniform_kl(sure).item() == pytest.approx(math.log(4), abs=1e-5)
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    expected = 0.75 * math.log(0.75) + 0.25 * math.log(0.25) + math.log(2)
    assert uniform_kl(logits).item() == pytest.approx(expected, abs=1e-6)
