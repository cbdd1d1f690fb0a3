"""Masked modelling: which words, patches or regions are hidden, what stands in their place, what guessing them costs.

Random choices come from `generator`, or from torch's global one where it is None; they are made on the CPU, so that
they are the same on every device.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

RATE = 0.15  # of the words (Devlin et al. 2019, section 3.1)


def hidden_words(
    starts: Bool[Tensor, "B T"],
    maskable: Bool[Tensor, "B T"],
    rate: float = RATE,
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "B T"]:
    """Which tokens are to be guessed: each word with probability `rate`, whole, and at least one word of a text.

    Args:
        starts: True at tokens that begin a word; a token that does not goes with the one before it. All True: single
            tokens instead of whole words.
        maskable: True at tokens that may be hidden: no padding, no special token, nothing that is only read.
        rate: in (0, 1].

    Deviation: words are drawn one by one; BERT's code shuffles them and takes the first 15 %.
    """
    word = (starts | ~maskable).cumsum(dim=1) - 1  # what cannot be hidden is a word by itself
    word = word.clamp(min=0)
    draws = torch.rand(word.shape, generator=generator).to(word.device)
    of_token = draws.gather(1, word).masked_fill(~maskable, 2.0)  # 2: never
    smallest = of_token.min(dim=1, keepdim=True).values
    return ((of_token < rate) | (of_token == smallest)) & maskable


def with_masks(
    tokens: Int[Tensor, "B T"],
    hidden: Bool[Tensor, "B T"],
    mask_id: int,
    vocab_size: int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "B T"]:
    """The tokens as the model sees them: of the hidden ones 80 % are `mask_id`, 10 % a random token, 10 % as they were.

    (Devlin et al. 2019, section 3.1)
    """
    draws = torch.rand(tokens.shape, generator=generator).to(tokens.device)
    others = torch.randint(vocab_size, tokens.shape, generator=generator).to(tokens.device)
    seen = tokens.masked_fill(hidden & (draws < 0.8), mask_id)
    return torch.where(hidden & (draws >= 0.8) & (draws < 0.9), others, seen)


def hidden_patches(
    count: int, height: int, width: int, rate: float, generator: torch.Generator | None = None
) -> Bool[Tensor, "count P"]:
    """Which patches of `count` grids are to be guessed: exactly round(rate P) of each, in rectangles.

    Rectangles of 16 patches (or a fifth of the grid, if that is less) up to what is missing, of aspect ratios between
    0.3 and 1 / 0.3, are laid down until there are enough; the last is cut (Bao et al. 2022, BEiT, algorithm 1).
    """
    wanted = round(rate * height * width)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    smallest = min(16, max(1, height * width // 5))
    for mask in masks:
        while (missing := wanted - int(mask.sum())) > 0:
            area, shape, row, column = torch.rand(4, generator=generator).tolist()
            area = smallest + area * max(0, missing - smallest)
            aspect = 0.3 ** (1 - 2 * shape)
            h = min(height, max(1, round((area * aspect) ** 0.5)))
            w = min(width, max(1, round((area / aspect) ** 0.5)))
            top, left = int(row * (height - h + 1)), int(column * (width - w + 1))
            new = torch.zeros_like(mask)
            new[top : top + h, left : left + w] = True
            places = (new & ~mask).flatten().nonzero().flatten()[:missing]
            mask.view(-1)[places] = True
    return masks.flatten(1)


def hidden_regions(
    there: Bool[Tensor, "N P"], rate: float = RATE, generator: torch.Generator | None = None
) -> Bool[Tensor, "N P"]:
    """Which regions are to be guessed, each with probability `rate` (Lu et al. 2019, ViLBERT, section 2.2)."""
    return (torch.rand(there.shape, generator=generator).to(there.device) < rate) & there


def region_kl(logits: Float[Tensor, "N K"], detector: Float[Tensor, "N K"]) -> Float[Tensor, ""]:
    """Mean KL(detector's class distribution || softmax(logits)) of hidden regions, in nats; 0 without any.

    (Lu et al. 2019, ViLBERT, section 2.2: "minimize the KL divergence between the two distributions")
    """
    if not len(logits):
        return logits.sum()
    return F.kl_div(logits.float().log_softmax(dim=1), detector.float(), reduction="batchmean")


def patch_pixels(pixels: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B P D"]:
    """Each patch's pixels as one row, (row, column, channel) in order, patches row by row; D = size * size * C.

    A rest of the picture that fills no patch is left out.
    """
    count, channels, height, width = pixels.shape
    h, w = height // size, width // size
    cells = pixels[:, :, : h * size, : w * size].reshape(count, channels, h, size, w, size)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(count, h * w, size * size * channels)


def masked_pixels(
    predicted: Float[Tensor, "N D"], patches: Float[Tensor, "N D"], *, normalized: bool = True
) -> Float[Tensor, ""]:
    """Mean squared error over the pixels of hidden patches; 0 without any (He et al. 2022, MAE, section 3).

    Args:
        normalized: each patch is first brought to mean 0 and standard deviation 1, so that guessing its mean costs 1.
    """
    if not len(patches):
        return predicted.sum()
    wanted = patches.float()
    if normalized:
        wanted = (wanted - wanted.mean(dim=1, keepdim=True)) / (wanted.var(dim=1, keepdim=True) + 1e-6).sqrt()
    return F.mse_loss(predicted.float(), wanted)
