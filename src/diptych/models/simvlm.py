"""SimVLM: a picture and the beginning of a text are the prefix, the rest of the text is written (Wang et al. 2022).

    image ─ visual ─ grid ─ to_width + positions ─┐
                                                  ├─ encoder (sees itself both ways) ─┐
    tokens before t_p ─ embedding + positions ────┘                                   │ cross-attention
    <bos>, tokens from t_p on ─ embedding + positions ─────────────────────── decoder (causal) ─ loss on tokens ≥ t_p

PrefixLM fits one stack as well as an encoder with a decoder; the paper takes the latter, and so does this.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych.blocks import masks
from diptych.blocks.transformer import Transformer
from diptych.blocks.vit import fit_positions
from diptych.config import strict
from diptych.models import speaking
from diptych.models.dual_encoder import field_of, seeded, unit_rows
from diptych.objectives.language import next_token, next_token_chance
from diptych.processing import ImageConfig, ImageProcessor, Normalize, PairProcessor, TextProcessor
from diptych.towers import DecoderConfig, ResNetConfig, VisionConfig, build_vision
from diptych.towers.decoder import cross_decoder
from diptych.towers.prompted import Projected, Prompted
from diptych.types import Batch, InputError, Losses, Rejected, Reply


@strict
@dataclass(frozen=True)
class SimVLMConfig:
    """The defaults are of the paper's kind: ResNet-101's first three stages and layers as wide as ViT-B's.

    Attributes:
        vision: the convolutions; the cells of their last map are the image's tokens.
        grid: cells along one side of that map, for which positions are learnt; other grids are interpolated.
        encoder_layers: of the width and heads of the decoder.
        whole: share of the captions, in [0, 1], whose prefix is the picture alone, as it is when captions are written;
            the others are cut at a random place. 0 in the paper.
        questions: what reads them: the encoder, together with the picture, as in the paper; or the decoder, after an
            encoder that sees the picture alone. With the latter a row with several questions teaches each as it is
            asked in use; with the former only its first.
    """

    vision: VisionConfig = ResNetConfig(depths=(3, 4, 23))
    decoder: DecoderConfig = DecoderConfig(vocab_size=32000, context_length=256, activation="gelu")
    image: ImageConfig = field(default_factory=ImageConfig)
    grid: int = 14
    encoder_layers: int = 12
    whole: float = 0.0
    questions: Literal["encoder", "decoder"] = "encoder"

    def __post_init__(self) -> None:
        if not 0 <= self.whole <= 1:
            raise InputError(f"SimVLMConfig: whole: expected a number in [0, 1], got {self.whole}")


# tiny is ours: 64 px, for minutes on two cores. base has ViT-B's sizes in both stacks.
PRESETS: dict[str, SimVLMConfig] = {
    "tiny": SimVLMConfig(
        vision=ResNetConfig(depths=(1, 1), stem_width=64, block="basic"),
        decoder=DecoderConfig(vocab_size=2048, context_length=96, width=160, layers=2, heads=4, activation="gelu"),
        image=ImageConfig(size=64),
        grid=8,
        encoder_layers=1,
        whole=0.75,
        questions="decoder",
    ),
    "base": SimVLMConfig(),
}


class SimVLM(nn.Module):
    """Simple visual language model with the one objective PrefixLM (Wang et al. 2022, section 3, equation 3).

    One set of token embeddings serves the encoder, the decoder and the output. The decoder begins with the start token
    in the place of the prefix's last one, so that a token has the same position in every cut of its text.

    Deviation: positions of the picture are learnt for each cell and added; there is no relative attention on top.
    `whole` is ours: of a caption that is cut at a random place half is read and not learnt to be said. So is
    `questions="decoder"`: a question then is text that the decoder reads and does not learn to say.
    """

    Config = SimVLMConfig
    PRESETS = PRESETS
    VERSION = 1
    SIDES = "captioned"  # lone texts are trained on too (section 3.2, the role of C4)
    takes_several = False

    caption = speaking.caption
    answer = speaking.answer

    def __init__(self, config: SimVLMConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.normalize = Normalize(config.image.mean, config.image.std)
        text = config.decoder
        self.visual = build_vision(config.vision)
        self.decoder = cross_decoder(text)
        self.to_width = nn.Linear(self.visual.width, text.width)
        self.image_positions = nn.Parameter(torch.randn(config.grid**2, text.width) * 0.5)
        self.text_positions = nn.Parameter(torch.randn(text.context_length, text.width) * 0.02)
        self.encoder = Transformer(
            text.width,
            config.encoder_layers,
            text.heads,
            mlp_ratio=text.mlp_ratio,
            activation=text.activation,
            norm_eps=text.norm_eps,
            dropout=text.dropout,
        )
        self.encoder_norm = nn.LayerNorm(text.width, eps=text.norm_eps)

    @classmethod
    def new(cls, config: SimVLMConfig, texts: Iterable[str] = (), *, seed: int = 0) -> "SimVLM":
        """A model with fresh weights drawn from `seed` and a tokenizer learnt from `texts`."""
        words = TextProcessor.train(texts, config.decoder.vocab_size, config.decoder.context_length)
        decoder = dataclasses.replace(config.decoder, vocab_size=words.vocab_size)
        with seeded(seed):
            config = dataclasses.replace(config, decoder=decoder)
            return cls(config, PairProcessor(ImageProcessor(config.image), words))

    # ------------------------------------------------------------ the encoder

    def image_tokens(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B P D"]:
        """A picture as the encoder reads it: the cells of the last map, row by row, with their positions."""
        cells = self.visual(self.normalize(pixels)).tokens
        if cells is None or round(cells.shape[1] ** 0.5) ** 2 != cells.shape[1]:
            raise InputError("simvlm: vision: expected a tower that gives a square grid of cells")
        side = round(cells.shape[1] ** 0.5)
        tokens: Tensor = self.to_width(cells) + fit_positions(self.image_positions, side, side)
        return tokens

    def encode(
        self,
        pixels: Shaped[Tensor, "B C H W"] | None,
        tokens: Int[Tensor, "B T"] | None = None,
        keep: Bool[Tensor, "B T"] | None = None,
        has_image: Bool[Tensor, "B"] | None = None,
    ) -> tuple[Float[Tensor, "B S D"], Bool[Tensor, "B S"]]:
        """The prefix as the decoder looks at it, pictures first, and which of its positions there are.

        Args:
            pixels: None where no row has a picture.
            tokens: the beginnings of the texts.
            keep: True at tokens that belong to the prefix.
            has_image: which rows have a picture; all if None.
        """
        parts, seen = [], []
        if pixels is not None:
            image = self.image_tokens(pixels if has_image is None else pixels[has_image])
            there = image.new_ones(len(pixels), image.shape[1], dtype=torch.bool)
            if has_image is not None:
                everywhere = image.new_zeros(len(pixels), *image.shape[1:])
                everywhere[has_image] = image
                image, there = everywhere, there & has_image[:, None]
            parts, seen = [image], [there]
        if tokens is not None and keep is not None:
            if tokens.shape[1] > len(self.text_positions):
                raise InputError(
                    f"text: expected at most {len(self.text_positions)} tokens (simvlm's decoder.context_length), got "
                    f"{tokens.shape[1]}"
                )
            parts.append(self.decoder.embed(tokens) + self.text_positions[: tokens.shape[1]])
            seen.append(keep)
        there = torch.cat(seen, dim=1)
        x = self.encoder(torch.cat(parts, dim=1), mask=masks.padding(there))
        return self.encoder_norm(x), there

    def encode_image(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Unit rows: the mean of the encoder's output over a picture without text, the paper's feature for a probe."""
        return unit_rows(self.encode(pixels)[0].mean(dim=1))

    # ------------------------------------------------------------ training

    def forward(self, batch: Batch) -> Losses:
        """Pairs, questions with answers, and lone texts, also mixed. A row without text asks for nothing.

        Raises `InputError` for documents with several pictures.
        """
        if batch.picture_of is not None:
            raise InputError("simvlm: expected one picture a row; set loader.texts to captions, questions or both")
        tokens, keep = field_of(batch, "tokens"), field_of(batch, "token_mask")
        wanted = speaking.targets(batch)
        if batch.has_text is not None:
            wanted = wanted & batch.has_text[:, None]
        whole = self.config.whole if self.training else 1.0
        given = prefix_lengths(keep, wanted, whole, questions=self.config.questions == "encoder")
        place = torch.arange(tokens.shape[1], device=tokens.device)
        room = int(given.max())
        in_prefix = (place < given[:, None])[:, :room]
        memory, there = self.encode(batch.pixels, tokens[:, :room], in_prefix, batch.has_image)
        written, wanted = suffix(tokens, wanted & keep, given)
        positions = (given[:, None] - 1 + place[: written.shape[1]]).clamp(max=tokens.shape[1] - 1)
        x, looked_at = self.decoder.embed(written), masks.padding(there)
        hidden = self.decoder(x, positions=positions, memory=memory, memory_mask=looked_at)
        loss = next_token(hidden, self.decoder.head_weight(), written, wanted)
        chance = {"loss/prefix_lm": next_token_chance(self.decoder.vocab_size)}
        stats: dict[str, Tensor | float] = {"prefix_tokens": given.float().mean()}
        return Losses(loss, {"loss/prefix_lm": loss.detach()}, chance, stats, wanted[:, 1:].sum())

    # ------------------------------------------------------------ writing

    @torch.no_grad()
    def read(self, pictures: Sequence[Sequence[speaking.Picture]], prompts: Sequence[Sequence[int]]) -> Prompted:
        """See `speaking`. Of a prompt that is too long the end is read."""
        if self.config.questions == "encoder":
            return self.read_prefix(pictures, prompts)
        tokens, keep = self._prompts(prompts)
        return self._prompted(pictures, tokens, keep, given=1)

    @torch.no_grad()
    def read_prefix(self, pictures: Sequence[Sequence[speaking.Picture]], prompts: Sequence[Sequence[int]]) -> Prompted:
        """As `read`, with the whole prompt in the encoder."""
        tokens, keep = self._prompts(prompts)
        return self._prompted(pictures, tokens, keep, given=tokens.shape[1])

    def complete(self, pictures: Sequence[speaking.Picture], beginnings: Sequence[str]) -> list[Reply | Rejected]:
        """See `speaking.complete`; a beginning is a prefix, whatever reads questions."""
        return speaking.complete(cast(speaking.Speaks, self), pictures, beginnings, read=self.read_prefix)

    def _prompts(self, prompts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        most = max(1, len(self.text_positions) - speaking.ANSWER_TOKENS)
        return speaking.padded(self, [[prompt[0], *prompt[1:][-most:]] for prompt in prompts])

    def _prompted(
        self,
        pictures: Sequence[Sequence[speaking.Picture]],
        tokens: Int[Tensor, "B T"],
        keep: Bool[Tensor, "B T"],
        given: int,
    ) -> Prompted:
        """With so many columns for the encoder; the decoder reads the rest after a start token."""
        pixels = speaking.stack(self, [some[0] for some in pictures])
        memory, there = self.encode(pixels, tokens[:, :given], keep[:, :given])
        looked_at = Projected(self.decoder.layers, memory, there)
        first = keep[:, :given].sum(dim=1) - 1
        tokens, keep = (torch.cat([rows[:, :1], rows[:, given:]], dim=1) for rows in (tokens, keep))
        positions = (keep.cumsum(dim=1) - 1).clamp(min=0) + first[:, None]
        return Prompted(self.decoder, self.decoder.embed(tokens), keep, memory=looked_at, positions=positions)


def prefix_lengths(
    keep: Bool[Tensor, "B T"], wanted: Bool[Tensor, "B T"], whole: float = 0.0, questions: bool = True
) -> Int[Tensor, "B"]:
    """How many tokens of each text are given to the encoder, the start token included.

    What comes before a wanted text (a question) is its prefix, or without `questions` the start token alone. A text
    that is wanted from its beginning (a caption) is cut at a random place, each of them equally likely: after the start
    token at the earliest, before its end token or what follows it (a question) at the latest; a share of `whole` is not
    cut at all and has the start token alone. Drawn from torch's global generator.
    """
    first = wanted.int().argmax(dim=1)
    place = torch.arange(keep.shape[1], device=keep.device)
    behind = ~(wanted & keep) & (place > first[:, None])
    end = behind.int().argmax(dim=1).where(behind.any(dim=1), keep.shape[1])
    choices = (end - 1).clamp(min=1)
    drawn = 1 + (torch.rand(len(keep)).to(keep.device) * choices).long()
    if whole:
        drawn = drawn.where(torch.rand(len(keep)).to(keep.device) >= whole, 1)
    return torch.where(first > 1, first if questions else torch.ones_like(first), drawn)


def suffix(
    tokens: Int[Tensor, "B T"], wanted: Bool[Tensor, "B T"], given: Int[Tensor, "B"]
) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"]]:
    """What the decoder reads, and which of it it is to predict: the start token and the tokens after the prefix.

    Args:
        tokens: whole texts, padded on the right, the start token first.
        wanted: True at tokens that the model is to say itself.
        given: tokens in each prefix, at least 1.
    """
    place = torch.arange(tokens.shape[1], device=tokens.device) + given[:, None] - 1
    inside = place < tokens.shape[1]
    place = place.clamp(max=tokens.shape[1] - 1)
    wanted = wanted.gather(1, place) & inside
    wanted[:, 0] = False
    written = torch.cat([tokens[:, :1], tokens.gather(1, place)[:, 1:]], dim=1)
    length = tokens.shape[1] - int(given.min()) + 1
    return written[:, :length], wanted[:, :length]
