"""Self-critical sequence training: a text that was drawn is worth what it is better than the text written greedily."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def self_critical(
    log_probs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    rewards: Float[Tensor, "B"],
    baselines: Float[Tensor, "B"],
) -> Float[Tensor, ""]:
    """-(r(sample) - r(greedy)) ln p(sample), the mean over samples (Rennie et al. 2017, equation 8).

    Its gradient is that of the expected reward, negative; its value says nothing.

    Args:
        log_probs: of each token that was drawn, given those before it; with gradient.
        mask: True at drawn tokens, the end token included.
        rewards: of each text that was drawn.
        baselines: of the texts written greedily for the same rows; no gradient passes through rewards.
    """
    advantages = (rewards - baselines).detach().to(log_probs.dtype)
    return -(advantages * torch.where(mask, log_probs, 0).sum(dim=1)).mean()
