"""Contrastive losses between matched rows of image and text embeddings: softmax (InfoNCE) and pairwise sigmoid.

Under several processes each one brings its own rows and sees the rows of all: its loss is the mean over **its** rows
against **all** columns. The mean over processes is then the loss of the whole batch, and the averaging of
`DistributedDataParallel` gives its exact gradient. In one process nothing is gathered.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diptych.distributed import first_row, gather_with_grad, world_size


def softmax_contrastive(
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    logit_scale: Float[Tensor, ""],
    *,
    label_smoothing: float = 0.0,
    extra_text: Float[Tensor, "M D"] | None = None,
) -> Float[Tensor, ""]:
    """The mean of image-to-text and text-to-image cross-entropy over s I T^t, labels on the diagonal (CLIP, figure 3).

    Args:
        image, text: matched rows, L2-normalised.
        logit_scale: s itself, not its logarithm.
        label_smoothing: mass in [0, 1) spread evenly over all columns (ALIGN).
        extra_text: texts without an image (hard negatives, NegCLIP); they are further columns of image-to-text only.

    Returns: a scalar in nats. A model that cannot tell the pairs apart has `softmax_chance`.
    """
    with _full_precision(image):
        image, text, scale = image.float(), text.float(), logit_scale.float()
        every_text = gather_with_grad(text)
        columns = every_text if extra_text is None else torch.cat([every_text, gather_with_grad(extra_text.float())])
        labels = first_row(len(image)) + torch.arange(len(image), device=image.device)
        image_logits = scale * image @ columns.t()  # (B, W B + W M)
        if world_size() == 1:
            text_logits = image_logits[:, : len(text)].t()  # the same product serves both directions
        else:
            text_logits = scale * text @ gather_with_grad(image).t()
        image_to_text = F.cross_entropy(image_logits, labels, label_smoothing=label_smoothing)
        text_to_image = F.cross_entropy(text_logits, labels, label_smoothing=label_smoothing)
    return (image_to_text + text_to_image) / 2


def softmax_chance(batch: int, extra: int = 0) -> float:
    """What `softmax_contrastive` gives when all logits are equal: ln(batch); `extra` counts columns of `extra_text`."""
    return (math.log(batch + extra) + math.log(batch)) / 2


def sigmoid_contrastive(
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """-1/B sum_ij log sigmoid(z_ij (s x_i . y_j + b)), z = 1 on the diagonal and -1 elsewhere (SigLIP, section 3.2).

    `image` and `text` are matched and L2-normalised; `logit_scale` is s itself (the paper starts it at 10) and
    `logit_bias` is b (the paper starts it at -10, near the prior of one match in a large batch). A scalar in nats.
    """
    with _full_precision(image):
        logits = logit_scale.float() * image.float() @ gather_with_grad(text.float()).t() + logit_bias.float()
        rows = torch.arange(len(image), device=image.device)
        signs = torch.full_like(logits, -1.0)
        signs[rows, first_row(len(image)) + rows] = 1.0
        return -F.logsigmoid(signs * logits).sum() / len(image)


def sigmoid_chance(batch: int) -> float:
    """The least `sigmoid_contrastive` without telling pairs apart: each is a match with probability 1/batch."""
    return math.log(batch) - (batch - 1) * math.log1p(-1 / batch) if batch > 1 else 0.0


def _full_precision(tensor: Tensor) -> torch.autocast:
    """Logits of up to 100 lose the difference between neighbours in bf16, so the loss leaves autocast."""
    return torch.autocast(tensor.device.type, enabled=False)
