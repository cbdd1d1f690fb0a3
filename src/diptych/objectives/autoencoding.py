"""Losses of a discrete autoencoder: how well a picture comes back, and how far its codes are from evenly used."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

EDGE = 0.1  # pixels in [0, 1] are drawn into [EDGE, 1 - EDGE], so that their logits are finite


def inside(pixels: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Pixels in [0, 1] to [EDGE, 1 - EDGE] (Ramesh et al. 2021, appendix A.3)."""
    return (1 - 2 * EDGE) * pixels + EDGE


def outside(pixels: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """The way back from `inside`, cut to [0, 1]."""
    return ((pixels - EDGE) / (1 - 2 * EDGE)).clamp(0, 1)


def logit_laplace(
    mean: Float[Tensor, "B C H W"], log_scale: Float[Tensor, "B C H W"], pixels: Float[Tensor, "B C H W"]
) -> Float[Tensor, ""]:
    """Mean over channels and pixels of -ln p(x), x = `inside` pixels whose logits have a Laplace distribution.

    ln p = -ln(2 b x (1 - x)) - |logit(x) - mean| / b (Ramesh et al. 2021, equation 2). May be negative: a density.
    """
    with torch.autocast(mean.device.type, enabled=False):
        x, mean, log_scale = pixels.float(), mean.float(), log_scale.float()
        distance = (torch.logit(x) - mean).abs() / log_scale.exp()
        return (math.log(2) + log_scale + (x * (1 - x)).log() + distance).mean()


def uniform_kl(logits: Float[Tensor, "B K H W"]) -> Float[Tensor, ""]:
    """Mean over cells of KL(softmax(logits) || uniform) in nats, in [0, ln K]."""
    with torch.autocast(logits.device.type, enabled=False):
        logs = logits.float().log_softmax(dim=1)
        return (logs.exp() * logs).sum(dim=1).mean() + math.log(logits.shape[1])
