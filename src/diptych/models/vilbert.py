"""ViLBERT: a stream of words and a stream of regions, which look at each other in the last layers.

tokens ─ word + position + type ─ norm ─ layers ─┬─ [co-attention ─ layer] x n ─┬─ [CLS] ──┐
                                                 ╳                              └─ hidden  * ─ fits? answer?
mean, regions ─ linear + linear(box) ─ norm ─────┴─ [co-attention ─ layer] x n ─── mean ───┘
"""

import dataclasses
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
from diptych.models.dual_encoder import seeded
from diptych.models.fusion import Fused, Heads, HeadsConfig
from diptych.models.letters import grid_of
from diptych.processing import ImageConfig, ImageProcessor, Normalize, TextProcessor
from diptych.processing.fusion import FusionProcessor
from diptych.towers import ResNetConfig, VisionConfig, build_vision, load_vision
from diptych.towers.regions import GridRegions, Regions, placed
from diptych.types import Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class ViLBERTConfig:
    """The defaults are the paper's (Lu et al. 2019, section 3.1) and, for the streams' sizes, its code's.

    Attributes:
        vision, vision_address: as in `VisualBERTConfig`.
        features: width of a region's features; that of the tower where there is one.
        layers, image_layers: of each stream; each of the image stream's has a co-attention before it, and so have as
            many of the text stream's last ones.
        between: width of co-attention and of the pooled vectors.
    """

    vision: VisionConfig | None = field(default_factory=ResNetConfig)
    vision_address: str | None = None
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
        vision=_TINY_TOWER,
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


class ViLBERT(nn.Module):
    """ViLBERT (Lu et al. 2019).

    Deviation: regions are the cells of a tower's grid where the paper has a detector's; of these the class is not known
    and not guessed.
    """

    Config = ViLBERTConfig
    Processor = FusionProcessor
    PRESETS = PRESETS
    VERSION = 1
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
        self.normalize = Normalize(config.image.mean, config.image.std)
        eps, dropout = config.norm_eps, config.dropout
        self.regions = None if config.vision is None else GridRegions(build_vision(config.vision))
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
        for name, part in self.named_children():
            if name != "regions":
                initialise(part)

    @classmethod
    def new(
        cls, config: ViLBERTConfig, texts: Iterable[str] = (), *, answers: Sequence[str] = (), seed: int = 0
    ) -> "ViLBERT":
        """As `VisualBERT.new`."""
        words = TextProcessor.train(texts, config.vocab_size, config.context_length, mask=True)
        state = None
        if config.vision_address is not None:
            found = load_vision(config.vision_address)
            config = dataclasses.replace(config, vision=found.config, image=ImageConfig(**found.image))
            state = found.state_dict
        if config.vision is None:
            raise InputError("vilbert: vision: expected a tower, so that pictures can be seen")
        heads = dataclasses.replace(config.heads_for, answers=len(answers), answers_of_two=len(answers))
        with seeded(seed):
            width = grid_of(build_vision(config.vision), config.image.size)[1]
            config = dataclasses.replace(config, vocab_size=words.vocab_size, heads_for=heads, features=width)
            model = cls(config, FusionProcessor(ImageProcessor(config.image), words, answers))
        if state is not None and model.regions is not None:
            model.regions.tower.load_state_dict(state)
        return model

    def word_embedding(self) -> Float[Tensor, "V D"]:
        """The vector of each word, which the head of hidden words shares."""
        return self.text.words.weight

    def see(
        self, pixels: Shaped[Tensor, "N C H W"], sizes: Int[Tensor, "N 2"] | None = None
    ) -> tuple[Float[Tensor, "N P D"], Bool[Tensor, "N P"]]:
        """The regions of pictures as the image stream reads them. Raises `InputError` without a tower."""
        if self.regions is None:
            raise InputError("vilbert: expected a model with a tower; this one is given features of regions")
        return self.read_regions(self.regions(self.normalize(pixels)))

    def read_regions(self, found: Regions) -> tuple[Float[Tensor, "N P D"], Bool[Tensor, "N P"]]:
        """norm(W_f feature + W_b (x0, y0, x1, y1, area)), the mean of all regions, whose box is the picture, first."""
        keep = found.there[:, :, None].to(found.features.dtype)
        mean = (found.features * keep).sum(dim=1, keepdim=True) / keep.sum(dim=1, keepdim=True).clamp(min=1)
        whole = found.boxes.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(mean), 1, 4)
        features, boxes = torch.cat([mean, found.features], dim=1), torch.cat([whole, found.boxes], dim=1)
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
        """Captions: hidden words and matching, in one pass. Questions: their answers."""
        return fusion.read_losses(self, batch)
