"""CLIP: two towers, one space, and the pairs of a batch as each other's negatives (Radford et al. 2021).

    image ─ visual ──── visual_projection ── L2 ── I (B, D)
                                                     │   loss = (CE(rows) + CE(columns)) / 2 of exp(t) I Tᵗ
    tokens ─ textual ── text_projection ──── L2 ── T (B, D)

With `objective="sigmoid"` every pair is a yes/no question instead (SigLIP, Zhai et al. 2023).
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from diptych.config import strict
from diptych.models.dual_encoder import ContrastiveHead, field_of, learn_tokenizer, projection, seeded, unit_rows
from diptych.processing import ImageConfig, ImageProcessor, Normalize, PairProcessor
from diptych.towers import (
    ModifiedResNetConfig,
    TextConfig,
    TextTransformerConfig,
    VisionConfig,
    ViTConfig,
    build_text,
    build_vision,
)
from diptych.types import Batch, InputError, Losses


@strict
@dataclass(frozen=True)
class CLIPConfig:
    """The defaults are the paper's ViT-B/32.

    Attributes:
        image: what pictures are resized to and normalised with; keep `image.size` equal to the tower's `image_size`.
        embed_dim: width of the shared space.
        objective: "softmax" is CLIP's loss, "sigmoid" SigLIP's.
        label_smoothing: of the softmax loss; CLIP has none, ALIGN has.
    """

    vision: VisionConfig = field(default_factory=ViTConfig)
    text: TextConfig = field(default_factory=TextTransformerConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    embed_dim: int = 512
    objective: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: float = 0.0


def _small(image_size: int, patch: int, width: int, layers: int, text_width: int, embed_dim: int) -> CLIPConfig:
    """Towers for a laptop: heads of 64, half as many text layers, captions of at most 32 tokens."""
    vision = ViTConfig(image_size=image_size, patch_size=patch, width=width, layers=layers, heads=width // 64)
    text = TextTransformerConfig(
        vocab_size=4096, context_length=32, width=text_width, layers=layers // 2, heads=text_width // 64, eos_id=1
    )
    return CLIPConfig(vision, text, ImageConfig(size=image_size), embed_dim)


# tiny and small are ours: 64 and 96 px, about 2.8 and 10.8 million parameters, for minutes on two cores.
# The others are the paper's, table 20 (ViT) and table 19 (ResNet).
PRESETS: dict[str, CLIPConfig] = {
    "tiny": _small(image_size=64, patch=8, width=192, layers=4, text_width=128, embed_dim=128),
    "small": _small(image_size=96, patch=8, width=256, layers=8, text_width=256, embed_dim=256),
    "vit-b-32": CLIPConfig(),
    "vit-b-16": CLIPConfig(vision=ViTConfig(patch_size=16)),
    "vit-l-14": CLIPConfig(
        vision=ViTConfig(patch_size=14, width=1024, layers=24, heads=16),
        text=TextTransformerConfig(width=768, heads=12),
        embed_dim=768,
    ),
    "rn50": CLIPConfig(vision=ModifiedResNetConfig(), embed_dim=1024),
}


class CLIP(nn.Module):
    """A dual encoder with a learned temperature (Radford et al. 2021, figure 3).

    With the modified ResNet the attention pool is the projection, as in the authors' code; there is no second one.
    """

    Config = CLIPConfig
    PRESETS = PRESETS
    VERSION = 1

    def __init__(self, config: CLIPConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.normalize = Normalize(config.image.mean, config.image.std)
        self.visual = build_vision(config.vision)
        self.textual = build_text(config.text)
        self.visual_projection: nn.Module
        if isinstance(config.vision, ModifiedResNetConfig):
            if self.visual.width != config.embed_dim:
                raise InputError(
                    f"clip: vision.output_width: expected embed_dim {config.embed_dim}, got {self.visual.width}"
                )
            self.visual_projection = nn.Identity()
        else:
            self.visual_projection = projection(self.visual.width, config.embed_dim)
        self.text_projection = projection(self.textual.width, config.embed_dim)
        self.head = ContrastiveHead(config.objective, config.label_smoothing)

    @classmethod
    def new(cls, config: CLIPConfig, captions: Iterable[str] = (), *, seed: int = 0) -> "CLIP":
        """A model with fresh weights drawn from `seed` and a tokenizer learnt from `captions`.

        `config.text.vocab_size` is an upper bound; the model's config holds the size that came out.
        """
        text, words = learn_tokenizer(config.text, captions)
        with seeded(seed):
            return cls(dataclasses.replace(config, text=text), PairProcessor(ImageProcessor(config.image), words))

    def encode_image(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Unit rows. `pixels` are uint8, or floats that are already normalised."""
        return unit_rows(self.visual_projection(self.visual(self.normalize(pixels)).pooled))

    def encode_text(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Unit rows. Padding changes nothing, so it may be trimmed to the longest text."""
        return unit_rows(self.text_projection(self.textual(tokens, token_mask).pooled))

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """Both sides of the pairs."""
        image = self.encode_image(field_of(batch, "pixels"))
        return image, self.encode_text(field_of(batch, "tokens"), field_of(batch, "token_mask"))

    def objective(self, image: Float[Tensor, "B D"], text: Float[Tensor, "B D"]) -> Losses:
        """The contrastive loss of matched rows, the only place that looks across samples."""
        losses: Losses = self.head(image, text)
        return losses

    def forward(self, batch: Batch) -> Losses:
        return self.objective(*self.encode(batch))
