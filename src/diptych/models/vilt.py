"""ViLT: one transformer reads words and raw patches, without a detector or any network for pictures before it.

tokens ─ word + position (BERT's) ─ + type 0 ─┐
                                              ├─ transformer (ViT's) ─ norm ─┬─ [CLS] ─ pooler ─ fits? answer?
patches ─ linear ─ + position ─ + type 1 ─────┘                              └─ hidden words; word-patch alignment
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych.blocks import masks
from diptych.blocks.bert import Pooler, TextEmbedding, initialise
from diptych.blocks.transformer import Transformer
from diptych.blocks.vit import PatchEmbedding, fit_positions
from diptych.config import strict
from diptych.models import fusion
from diptych.models.dual_encoder import field_of, seeded
from diptych.models.fusion import Fused, Heads, HeadsConfig, Rows, Terms
from diptych.objectives.matching import matching
from diptych.objectives.transport import word_patch_alignment
from diptych.processing import ImageConfig, ImageProcessor, Normalize, TextProcessor
from diptych.processing.fusion import FusionProcessor
from diptych.types import NOT_ASKED, Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class ViLTConfig:
    """The defaults are the paper's (Kim et al. 2021, section 4.2): ViT-B/32 and BERT's vocabulary.

    Attributes:
        vocab_size: of the tokenizer; of one that is learnt, at most.
        context_length: most tokens of a text.
        patch: side of a patch in pixels.
        heads_for: what it is to do; `new` knows how many answers there are.
        alignment: weight of word-patch alignment.
        image_types: kinds of pictures; the second picture of a pair (NLVR2) has a kind of its own.
    """

    vocab_size: int = 30522
    context_length: int = 40
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    patch: int = 32
    heads_for: HeadsConfig = HeadsConfig()
    alignment: float = 0.1
    image_types: int = 2
    norm_eps: float = 1e-12
    dropout: float = 0.0
    image: ImageConfig = dataclasses.field(
        default_factory=lambda: ImageConfig(size=384, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    )

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise InputError(f"ViLTConfig: width {self.width} is not a multiple of heads {self.heads}")
        if self.image.size % self.patch:
            raise InputError(f"ViLTConfig: image.size {self.image.size} is not a multiple of patch {self.patch}")


PRESETS: dict[str, ViLTConfig] = {
    # ours, for minutes on two cores
    "tiny": ViLTConfig(
        vocab_size=2048,
        context_length=64,
        width=160,
        layers=5,
        heads=5,
        patch=8,
        image=ImageConfig(size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    ),
    "b32": ViLTConfig(),
}


class ViLT(nn.Module):
    """ViLT (Kim et al. 2021)."""

    Config = ViLTConfig
    Processor = FusionProcessor
    PRESETS = PRESETS
    VERSION = 1
    takes_several = True  # one, or two with a statement about both

    match = fusion.match
    answer = fusion.answer
    fill = fusion.fill
    asked = fusion.pooled
    asked_of_two = fusion.pooled_of_two

    def __init__(self, config: ViLTConfig, processor: FusionProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = cast(FusionProcessor, processor)
        self.normalize = Normalize(config.image.mean, config.image.std)
        width, eps = config.width, config.norm_eps
        self.text = TextEmbedding(config.vocab_size, config.context_length, width, norm_eps=eps, dropout=config.dropout)
        self.patches = PatchEmbedding(config.patch, width)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros((config.image.size // config.patch) ** 2 + 1, width))
        self.modality = nn.Embedding(1 + config.image_types, width)
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = Transformer(
            width, config.layers, config.heads, mlp_ratio=config.mlp_ratio, norm_eps=eps, dropout=config.dropout
        )
        self.norm = nn.LayerNorm(width, eps=eps)
        self.pooler = Pooler(width)
        self.heads = Heads(config.heads_for, width, width, config.vocab_size, norm_eps=eps)
        for part in (self.text, self.modality, self.pooler, self.heads):
            initialise(part)
        for parameter in (self.positions, self.class_token):
            nn.init.trunc_normal_(parameter, std=0.02)

    @classmethod
    def new(
        cls, config: ViLTConfig, texts: Iterable[str] = (), *, answers: Sequence[str] = (), seed: int = 0
    ) -> "ViLT":
        """Fresh weights drawn from `seed`, a tokenizer learnt from `texts`, and `answers` as its list."""
        words = TextProcessor.train(texts, config.vocab_size, config.context_length, mask=True)
        heads = dataclasses.replace(config.heads_for, answers=len(answers), answers_of_two=len(answers))
        config = dataclasses.replace(config, vocab_size=words.vocab_size, heads_for=heads)
        with seeded(seed):
            return cls(config, FusionProcessor(ImageProcessor(config.image), words, answers))

    def word_embedding(self) -> Float[Tensor, "V D"]:
        """The vector of each word, which the head of hidden words shares."""
        return self.text.words.weight

    def see(
        self, pixels: Shaped[Tensor, "N C H W"], sizes: Int[Tensor, "N 2"] | None = None
    ) -> tuple[Float[Tensor, "N P D"], Bool[Tensor, "N P"]]:
        """Class token and patches with their positions, and which of them there are.

        Args:
            sizes: of what is real in each of `pixels`; the positions are fitted to it.
        """
        map = self.patches(self.normalize(pixels))
        x, (rows, columns) = map.flatten(2).transpose(1, 2), map.shape[2:]
        shapes = [(rows, columns)] if sizes is None else (sizes // self.config.patch).tolist()
        fitted = {}
        for height, width in {(height, width) for height, width in shapes}:
            own = fit_positions(self.positions, height, width, leading=1, corners=True)[1:].view(height, width, -1)
            fitted[height, width] = F.pad(own, (0, 0, 0, columns - width, 0, rows - height)).flatten(0, 1)
        places = torch.stack([fitted[height, width] for height, width in shapes])
        there = torch.zeros(len(shapes), 1 + rows * columns, dtype=torch.bool)
        for own, (height, width) in zip(there, shapes):
            own[0] = True
            own[1:].view(rows, columns)[:height, :width] = True
        x = torch.cat([(self.class_token + self.positions[0]).to(x.dtype).expand(len(x), 1, -1), x + places], dim=1)
        return self.dropout(x), there.to(x.device).expand(len(x), -1)

    def join(
        self,
        tokens: Int[Tensor, "R T"],
        token_mask: Bool[Tensor, "R T"],
        image: Float[Tensor, "R P D"],
        image_mask: Bool[Tensor, "R P"],
        *,
        second: bool = False,
    ) -> Fused:
        """Words and patches through one transformer. A `second` picture has a type of its own."""
        kind = self.modality.weight
        text = self.text(tokens) + kind[0]
        x = torch.cat([text, image + kind[min(2, len(kind) - 1) if second else 1]], dim=1)
        keep = torch.cat([token_mask, image_mask], dim=1)
        x = self.norm(self.transformer(x, mask=masks.padding(keep)))
        length = tokens.shape[1]
        return Fused(x[:, :length], x[:, length:], self.pooler(x))

    def forward(self, batch: Batch) -> Losses:
        """Captions: hidden words, matching, word-patch alignment. Questions: their answers."""
        rows = fusion.rows(batch)
        image, there = self.see(field_of(batch, "pixels"), batch.picture_sizes)
        asked = rows.answers != NOT_ASKED
        found = Terms()
        if not asked.all():
            self._captions(rows.take(~asked), image, there, found)
        if asked.any():
            fusion.answered(self, rows.take(asked), image, there, found)
        return found.losses()

    def _captions(self, rows: Rows, image: Tensor, there: Tensor, found: Terms) -> None:
        true = rows.take(rows.fits)
        if self.heads.words is not None:
            seen, where = fusion.hide(self, true)
            fused = self.join(seen, true.mask, image[true.picture], there[true.picture])
            fusion.guessed(self, fused.text, true.tokens, where, found)
        if self.heads.fits is not None:  # half of the captions get another picture
            given, fits = fusion.exchanged(rows)
            fused = self.join(rows.tokens, rows.mask, image[given], there[given])
            found.add("itm", matching(self.heads.fits(fused.pooled), fits), chance=fusion.share_entropy(fits))
            if self.config.alignment:
                words = rows.mask & ~fusion.ends(self, rows.tokens)
                loss = word_patch_alignment(fused.text, fused.image[:, 1:], words, there[given][:, 1:], fits)
                found.add("wpa", loss, weight=self.config.alignment)
