"""VisualBERT: BERT reads the words of a text and, behind them, the regions of a picture.

tokens ─ word + position + type ──────────────────────┐
                                                      ├─ norm ─ transformer (BERT's) ─┬─ [CLS] ─ pooler ─ fits?
regions ─ linear ─ + position 0 + type, tables of ────┘                               ├─ hidden words
                    their own                                                         └─ the mask behind a question
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych.blocks import masks
from diptych.blocks.bert import Pooler, TextEmbedding, initialise
from diptych.blocks.transformer import Transformer
from diptych.config import strict
from diptych.models import fusion
from diptych.models.fusion import Fused, Heads, HeadsConfig, Rows
from diptych.models.region_reader import ReadsRegions, RegionReader, RegionsConfig, new
from diptych.processing import ImageConfig
from diptych.processing.fusion import FusionProcessor
from diptych.towers import ResNetConfig
from diptych.towers.regions import Regions, placed
from diptych.types import Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class VisualBERTConfig:
    """The defaults are the paper's (Li et al. 2019, section 3.2): BERT-base.

    Attributes:
        regions: what finds them; None: their features are given (`read_regions`).
        features: width of a region's features; that of the tower or detector where there is one.
        boxes: whether a region's place, (x0, y0, x1, y1, area) as shares of the picture, is added by a linear map.
        vocab_size, context_length: of the tokenizer, at most; most tokens of a text.
    """

    regions: RegionsConfig | None = field(default_factory=RegionsConfig)
    features: int = 2048
    boxes: bool = True
    vocab_size: int = 30522
    context_length: int = 512
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    heads_for: HeadsConfig = HeadsConfig()
    norm_eps: float = 1e-12
    dropout: float = 0.1
    image: ImageConfig = field(default_factory=ImageConfig)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise InputError(f"VisualBERTConfig: width {self.width} is not a multiple of heads {self.heads}")


_TINY_TOWER = ResNetConfig(depths=(1, 1), stem_width=48, block="basic")
PRESETS: dict[str, VisualBERTConfig] = {
    # ours, for minutes on two cores
    "tiny": VisualBERTConfig(
        regions=RegionsConfig(vision=_TINY_TOWER),
        vocab_size=2048,
        context_length=64,
        width=160,
        layers=4,
        heads=5,
        dropout=0.0,
        image=ImageConfig(size=64),
    ),
    "base": VisualBERTConfig(),
}


class VisualBERT(ReadsRegions, nn.Module):
    """VisualBERT (Li et al. 2019).

    Deviation: regions are the cells of a tower's grid, unless there is a detector, and have their places, where the
    paper has a detector's without; with a caption alone it is that caption which fits or not, where the paper has a
    second one for that.
    """

    Config = VisualBERTConfig
    Processor = FusionProcessor
    PRESETS = PRESETS
    VERSION = 2
    takes_several = True  # one, or two with a statement about both

    match = fusion.match
    answer = fusion.answer
    fill = fusion.fill

    def __init__(self, config: VisualBERTConfig, processor: FusionProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = cast(FusionProcessor, processor)
        width, eps = config.width, config.norm_eps
        self.regions = None if config.regions is None else RegionReader(config.regions, config.image)
        self.hide_cache()
        self.text = TextEmbedding(config.vocab_size, config.context_length, width, norm_eps=eps)
        self.visual_projection = nn.Linear(config.features, width)
        self.visual_positions = nn.Embedding(config.context_length, width)
        self.visual_types = nn.Embedding(2, width)
        self.places = nn.Linear(5, width) if config.boxes else None
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = Transformer(
            width,
            config.layers,
            config.heads,
            mlp_ratio=config.mlp_ratio,
            norm="post",
            norm_eps=eps,
            dropout=config.dropout,
        )
        self.pooler = Pooler(width)
        self.heads = Heads(config.heads_for, width, width, config.vocab_size, of_two=width, norm_eps=eps)
        own = (self.text, self.visual_projection, self.transformer, self.pooler, self.heads)
        for part in (*own, *([self.places] if self.places is not None else [])):
            initialise(part)
        with torch.no_grad():  # the tables of regions start as copies of the text's
            self.visual_positions.weight.copy_(self.text.positions.weight)
            self.visual_types.weight.copy_(self.text.types.weight)

    @classmethod
    def new(
        cls, config: VisualBERTConfig, texts: Iterable[str] = (), *, answers: Sequence[str] = (), seed: int = 0
    ) -> "VisualBERT":
        """See `region_reader.new`; a text leaves room for the mask behind a question."""
        model: VisualBERT = new(cls, config, texts, answers, seed, config.context_length - 1)
        return model

    def word_embedding(self) -> Float[Tensor, "V D"]:
        """The vector of each word, which the head of hidden words shares."""
        return self.text.words.weight

    def see(
        self, pixels: Shaped[Tensor, "N C H W"], sizes: Int[Tensor, "N 2"] | None = None
    ) -> tuple[Float[Tensor, "N P D"], Bool[Tensor, "N P"]]:
        """The regions of pictures as BERT reads them, their type excepted. Raises `InputError` without a source."""
        found = self.source()(pixels)
        return self.read_regions(found), found.there

    def read_regions(self, found: Regions) -> Float[Tensor, "N P D"]:
        """Features projected, at position 0, and with their places where the model has them."""
        x: Tensor = self.visual_projection(found.features) + self.visual_positions.weight[0]
        return x if self.places is None else x + self.places(placed(found.boxes))

    def join(
        self,
        tokens: Int[Tensor, "R T"],
        token_mask: Bool[Tensor, "R T"],
        image: Float[Tensor, "R P D"],
        image_mask: Bool[Tensor, "R P"],
    ) -> Fused:
        """Words and regions through one transformer."""
        return self._read(tokens, token_mask, image + self.visual_types.weight[1], image_mask)

    def _read(self, tokens: Tensor, token_mask: Tensor, image: Tensor, image_mask: Tensor) -> Fused:
        x = self.dropout(self.text.norm(torch.cat([self.text.added(tokens), image], dim=1)))
        x = self.transformer(x, mask=masks.padding(torch.cat([token_mask, image_mask], dim=1)))
        length = tokens.shape[1]
        return Fused(x[:, :length], x[:, length:], self.pooler(x))

    def asked(self, some: Rows, image: Tensor, image_mask: Tensor) -> Float[Tensor, "R D"]:
        """The state at a mask behind the question (section 4.1: "[MASK] appended to the question")."""
        tokens, mask, place = self._with_mask(some)
        fused = self.join(tokens, mask, image[some.picture], image_mask[some.picture])
        return fused.text[torch.arange(len(place), device=place.device), place]

    def asked_of_two(self, some: Rows, image: Tensor, image_mask: Tensor) -> Float[Tensor, "R D"]:
        """[CLS] of a statement with the regions of both pictures behind it, the first of type 0, as for NLVR2."""
        assert some.second is not None
        kinds = self.visual_types.weight
        both = torch.cat([image[some.picture] + kinds[0], image[some.second] + kinds[1]], dim=1)
        there = torch.cat([image_mask[some.picture], image_mask[some.second]], dim=1)
        return self._read(some.tokens, some.mask, both, there).pooled

    def _with_mask(self, some: Rows) -> tuple[Int[Tensor, "R T2"], Bool[Tensor, "R T2"], Int[Tensor, "R"]]:
        """Questions with a mask before their end, and where it stands."""
        words, place = self.processor.text, some.mask.sum(dim=1) - 1
        tokens = F.pad(some.tokens, (0, 1), value=words.pad_id)
        tokens = tokens.scatter(1, place[:, None], words.mask_id).scatter(1, place[:, None] + 1, words.eos_id)
        return tokens, F.pad(some.mask, (1, 0), value=True), place

    def forward(self, batch: Batch) -> Losses:
        """Captions: hidden words and matching, in one pass. Questions: their answers."""
        found = self.source().of(batch)
        return fusion.read_losses(self, batch, (self.read_regions(found), found.there))
