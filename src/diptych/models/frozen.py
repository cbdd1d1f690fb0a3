"""Frozen: pictures become a few tokens of a language model that never changes (Tsimpoukelli et al. 2021).

    image ─ visual ─ pooled v ─ Linear ─ n vectors ─┐
                                                    ├─ [prefix | text] ─ lm (no weight changes) ─ loss on the text
    tokens ──────────────────── lm.embed ───────────┘

Gradients flow through the language model into the vision encoder.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from diptych.config import strict
from diptych.models import speaking
from diptych.models.dual_encoder import field_of, seeded
from diptych.objectives.language import next_token, next_token_chance
from diptych.processing import ImageConfig, ImageProcessor, Normalize, PairProcessor, TextProcessor
from diptych.towers import DecoderConfig, LanguageConfig, ResNetConfig, VisionConfig, build_language, build_vision
from diptych.towers.prompted import Prompted
from diptych.types import Batch, Losses


@strict
@dataclass(frozen=True)
class FrozenConfig:
    """The defaults are small.

    Attributes:
        lm: the language model.
        lm_tuning: "L" locked, as the paper; "U" tuned with the rest; "u" from scratch: the paper's controls.
        prefix: vectors that a picture becomes; the paper's n, 2.
    """

    vision: VisionConfig = field(default_factory=ResNetConfig)
    lm: LanguageConfig = field(default_factory=DecoderConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    lm_tuning: Literal["L", "U", "u"] = "L"
    prefix: int = 2


PRESETS: dict[str, FrozenConfig] = {
    "tiny": FrozenConfig(
        vision=ResNetConfig(depths=(1, 1, 1, 1), stem_width=32, block="basic"),
        lm=DecoderConfig(vocab_size=2048, context_length=96, width=192, layers=4, heads=3, positions="rotary"),
        image=ImageConfig(size=64),
        lm_tuning="u",
        prefix=4,
    ),
}


class Frozen(nn.Module):
    """Multimodal few-shot learning with a frozen language model (Tsimpoukelli et al. 2021, section 3)."""

    Config = FrozenConfig
    PRESETS = PRESETS
    VERSION = 1
    takes_several = True

    caption = speaking.caption
    answer = speaking.answer

    def __init__(self, config: FrozenConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.normalize = Normalize(config.image.mean, config.image.std)
        self.visual = build_vision(config.vision)
        self.lm = build_language(config.lm)
        self.to_prefix = nn.Linear(self.visual.width, config.prefix * self.lm.width)
        if config.lm_tuning == "L":
            self.lm.requires_grad_(False)

    @classmethod
    def new(cls, config: FrozenConfig, texts: Iterable[str] = (), *, seed: int = 0) -> "Frozen":
        """A model with fresh weights drawn from `seed` and a tokenizer learnt from `texts`."""
        assert isinstance(config.lm, DecoderConfig)
        words = TextProcessor.train(texts, config.lm.vocab_size, config.lm.context_length - config.prefix)
        config = dataclasses.replace(config, lm=dataclasses.replace(config.lm, vocab_size=words.vocab_size))
        with seeded(seed):
            return cls(config, PairProcessor(ImageProcessor(config.image), words))

    def prefix(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B P D"]:
        """What the language model sees of a picture."""
        pooled = self.visual(self.normalize(pixels)).pooled
        prefix: Tensor = self.to_prefix(pooled).view(len(pooled), self.config.prefix, self.lm.width)
        return prefix

    def forward(self, batch: Batch) -> Losses:
        tokens = field_of(batch, "tokens")
        prefix = self.prefix(field_of(batch, "pixels"))
        hidden = self.lm(torch.cat([prefix, self.lm.embed(tokens)], dim=1))[:, prefix.shape[1] :]
        loss = next_token(hidden, self.lm.head_weight(), tokens, speaking.targets(batch))
        return Losses(loss, {"loss/lm": loss.detach()}, {"loss/lm": next_token_chance(self.lm.vocab_size)})

    def read(self, pictures: Sequence[Sequence[speaking.Picture]], prompts: Sequence[Sequence[int]]) -> Prompted:
        """See `speaking`."""
        tokens, keep = speaking.padded(self, prompts)
        prefix = self.prefix(speaking.stack(self, [some[0] for some in pictures]))
        x = torch.cat([prefix, self.lm.embed(tokens)], dim=1)
        return Prompted(self.lm, x, torch.cat([keep.new_ones(prefix.shape[:2]), keep], dim=1))
