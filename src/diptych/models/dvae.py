"""A discrete autoencoder: a picture becomes codes, one for each 8 x 8 pixels, and codes become a picture.

    pixels ─ encoder ─ logits of codes ─ Gumbel-softmax ─ decoder ─ mean, scale ─ -ln p(pixels)
                             └ KL to even use of all codes

Its encoder is the codebook that FLAVA guesses hidden patches in, and with its decoder what DALL-E draws with.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from diptych.blocks.dall_e import CodeDecoder, CodeEncoder
from diptych.config import strict
from diptych.models.dual_encoder import field_of, seeded
from diptych.objectives.autoencoding import inside, logit_laplace, outside, uniform_kl
from diptych.processing import ImageConfig, ImageProcessor
from diptych.processing.processor import PictureProcessor
from diptych.types import Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class CodebookConfig:
    """The encoder of a discrete autoencoder; the defaults are DALL-E's."""

    codes: int = 8192
    width: int = 256
    depth: int = 2


@strict
@dataclass(frozen=True)
class DVAEConfig:
    """The defaults are the paper's (Ramesh et al. 2021, appendix A.2 and A.3).

    Attributes:
        codebook: size of the encoder, and of the decoder that mirrors it.
        kl: weight of the divergence from even use of all codes.
        coldest: the last temperature of the Gumbel-softmax; the first is 1.
        cooling: batches until it is reached, along half a cosine.
        image: sides are multiples of 8; pixels are not normalised.
    """

    codebook: CodebookConfig = CodebookConfig()
    kl: float = 6.6
    coldest: float = 1 / 16
    cooling: int = 150_000
    image: ImageConfig = field(default_factory=lambda: ImageConfig(size=256, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))

    def __post_init__(self) -> None:
        if self.image.size % 8:
            raise InputError(f"DVAEConfig: image.size: expected a multiple of 8, got {self.image.size}")
        if not 0 < self.coldest <= 1:
            raise InputError(f"DVAEConfig: coldest: expected a temperature in (0, 1], got {self.coldest}")


PRESETS: dict[str, DVAEConfig] = {
    # ours, for minutes on two cores
    "tiny": DVAEConfig(
        codebook=CodebookConfig(codes=256, width=24, depth=1),
        kl=0.01,
        cooling=1500,
        image=ImageConfig(size=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    ),
    "dall-e": DVAEConfig(),
}


class DVAE(nn.Module):
    """The first stage of DALL-E (Ramesh et al. 2021, section 2.1).

    Deviation: the weight of the divergence is for means over cells and pixels; it is not raised in the course of
    training.
    """

    Config = DVAEConfig
    Processor = PictureProcessor
    PRESETS = PRESETS
    VERSION = 1
    SIDES = "images"

    batches: Tensor

    def __init__(self, config: DVAEConfig, processor: PictureProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = cast(PictureProcessor, processor)
        self.encoder = CodeEncoder(**dataclasses.asdict(config.codebook))
        self.decoder = CodeDecoder(**dataclasses.asdict(config.codebook))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))  # seen in training

    @classmethod
    def new(cls, config: DVAEConfig, texts: Iterable[str] = (), *, seed: int = 0) -> "DVAE":
        """Fresh weights drawn from `seed`; texts are not needed."""
        with seeded(seed):
            return cls(config, PictureProcessor(ImageProcessor(config.image)))

    def temperature(self) -> float:
        """Of the Gumbel-softmax: from 1 to `coldest` along half a cosine."""
        done = min(1.0, self.batches.item() / max(1, self.config.cooling))
        return self.config.coldest + (1 - self.config.coldest) * (1 + math.cos(math.pi * done)) / 2

    def codes(self, pixels: Shaped[Tensor, "N C H W"]) -> Int[Tensor, "N H2 W2"]:
        """The likeliest code of each 8 x 8 pixels."""
        numbers: Tensor = self.encoder(self._shown(pixels)).argmax(dim=1)
        return numbers

    def pictures(self, codes: Int[Tensor, "N H W"]) -> Float[Tensor, "N C H2 W2"]:
        """Pixels in [0, 1] of codes."""
        weights = F.one_hot(codes, self.config.codebook.codes).permute(0, 3, 1, 2)
        mean = self.decoder(weights.to(self.decoder.input.weight.dtype))[:, :3]
        return outside(mean.float().sigmoid())

    def forward(self, batch: Batch) -> Losses:
        shown = self._shown(field_of(batch, "pixels"))
        logits = self.encoder(shown)
        temperature = self.temperature()
        if self.training:
            self.batches += 1
        drawn = F.gumbel_softmax(logits.float(), tau=temperature, dim=1)
        mean, log_scale = self.decoder(drawn.to(logits.dtype)).chunk(2, dim=1)
        likelihood, divergence = logit_laplace(mean, log_scale, shown), uniform_kl(logits)
        used = logits.detach().argmax(dim=1).unique().numel()
        error = (outside(mean.detach().float().sigmoid()) - outside(shown)).square().mean()
        return Losses(
            likelihood + self.config.kl * divergence,
            {"loss/pixels": likelihood.detach(), "loss/kl": divergence.detach()},
            stats={"temperature": temperature, "codes_used": float(used), "squared_error": error},
        )

    @staticmethod
    def _shown(pixels: Shaped[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        return inside(pixels.float() / 255 if not pixels.is_floating_point() else pixels)
