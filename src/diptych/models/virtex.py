"""VirTex: a vision network learns from captions, written forwards and backwards (Desai and Johnson 2021).

    image ─ visual ─ grid ─ visual_projection ─┬─ cross-attention ─ forward decoder ── CE: <bos> a red cube <eos>
                                               └─ cross-attention ─ backward decoder ─ CE: <eos> cube red a <bos>

Both decoders share the visual projection and one embedding, which is the output matrix too. What one wants of it is
`visual`, for other tasks (`towers.load_vision` reads it); captions come from the forward decoder.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych.config import strict
from diptych.models import speaking
from diptych.models.dual_encoder import field_of, seeded, unit_rows
from diptych.objectives.language import next_token, next_token_chance
from diptych.processing import ImageConfig, ImageProcessor, Normalize, PairProcessor, TextProcessor
from diptych.processing.image import IMAGENET_MEAN, IMAGENET_STD
from diptych.towers import DecoderConfig, ResNetConfig, VisionConfig, build_vision
from diptych.towers.decoder import cross_decoder
from diptych.towers.prompted import Projected, Prompted
from diptych.types import Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class VirTexConfig:
    """The defaults are the paper's base model: ResNet-50 and one layer of width 1024 (section 3).

    Attributes:
        decoder: of each direction.
        backward: whether there is a backward decoder; without it the model is the paper's "forward captioning".
        flip: whether `loader.augment` also mirrors half of the pictures and swaps "left" and "right" in their captions.
    """

    vision: VisionConfig = field(default_factory=ResNetConfig)
    decoder: DecoderConfig = DecoderConfig(
        vocab_size=10000, context_length=30, width=1024, layers=1, heads=16, activation="gelu", norm="post", dropout=0.1
    )
    image: ImageConfig = ImageConfig(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    backward: bool = True
    flip: bool = True


# tiny is ours: 64 px, a grid of 8 x 8 cells, for minutes on two cores.
PRESETS: dict[str, VirTexConfig] = {
    "tiny": VirTexConfig(
        vision=ResNetConfig(depths=(1, 2), stem_width=64, block="basic"),
        decoder=DecoderConfig(
            vocab_size=2048, context_length=80, width=192, layers=1, heads=4, activation="gelu", norm="post"
        ),
        image=ImageConfig(size=64, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    ),
    "r50-l1-h1024": VirTexConfig(),
}


class VirTex(nn.Module):
    """Visual representations from textual annotations (Desai and Johnson 2021, section 3).

    Deviation: the output has no bias. The paper trains with SGD and Lookahead and writes with a beam of 5.
    """

    Config = VirTexConfig
    PRESETS = PRESETS
    VERSION = 1
    takes_several = False
    attends_to_grid = True
    """Its words look at the grid of the vision tower itself, so that their attention is a map of the picture."""

    caption = speaking.caption
    complete = speaking.complete

    def __init__(self, config: VirTexConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.normalize = Normalize(config.image.mean, config.image.std)
        self.visual = build_vision(config.vision)
        self.visual_projection = nn.Linear(self.visual.width, config.decoder.width)
        nn.init.normal_(self.visual_projection.weight, std=0.02)
        nn.init.zeros_(self.visual_projection.bias)
        self.decoder = cross_decoder(config.decoder)
        self.backward_decoder = cross_decoder(config.decoder) if config.backward else None
        if self.backward_decoder is not None:
            for shared in ("token_embedding", "positions", "embedding_norm", "output"):
                setattr(self.backward_decoder, shared, getattr(self.decoder, shared))

    @classmethod
    def new(cls, config: VirTexConfig, texts: Iterable[str] = (), *, seed: int = 0) -> "VirTex":
        """A model with fresh weights drawn from `seed` and a tokenizer learnt from `texts`."""
        words = TextProcessor.train(texts, config.decoder.vocab_size, config.decoder.context_length)
        decoder = dataclasses.replace(config.decoder, vocab_size=words.vocab_size)
        with seeded(seed):
            config = dataclasses.replace(config, decoder=decoder)
            return cls(config, PairProcessor(ImageProcessor(config.image), words, flip=config.flip))

    def grid(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B P D"]:
        """What the decoders look at: each cell of the last map, projected."""
        cells = self.visual(self.normalize(pixels)).tokens
        if cells is None:
            raise InputError("virtex: vision: expected a tower that gives a grid of cells")
        projected: Tensor = self.visual_projection(cells)
        return projected

    def encode_image(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Unit rows of the vision network's pooled feature, which the paper's linear probes take."""
        return unit_rows(self.visual(self.normalize(pixels)).pooled)

    def forward(self, batch: Batch) -> Losses:
        """CE forwards + CE backwards (section 3.1). Raises `InputError` where a row is no picture with a caption.

        In eval mode single words may be asked for by a target mask: of the forward decoder, the one that writes.
        """
        asked = batch.target_mask
        if batch.has_image is not None or (asked is not None and self.training):
            raise InputError("virtex: expected pictures with captions alone; set loader.texts=captions")
        tokens, keep = field_of(batch, "tokens"), field_of(batch, "token_mask")
        memory = self.grid(field_of(batch, "pixels"))
        losses = {"loss/forward": self._loss(self.decoder, memory, tokens, keep if asked is None else asked)}
        if self.backward_decoder is not None and asked is None:
            losses["loss/backward"] = self._loss(self.backward_decoder, memory, reverse(tokens, keep), keep)
        chance = next_token_chance(self.decoder.vocab_size)
        parts = {name: loss.detach() for name, loss in losses.items()}
        total, terms = torch.stack(list(losses.values())).sum(), (keep if asked is None else asked)[:, 1:].sum()
        return Losses(total, parts, dict.fromkeys(losses, chance), terms=terms)

    def _loss(self, decoder: nn.Module, memory: Tensor, tokens: Tensor, keep: Tensor) -> Float[Tensor, ""]:
        hidden = decoder(self.decoder.embed(tokens), memory=memory)
        return next_token(hidden, self.decoder.head_weight(), tokens, keep)

    @torch.no_grad()
    def read(self, pictures: Sequence[Sequence[speaking.Picture]], prompts: Sequence[Sequence[int]]) -> Prompted:
        """See `speaking`."""
        tokens, keep = speaking.padded(self, prompts)
        memory = self.grid(speaking.stack(self, [some[0] for some in pictures]))
        return Prompted(self.decoder, self.decoder.embed(tokens), keep, memory=Projected(self.decoder.layers, memory))


def reverse(tokens: Int[Tensor, "B T"], keep: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Each text from its end token to its start token; padding stays on the right."""
    place = torch.arange(tokens.shape[1], device=tokens.device)
    lengths = keep.sum(dim=1, keepdim=True)
    return tokens.gather(1, torch.where(place < lengths, lengths - 1 - place, place))
