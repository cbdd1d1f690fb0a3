"""ViLBERT: a stream of words and a stream of regions, which look at each other in the last layers.

tokens ─ word + position + type ─ norm ─ layers ─┬─ [co-attention ─ layer] x n ─┬─ [CLS] ──┐
                                                 ╳                              └─ hidden  * ─ fits? answer?
mean, regions ─ linear + linear(box) ─ norm ─────┴─ [co-attention ─ layer] x n ─── mean ───┘
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych.blocks import masks
from diptych.blocks.bert import TextEmbedding, initialise
from diptych.blocks.co_attention import CoAttention
from diptych.blocks.transformer import TransformerLayer
from diptych.config import strict
from diptych.models import fusion
from diptych.models.fusion import Fused, Heads, HeadsConfig, Terms
from diptych.models.region_reader import ReadsRegions, RegionReader, RegionsConfig, new
from diptych.objectives.masked import hidden_regions, region_kl
from diptych.processing import ImageConfig
from diptych.processing.fusion import FusionProcessor
from diptych.towers import ResNetConfig
from diptych.towers.regions import Regions, placed
from diptych.types import NOT_ASKED, Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class ViLBERTConfig:
    """The defaults are the paper's (Lu et al. 2019, section 3.1) and, for the streams' sizes, its code's.

    Attributes:
        regions: what finds them; None: their features are given (`read_regions`).
        features: width of a region's features; that of the tower or detector where there is one.
        layers, image_layers: of each stream; each of the image stream's has a co-attention before it, and so have as
            many of the text stream's last ones.
        between: width of co-attention and of the pooled vectors.
    """

    regions: RegionsConfig | None = field(default_factory=RegionsConfig)
    features: int = 2048
    vocab_size: int = 30522
    context_length: int = 512
    width: int = 768
    layers: int = 12
    heads: int = 12
    image_width: int = 1024
    image_layers: int = 6
    image_heads: int = 8
    between: int = 1024
    heads_for: HeadsConfig = HeadsConfig()
    norm_eps: float = 1e-12
    dropout: float = 0.1
    image: ImageConfig = field(default_factory=ImageConfig)

    def __post_init__(self) -> None:
        for name, width in (("width", self.width), ("image_width", self.image_width), ("between", self.between)):
            heads = self.heads if name == "width" else self.image_heads
            if width % heads:
                raise InputError(f"ViLBERTConfig: {name} {width} is not a multiple of heads {heads}")
        if not 1 <= self.image_layers <= self.layers:
            raise InputError(f"ViLBERTConfig: image_layers: expected 1 to {self.layers}, got {self.image_layers}")


_TINY_TOWER = ResNetConfig(depths=(1, 1), stem_width=48, block="basic")
PRESETS: dict[str, ViLBERTConfig] = {
    # ours, for minutes on two cores
    "tiny": ViLBERTConfig(
        regions=RegionsConfig(vision=_TINY_TOWER),
        vocab_size=2048,
        context_length=64,
        width=128,
        layers=4,
        heads=4,
        image_width=128,
        image_layers=2,
        image_heads=4,
        between=128,
        dropout=0.0,
        image=ImageConfig(size=64),
    ),
    "base": ViLBERTConfig(),
}


class ViLBERT(ReadsRegions, nn.Module):
    """ViLBERT (Lu et al. 2019).

    Deviation: without a detector regions are the cells of a tower's grid, of which no class is known or guessed.
    """

    Config = ViLBERTConfig
    Processor = FusionProcessor
    PRESETS = PRESETS
    VERSION = 2
    takes_several = True  # one, or two with a statement about both

    match = fusion.match
    answer = fusion.answer
    fill = fusion.fill
    asked = fusion.pooled
    asked_of_two = fusion.pooled_of_two

    def __init__(self, config: ViLBERTConfig, processor: FusionProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = cast(FusionProcessor, processor)
        eps, dropout = config.norm_eps, config.dropout
        self.regions = None if config.regions is None else RegionReader(config.regions, config.image)
        self.hide_cache()
        self.text = TextEmbedding(config.vocab_size, config.context_length, config.width, norm_eps=eps, dropout=dropout)
        self.visual_projection = nn.Linear(config.features, config.image_width)
        self.places = nn.Linear(5, config.image_width)
        self.image_norm = nn.LayerNorm(config.image_width, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.text_layers = nn.ModuleList(
            TransformerLayer(config.width, config.heads, norm="post", norm_eps=eps, dropout=dropout)
            for _ in range(config.layers)
        )
        self.image_layers = nn.ModuleList(
            TransformerLayer(
                config.image_width, config.image_heads, mlp_ratio=1.0, norm="post", norm_eps=eps, dropout=dropout
            )
            for _ in range(config.image_layers)
        )
        self.between = nn.ModuleList(
            CoAttention(
                config.width, config.image_width, config.between, config.image_heads, norm_eps=eps, dropout=dropout
            )
            for _ in range(config.image_layers)
        )
        self.text_pooler = nn.Linear(config.width, config.between)
        self.image_pooler = nn.Linear(config.image_width, config.between)
        self.heads = Heads(config.heads_for, config.width, config.between, config.vocab_size, norm_eps=eps)
        self.classes: nn.Module | None = None
        if self.regions is not None and self.regions.classes:
            width = config.image_width
            norm = nn.LayerNorm(width, eps=eps)
            self.classes = nn.Sequential(
                nn.Linear(width, width), nn.GELU(), norm, nn.Linear(width, self.regions.classes)
            )
        for name, part in self.named_children():
            if name != "regions":
                initialise(part)

    @classmethod
    def new(
        cls, config: ViLBERTConfig, texts: Iterable[str] = (), *, answers: Sequence[str] = (), seed: int = 0
    ) -> "ViLBERT":
        """See `region_reader.new`."""
        model: ViLBERT = new(cls, config, texts, answers, seed, config.context_length)
        return model

    def word_embedding(self) -> Float[Tensor, "V D"]:
        """The vector of each word, which the head of hidden words shares."""
        return self.text.words.weight

    def see(
        self, pixels: Shaped[Tensor, "N C H W"], sizes: Int[Tensor, "N 2"] | None = None
    ) -> tuple[Float[Tensor, "N P D"], Bool[Tensor, "N P"]]:
        """The regions of pictures as the image stream reads them. Raises `InputError` without a source."""
        return self.read_regions(self.source()(pixels))

    def read_regions(
        self, found: Regions, hidden: Bool[Tensor, "N P"] | None = None
    ) -> tuple[Float[Tensor, "N P2 D"], Bool[Tensor, "N P2"]]:
        """norm(W_f feature + W_b (x0, y0, x1, y1, area)), the mean of all regions, whose box is the picture, first.

        Of the `hidden` ones 90 % have zeros as features (section 2.2), and none is part of the mean.
        """
        seen = found.there if hidden is None else found.there & ~hidden
        keep = seen[:, :, None].to(found.features.dtype)
        mean = (found.features * keep).sum(dim=1, keepdim=True) / keep.sum(dim=1, keepdim=True).clamp(min=1)
        own = found.features
        if hidden is not None:
            zeroed = hidden & (torch.rand(hidden.shape).to(hidden.device) < 0.9)
            own = own.masked_fill(zeroed[:, :, None], 0)
        whole = found.boxes.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(mean), 1, 4)
        features, boxes = torch.cat([mean, own], dim=1), torch.cat([whole, found.boxes], dim=1)
        x = self.dropout(self.image_norm(self.visual_projection(features) + self.places(placed(boxes))))
        return x, torch.cat([found.there.new_ones(len(mean), 1), found.there], dim=1)

    def join(
        self,
        tokens: Int[Tensor, "R T"],
        token_mask: Bool[Tensor, "R T"],
        image: Float[Tensor, "R P D"],
        image_mask: Bool[Tensor, "R P"],
        *,
        second: bool = False,
    ) -> Fused:
        """The two streams; `pooled` is relu(W h_CLS) * relu(W h_IMG). A `second` picture is like a first."""
        words, regions = masks.padding(token_mask), masks.padding(image_mask)
        text = self.text(tokens)
        alone = len(self.text_layers) - len(self.image_layers)
        for layer in self.text_layers[:alone]:
            text = layer(text, mask=words)
        for across, text_layer, image_layer in zip(self.between, self.text_layers[alone:], self.image_layers):
            text, image = across(text, image, text_mask=words, image_mask=regions)
            text, image = text_layer(text, mask=words), image_layer(image, mask=regions)
        pooled = self.text_pooler(text[:, 0]).relu() * self.image_pooler(image[:, 0]).relu()
        return Fused(text, image, pooled)

    def forward(self, batch: Batch) -> Losses:
        """Captions: hidden words, matching, and of a detector's regions what is hidden. Questions: their answers."""
        some, regions = fusion.rows(batch), self.source().of(batch)
        asked = some.answers != NOT_ASKED
        found = Terms()
        if not asked.all():
            hidden = None if self.classes is None else hidden_regions(regions.there)
            image, there = self.read_regions(regions, hidden)
            fused, given, fits = fusion.told(self, some.take(~asked), image, there, found)
            if self.classes is not None and hidden is not None and regions.classes is not None:
                where = hidden[given] & fits[:, None]
                wanted, logits = regions.classes[given][where], self.classes(fused.image[:, 1:][where])
                found.add("regions", region_kl(logits, wanted), chance=_unknown(wanted))
        if asked.any():
            image, there = self.read_regions(regions)
            fusion.answered(self, some.take(asked), image, there, found)
        return found.losses()


def _unknown(classes: Float[Tensor, "N K"]) -> float:
    """`region_kl` of a model that takes all classes for equally likely."""
    if not len(classes):
        return 0.0
    return math.log(classes.shape[1]) + float(torch.xlogy(classes, classes).sum(dim=1).mean())
