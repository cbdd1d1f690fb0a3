"""What the dual encoders share: rows of one space, the learned temperature, and the loss that it belongs to."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diptych.distributed import all_sum
from diptych.objectives.contrastive import sigmoid_chance, sigmoid_contrastive, softmax_chance, softmax_contrastive
from diptych.processing import TextProcessor
from diptych.towers import TextConfig, TextTransformerConfig
from diptych.types import Batch, InputError, Losses

# exp(t) at the start, and its bound: Radford et al. 2021 (CLIP), section 2.5; Zhai et al. 2023 (SigLIP), section 3.2
INITIAL_SCALE = {"softmax": 1 / 0.07, "sigmoid": 10.0}
INITIAL_BIAS = -10.0
SCALE_LIMIT = 100.0


def unit_rows(x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
    """Rows of length 1 in float32, whatever precision the tower computed in."""
    return F.normalize(x.float(), dim=-1)


def field_of(batch: Batch, name: str) -> Any:
    """A tensor of the batch. Raises `InputError` where the batch was made without it."""
    value = getattr(batch, name)
    if value is None:
        raise InputError(f"batch: {name}: expected a tensor, got None")
    return value


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Fresh weights inside are drawn from `seed`; the caller's random state is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def projection(width: int, embed_dim: int) -> nn.Linear:
    """The bias-free linear map into the shared space, drawn as in CLIP's code: std = width^-1/2."""
    linear = nn.Linear(width, embed_dim, bias=False)
    nn.init.normal_(linear.weight, std=width**-0.5)
    return linear


def learn_tokenizer(config: TextConfig, captions: Iterable[str]) -> tuple[TextTransformerConfig, TextProcessor]:
    """A tokenizer for a text tower from scratch, and the tower's config with the vocabulary that came out."""
    if not isinstance(config, TextTransformerConfig):
        raise InputError("text.kind: expected 'transformer', because a tower from scratch learns its own tokenizer")
    words = TextProcessor.train(captions, config.vocab_size, config.context_length)
    return dataclasses.replace(config, vocab_size=words.vocab_size, eos_id=words.eos_id), words


class ContrastiveHead(nn.Module):
    """Holds t, the logarithm of the logit scale (and the sigmoid loss's bias), and gives the loss of a whole batch.

    For the softmax loss exp(t) is bounded by 100 (Radford et al. 2021, section 2.5). The bound is applied where t is
    used; in training t itself is also set back to it, because a t beyond the bound would get no gradient and stay
    there. The sigmoid loss has no bound, as in its paper.
    """

    logit_bias: nn.Parameter | None

    def __init__(self, objective: Literal["softmax", "sigmoid"], label_smoothing: float = 0.0) -> None:
        super().__init__()
        if objective == "sigmoid" and label_smoothing:
            raise InputError("label_smoothing: expected 0 with the sigmoid objective")
        self.kind = objective
        self.label_smoothing = label_smoothing
        self.logit_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE[objective])))
        self.logit_bias = nn.Parameter(torch.tensor(INITIAL_BIAS)) if objective == "sigmoid" else None

    def scale(self) -> Float[Tensor, ""]:
        """exp(t), bounded where the objective has a bound."""
        t = self.logit_scale
        return t.exp() if self.kind == "sigmoid" else t.clamp(max=math.log(SCALE_LIMIT)).exp()

    def forward(self, image: Float[Tensor, "B D"], text: Float[Tensor, "B D"]) -> Losses:
        """The loss of matched unit rows, against the rows of all processes. The part is named "loss/itc"."""
        batch = int(all_sum(torch.tensor(len(image))))
        if self.logit_bias is not None:
            scale = self.scale()
            loss = sigmoid_contrastive(image, text, scale, self.logit_bias)
            chance = sigmoid_chance(batch)
            stats: dict[str, Tensor | float] = {"logit_scale": scale.detach(), "logit_bias": self.logit_bias.detach()}
        else:
            if self.training:
                with torch.no_grad():
                    self.logit_scale.clamp_(max=math.log(SCALE_LIMIT))
            scale = self.scale()
            loss = softmax_contrastive(image, text, scale, label_smoothing=self.label_smoothing)
            chance = softmax_chance(batch)
            at_clamp = (self.logit_scale.detach() >= math.log(SCALE_LIMIT) - 1e-6).float()
            stats = {"logit_scale": scale.detach(), "logit_scale_at_clamp": at_clamp}
        said = {"image": image, "text": text, "scale": scale}
        return Losses(loss, {"loss/itc": loss.detach()}, {"loss/itc": chance}, stats, outputs=said)
