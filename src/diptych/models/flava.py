"""FLAVA: an encoder of pictures, one of texts, and one over both; any of the three can be used, and trained, alone.

patches ─ linear ─ [CLS] + positions ─ layers ─┬─ norm ─ [CLS] ─ linear ─┐
                                               │                         ├─ contrastive (nothing hidden)
tokens ─ word + position + type ─ layers ──────┼┬─ norm ─ [CLS] ─ linear ┘
                                               ││
                       [CLS_M] ┬ linear ───────┘│   hidden patches and words of lone pictures and texts are
                               └ linear ────────┘   guessed behind each encoder, those of pairs behind both:
                                    layers ─ norm ─┬─ fits? answer?
                                                   └─ hidden words, hidden patches
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych import models
from diptych.blocks import masks
from diptych.blocks.bert import Pooler, TextEmbedding, WordHead, initialise
from diptych.blocks.dall_e import CodeEncoder
from diptych.blocks.transformer import Transformer
from diptych.blocks.vit import PatchEmbedding, fit_positions
from diptych.config import strict
from diptych.models import fusion
from diptych.models.dual_encoder import ContrastiveHead, field_of, seeded, unit_rows
from diptych.models.dvae import DVAE, CodebookConfig
from diptych.models.fusion import Fused, Heads, HeadsConfig, Rows, Terms
from diptych.objectives.autoencoding import inside
from diptych.objectives.masked import hidden_patches, masked_pixels, patch_pixels
from diptych.objectives.matching import hard_negatives, matching, same_rows
from diptych.processing import ImageConfig, ImageProcessor, Normalize, TextProcessor
from diptych.processing.fusion import FusionProcessor
from diptych.types import NOT_ASKED, Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class FLAVAConfig:
    """The defaults are the paper's (Singh et al. 2022, table 6): ViT-B/16 and encoders of its width.

    Attributes:
        image_layers, text_layers, joint_layers: of the three encoders.
        patch: side of a patch in pixels.
        embed_dim: width of the space where pictures and texts are compared.
        hidden: share of a picture's patches that are hidden, in (0, 1).
        codebook: whose codes hidden patches are guessed in; None: their pixels are guessed instead.
        codebook_address: where `new` takes the codebook from: the folder of a trained `dvae`.
    """

    vocab_size: int = 30522
    context_length: int = 512
    width: int = 768
    heads: int = 12
    mlp_ratio: float = 4.0
    image_layers: int = 12
    text_layers: int = 12
    joint_layers: int = 6
    patch: int = 16
    embed_dim: int = 768
    hidden: float = 0.4
    codebook: CodebookConfig | None = None
    codebook_address: str | None = None
    heads_for: HeadsConfig = HeadsConfig()
    norm_eps: float = 1e-12
    dropout: float = 0.0
    image: ImageConfig = field(default_factory=ImageConfig)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise InputError(f"FLAVAConfig: width {self.width} is not a multiple of heads {self.heads}")
        if self.image.size % self.patch:
            raise InputError(f"FLAVAConfig: image.size {self.image.size} is not a multiple of patch {self.patch}")
        if not 0 < self.hidden < 1:
            raise InputError(f"FLAVAConfig: hidden: expected a share between 0 and 1, got {self.hidden}")


PRESETS: dict[str, FLAVAConfig] = {
    # ours, for minutes on two cores
    "tiny": FLAVAConfig(
        vocab_size=2048,
        context_length=64,
        width=128,
        heads=4,
        image_layers=3,
        text_layers=3,
        joint_layers=2,
        patch=8,
        embed_dim=128,
        image=ImageConfig(size=64),
    ),
    "base": FLAVAConfig(),
}


class States(NamedTuple):
    """Of an encoder of one side: `last` after its norm, `before` what the encoder over both reads."""

    last: Float[Tensor, "B S D"]
    before: Float[Tensor, "B S D"]


class ImageEncoder(nn.Module):
    """A Vision Transformer some of whose patches may be hidden behind a learned vector."""

    def __init__(self, config: FLAVAConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.patches = PatchEmbedding(config.patch, width)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros((config.image.size // config.patch) ** 2 + 1, width))
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = _transformer(config, config.image_layers)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.pooler = Pooler(width)

    def forward(self, pixels: Float[Tensor, "N C H W"], hidden: Bool[Tensor, "N P"] | None = None) -> States:
        map = self.patches(pixels)
        x = map.flatten(2).transpose(1, 2)
        if hidden is not None:
            x = torch.where(hidden[:, :, None], self.mask_token.to(x.dtype), x)
        x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        x = x + fit_positions(self.positions, map.shape[2], map.shape[3], leading=1)
        x = self.transformer(self.dropout(x))
        return States(self.norm(x), x)


class TextEncoder(nn.Module):
    """BERT's embeddings and a transformer of ViT's kind (norms before)."""

    def __init__(self, config: FLAVAConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.embedding = TextEmbedding(
            config.vocab_size, config.context_length, width, norm_eps=eps, dropout=config.dropout
        )
        self.transformer = _transformer(config, config.text_layers)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.pooler = Pooler(width)

    def forward(self, tokens: Int[Tensor, "R T"], mask: Bool[Tensor, "R T"]) -> States:
        x = self.transformer(self.embedding(tokens), mask=masks.padding(mask))
        return States(self.norm(x), x)


class JointEncoder(nn.Module):
    """Reads the states of both sides, each behind a linear map, and a class token of its own before them."""

    def __init__(self, config: FLAVAConfig) -> None:
        super().__init__()
        width = config.width
        self.from_image, self.from_text = nn.Linear(width, width), nn.Linear(width, width)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.transformer = _transformer(config, config.joint_layers)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.pooler = Pooler(width)

    def forward(
        self,
        image: Float[Tensor, "R P D"],
        image_mask: Bool[Tensor, "R P"],
        text: Float[Tensor, "R T D"],
        text_mask: Bool[Tensor, "R T"],
    ) -> tuple[Float[Tensor, "R D"], Float[Tensor, "R P D"], Float[Tensor, "R T D"]]:
        """The states of the class token, of the picture ([CLS] first) and of the text."""
        first = self.class_token.to(image.dtype).expand(len(image), 1, -1)
        x = torch.cat([first, self.from_image(image), self.from_text(text)], dim=1)
        keep = torch.cat([image_mask.new_ones(len(x), 1), image_mask, text_mask], dim=1)
        x = self.norm(self.transformer(x, mask=masks.padding(keep)))
        length = text.shape[1]
        return x[:, 0], x[:, 1:-length], x[:, -length:]


def _transformer(config: FLAVAConfig, layers: int) -> Transformer:
    return Transformer(
        config.width,
        layers,
        config.heads,
        mlp_ratio=config.mlp_ratio,
        norm_eps=config.norm_eps,
        dropout=config.dropout,
    )


class FLAVA(nn.Module):
    """FLAVA (Singh et al. 2022, section 4).

    Deviation: a wrong text is drawn by its likeness to the picture, where the paper draws it evenly; hidden patches are
    guessed by their pixels (MAE), where the paper guesses the codes of a discrete VAE.
    """

    Config = FLAVAConfig
    Processor = FusionProcessor
    PRESETS = PRESETS
    VERSION = 1
    SIDES = "either"  # pairs, lone pictures and lone texts
    takes_several = True  # one, or two with a statement about both

    match = fusion.match
    answer = fusion.answer
    fill = fusion.fill
    asked_of_two = fusion.pooled_of_two

    def __init__(self, config: FLAVAConfig, processor: FusionProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = cast(FusionProcessor, processor)
        self.normalize = Normalize(config.image.mean, config.image.std)
        width, eps = config.width, config.norm_eps
        self.image, self.text, self.joint = ImageEncoder(config), TextEncoder(config), JointEncoder(config)
        self.visual_projection = nn.Linear(width, config.embed_dim)
        self.text_projection = nn.Linear(width, config.embed_dim)
        self.head = ContrastiveHead("softmax")
        self.heads = Heads(config.heads_for, width, width, config.vocab_size, own_words=True, norm_eps=eps)
        if config.heads_for.fits:
            self.heads.fits = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))
        self.words_alone = WordHead(width, config.vocab_size, own=True, norm_eps=eps)
        self.patches_alone, self.patches_paired = _patch_head(config), _patch_head(config)
        for part in self.children():
            initialise(part)
        self.codebook = None if config.codebook is None else CodeEncoder(**dataclasses.asdict(config.codebook))
        if self.codebook is not None:
            self.codebook.requires_grad_(False)
        for name, parameter in self.named_parameters():
            if name.endswith(("class_token", "mask_token", "positions")):
                nn.init.trunc_normal_(parameter, std=0.02)

    @classmethod
    def new(
        cls, config: FLAVAConfig, texts: Iterable[str] = (), *, answers: Sequence[str] = (), seed: int = 0
    ) -> "FLAVA":
        """Fresh weights drawn from `seed`, a tokenizer learnt from `texts`, and `answers` as its list."""
        words = TextProcessor.train(texts, config.vocab_size, config.context_length, mask=True)
        heads = dataclasses.replace(config.heads_for, answers=len(answers), answers_of_two=len(answers))
        config = dataclasses.replace(config, vocab_size=words.vocab_size, heads_for=heads)
        codebook = None
        if config.codebook_address is not None:
            codebook = models.load(config.codebook_address)
            if not isinstance(codebook, DVAE):
                raise InputError(f"flava: codebook_address: expected a dvae, got {type(codebook).__name__}")
            config = dataclasses.replace(config, codebook=codebook.config.codebook)
        elif config.codebook is not None:
            raise InputError("flava: codebook: expected an address, because a codebook is learnt before")
        with seeded(seed):
            model = cls(config, FusionProcessor(ImageProcessor(config.image), words, answers))
        if codebook is not None and model.codebook is not None:
            model.codebook.load_state_dict(codebook.encoder.state_dict())
        return model

    # ------------------------------------------------------------ each side alone

    def encode_image(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Unit rows of the space where pictures and texts are compared."""
        return self._compared(self.image(self.normalize(pixels)), self.visual_projection)

    def encode_text(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Unit rows of the space where pictures and texts are compared."""
        return self._compared(self.text(tokens, token_mask), self.text_projection)

    @staticmethod
    def _compared(states: States, projection: nn.Linear) -> Float[Tensor, "B D"]:
        return unit_rows(projection(states.last[:, 0]))

    # ------------------------------------------------------------ both sides

    def word_embedding(self) -> Float[Tensor, "V D"]:
        """The vector of each word; the heads of hidden words have output vectors of their own."""
        return self.text.embedding.words.weight

    def see(
        self, pixels: Shaped[Tensor, "N C H W"], sizes: Int[Tensor, "N 2"] | None = None
    ) -> tuple[Float[Tensor, "N P D"], Bool[Tensor, "N P"]]:
        """The states of pictures ([CLS] first) that the encoder over both reads."""
        x = self.image(self.normalize(pixels)).before
        return x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)

    def join(
        self,
        tokens: Int[Tensor, "R T"],
        token_mask: Bool[Tensor, "R T"],
        image: Float[Tensor, "R P D"],
        image_mask: Bool[Tensor, "R P"],
        *,
        second: bool = False,
    ) -> Fused:
        """Text and picture through the encoder over both. A `second` picture is like a first."""
        return self._join(self.text(tokens, token_mask).before, token_mask, image, image_mask)

    def _join(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Fused:
        first, seen, read = self.joint(image, image_mask, text, text_mask)
        return Fused(read, seen, first)

    def asked(self, some: Rows, image: Tensor, image_mask: Tensor) -> Float[Tensor, "R D"]:
        """tanh(W h) of the class token over both."""
        pooled: Tensor = self.joint.pooler(fusion.pooled(self, some, image, image_mask)[:, None])
        return pooled

    # ------------------------------------------------------------ training

    def forward(self, batch: Batch) -> Losses:
        """Pairs, lone pictures, lone texts and questions, also mixed; each row gives the terms that it can."""
        found = Terms()
        if batch.pixels is not None and (batch.tokens is None or batch.has_text is not None):
            lone = slice(None) if batch.has_text is None else ~batch.has_text
            self._pictures(batch.pixels[lone], found)
        if batch.tokens is not None and (batch.pixels is None or batch.has_image is not None):
            some = fusion.texts(batch)
            self._texts(some if batch.has_image is None else some.take(~batch.has_image[some.sample]), found)
        if batch.pixels is not None and batch.tokens is not None:
            self._pairs(batch, found)
        return found.losses()

    def _pictures(self, pixels: Shaped[Tensor, "N C H W"], found: Terms) -> None:
        """Masked image modelling of lone pictures."""
        if len(pixels):
            pixels = self.normalize(pixels)
            hidden = self._hide(pixels)
            self._guess(self.image(pixels, hidden).last[:, 1:], pixels, hidden, self.patches_alone, "mim", found)

    def _texts(self, some: Rows, found: Terms) -> None:
        """Masked language modelling of lone texts."""
        if len(some.tokens):
            seen, where = fusion.hide(self, some)
            states = self.text(seen, some.mask).last
            fusion.guessed_by(self.words_alone, states, self.word_embedding(), some.tokens, where, "mlm", found)

    def _pairs(self, batch: Batch, found: Terms) -> None:
        pixels = field_of(batch, "pixels")
        some = fusion.rows(batch)
        if batch.has_image is not None:
            some = some.take(batch.has_image[some.sample])
        if batch.has_text is not None:
            some = some.take(batch.has_text[some.sample])
        asked = some.answers != NOT_ASKED
        if asked.any():
            image, there = self.see(pixels)
            fusion.answered(self, some.take(asked), image, there, found)
        told = some.take(~asked)
        if told.fits.any():
            self._captions(told, self.normalize(pixels), found)

    def _captions(self, told: Rows, pixels: Float[Tensor, "N C H W"], found: Terms) -> None:
        """Contrastive on what nothing is hidden of; matching, hidden words and hidden patches on the rest."""
        true = told.take(told.fits)
        image = self._compared(self.image(pixels), self.visual_projection)[true.picture]
        text = self._compared(self.text(true.tokens, true.mask), self.text_projection)
        losses = self.head(image, text)
        found.add("itc", losses.total, chance=losses.chance["loss/itc"])
        found.stats |= losses.stats
        found.outputs |= losses.outputs
        hidden = self._hide(pixels)
        seen, where = fusion.hide(self, told)
        states, words = self.image(pixels, hidden).before, self.text(seen, told.mask).before
        given, fits = fusion.exchanged(told, self._drawn(true, image, text))
        there = torch.ones(states[given].shape[:2], dtype=torch.bool, device=states.device)
        fused = self._join(words, told.mask, states[given], there)
        if self.heads.fits is not None:
            found.add("itm", matching(self.heads.fits(fused.pooled), fits), chance=fusion.share_entropy(fits))
        # what is hidden is guessed of pairs that fit only
        if self.heads.words is not None:
            where = where & fits[:, None]
            fusion.guessed_by(
                self.heads.words, fused.text, self.word_embedding(), told.tokens, where, "mmm_text", found
            )
        own = given[fits]
        self._guess(fused.image[fits, 1:], pixels[own], hidden[own], self.patches_paired, "mmm_image", found)

    def _drawn(self, true: Rows, image: Tensor, text: Tensor) -> Int[Tensor, "R"]:
        """For half of the texts another whose picture looks as if it fitted; for the others their own number."""
        with torch.no_grad():
            others, there = hard_negatives(self.head.scale() * text @ image.t(), same_rows(true.tokens))
        change = there & (torch.rand(len(there)) < 0.5).to(there.device)
        return torch.where(change, others, torch.arange(len(there), device=others.device))

    def _hide(self, pixels: Tensor) -> Bool[Tensor, "N P"]:
        rows, columns = (side // self.config.patch for side in pixels.shape[2:])
        return hidden_patches(len(pixels), rows, columns, self.config.hidden).to(pixels.device)

    def codes(self, pixels: Shaped[Tensor, "N C H W"]) -> Int[Tensor, "N P"]:
        """The codebook's code of each patch, row by row. Raises `InputError` without a codebook."""
        if self.codebook is None:
            raise InputError("flava: expected a model with a codebook")
        shown = self.normalize.undone(pixels)
        rows, columns = (side // self.config.patch for side in pixels.shape[2:])
        shown = F.interpolate(shown, size=(8 * rows, 8 * columns), mode="bicubic", antialias=True).clamp(0, 1)
        with torch.no_grad():
            numbers: Tensor = self.codebook(inside(shown)).argmax(dim=1).flatten(1)
        return numbers

    def _guess(self, states: Tensor, pixels: Tensor, hidden: Tensor, head: nn.Module, name: str, found: Terms) -> None:
        """Hidden patches of normalised pictures: their codes, or their pixels."""
        if self.codebook is not None:
            codes = self.codes(pixels)
            fusion.guessed_by(head, states, self.word_embedding(), codes, hidden, name, found)
        else:
            wanted = patch_pixels(pixels, self.config.patch)[hidden]
            found.add(name, masked_pixels(head(states[hidden]), wanted), chance=1.0)


def _patch_head(config: FLAVAConfig) -> nn.Module:
    """Of a state the logits of codes, or the pixels of a patch."""
    if config.codebook is not None:
        return WordHead(config.width, config.codebook.codes, own=True, norm_eps=config.norm_eps)
    width = config.width
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, 3 * config.patch**2))
