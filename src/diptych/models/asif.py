"""ASIF: a picture and a text are alike when both are like the same known pairs (Norelli et al. 2023). Nothing trains.

    image ─ visual (frozen) ── cos to N image anchors ── top k ── power p ── L2 ── r_image (B, N) ┐
                                                                                                  ├ dot product = score
    tokens ─ textual (frozen) ─ cos to N text anchors ── top k ── power p ── L2 ── r_text  (B, N) ┘

Anchor j of both sides is the same pair, so that dimension j of both representations is "how much like pair j". Pairs
can be added and removed at any time; vectors from before a change do not fit those from after it.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor, nn

from diptych.config import strict
from diptych.models.dual_encoder import unit_rows
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
from diptych.types import Batch, InputError

_ROWS = 256  # rows whose similarities to all anchors are held at one time
_PAIR_BUFFERS = ("image_anchors", "text_anchors", "directions")


@strict
@dataclass(frozen=True)
class ASIFConfig:
    """Two frozen towers and the rule between them.

    Attributes:
        vision, text: as the pretrained towers have them; `ASIF.new` fills them in from the addresses.
        image: how pictures are prepared; None means as the pretrained tower was trained.
        image_address, text_address: where `ASIF.new` takes the towers from ("hf:...", a folder, "pypi:...").
        k: similarities that are kept in each row; all, where there are fewer pairs.
        image_power, text_power: p of each side; the larger, the more the nearest pairs decide.
        whiten: None compares image features as they are. A number centres them and divides by their spread over the
            stored pictures in every direction, with `whiten` times the mean variance added so that directions of
            little variance are not blown up; a large number centres only.
        class_weight: share of a classifier's rows in every score, against 1 for the pairs of pictures.
    """

    vision: VisionConfig = field(default_factory=EfficientNetConfig)
    text: TextConfig = field(default_factory=TextTransformerConfig)
    image: ImageConfig | None = None
    image_address: str | None = None
    text_address: str | None = None
    k: int = 800
    image_power: float = 8.0
    text_power: float = 8.0
    whiten: float | None = None
    class_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 1 or self.image_power <= 0 or self.text_power <= 0 or self.class_weight <= 0:
            raise InputError(
                "asif: k, image_power, text_power, class_weight: expected k of at least 1 and the others above 0, got "
                f"{self.k}, {self.image_power}, {self.text_power} and {self.class_weight}"
            )
        if self.whiten is not None and self.whiten <= 0:
            raise InputError(f"asif: whiten: expected a number above 0 or null, got {self.whiten}")


PRESETS: dict[str, ASIFConfig] = {
    # k is the default of the authors' code; p is ours, to be tuned on held-out pairs
    "lite0-minilm": ASIFConfig(image_address=LITE0, text_address=MINILM),
}


class ASIF(nn.Module):
    """Training-free alignment through stored pairs (Norelli et al. 2023, section 2).

    Deviation: negative similarities count as 0 before the power, because p need not be a whole number. The rows of a
    classifier can stand in for pairs; a cosine to a class direction and one to a picture are on different scales, so
    the two kinds of pairs are each cut to k, raised to p and normalised among themselves, and then joined. Image
    features may be whitened.
    """

    Config = ASIFConfig
    PRESETS = PRESETS
    VERSION = 1

    image_anchors: Tensor  # (N, D) features of the pairs' pictures as the tower gives them
    text_anchors: Tensor  # (N, D2)
    directions: Tensor  # (N,) True where the image anchor is a classifier's row: a direction, never centred

    def __init__(self, config: ASIFConfig, processor: PairProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        image = config.image or ImageConfig()
        self.normalize = Normalize(image.mean, image.std)
        self.visual = build_vision(config.vision)
        self.textual = build_text(config.text)
        self.register_buffer("image_anchors", torch.empty(0, self.visual.width))
        self.register_buffer("text_anchors", torch.empty(0, self.textual.width))
        self.register_buffer("directions", torch.empty(0, dtype=torch.bool))
        self.names: list[str] = []
        self._unit: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.requires_grad_(False).train()

    @classmethod
    def new(cls, config: ASIFConfig, captions: Iterable[str] = (), *, seed: int = 0) -> "ASIF":
        """The towers of the two addresses, without pairs yet. `captions` and `seed` are not used: nothing is learnt.

        Raises `InputError` where an address is missing, and `WeightsUnavailable` where it cannot be reached.
        """
        if config.image_address is None or config.text_address is None:
            raise InputError("asif: image_address, text_address: expected the addresses of two pretrained towers")
        vision, text = load_vision(config.image_address), load_text(config.text_address)
        image = config.image or ImageConfig(**vision.image)
        words = TextProcessor.from_file(text.tokenizer_file, text.max_length)
        config = dataclasses.replace(config, vision=vision.config, text=text.config, image=image)
        model = cls(config, PairProcessor(ImageProcessor(image), words))
        model.visual.load_state_dict(vision.state_dict)
        model.textual.load_state_dict(text.state_dict)
        return model

    def train(self, mode: bool = True) -> "ASIF":
        """Frozen towers stay in eval mode, whatever is asked for."""
        return super().train(False)

    def forward(self, batch: Batch) -> NoReturn:
        """Always raises `InputError`: there is no loss."""
        raise InputError("asif trains nothing: give it pairs with add_pairs instead of training it")

    # ------------------------------------------------------------ the pairs

    @property
    def num_pairs(self) -> int:
        """N, which is also the width of both representations."""
        return len(self.names)

    def add_pairs(
        self,
        image_features: Float[Tensor, "N D"],
        text_features: Float[Tensor, "N D2"],
        names: Sequence[str],
        *,
        directions: bool = False,
    ) -> None:
        """Append pairs: features as `image_features` and `text_features` give them, and what to call each pair.

        `directions` says that the image anchors are directions in feature space and not features of pictures (see
        `pairs_from_classifier`).
        """
        count = len(names)
        widths = (self.image_anchors.shape[1], self.text_anchors.shape[1])
        if image_features.shape != (count, widths[0]) or text_features.shape != (count, widths[1]):
            raise InputError(
                f"asif: add_pairs: expected {count} rows of width {widths[0]} and {widths[1]}, got "
                f"{tuple(image_features.shape)} and {tuple(text_features.shape)}"
            )
        if not (torch.isfinite(image_features).all() and torch.isfinite(text_features).all()):
            raise InputError("asif: add_pairs: expected finite features")
        for name, rows in zip(_PAIR_BUFFERS, (image_features, text_features, torch.full((count,), directions))):
            old = getattr(self, name)
            setattr(self, name, torch.cat([old, rows.detach().to(old)]))
        self.names += names
        self._unit.clear()

    def pairs_from_classifier(
        self, rows: Float[Tensor, "K D"], class_text_features: Float[Tensor, "K D2"], names: Sequence[str]
    ) -> None:
        """Append a classifier's weight rows as pairs: row c stands for a picture of class c, its name for the caption.

        A picture's cosine to row c is the classifier's evidence for class c, so these pairs need no pictures at all.
        """
        self.add_pairs(rows, class_text_features, names, directions=True)

    def remove_pairs(self, names: Iterable[str]) -> None:
        """Delete every pair of these names. Raises `InputError` at a name that no pair has."""
        gone = set(names)
        unknown = sorted(gone - set(self.names))
        if unknown:
            close = difflib.get_close_matches(unknown[0], self.names, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            raise InputError(f"asif: remove_pairs: no pair is called '{unknown[0]}'{hint}")
        keep = torch.tensor([name not in gone for name in self.names], dtype=torch.bool, device=self.directions.device)
        for name in _PAIR_BUFFERS:
            setattr(self, name, getattr(self, name)[keep])
        self.names = [name for name in self.names if name not in gone]
        self._unit.clear()

    # ------------------------------------------------------------ features and relative representations

    @torch.no_grad()
    def image_features(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """What the frozen image tower gives, in float32; `pixels` are uint8, or floats that are already normalised."""
        features: Tensor = self.visual(self.normalize(pixels)).pooled.float()
        return features

    @torch.no_grad()
    def text_features(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """What the frozen text tower gives, in float32."""
        features: Tensor = self.textual(tokens, token_mask).pooled.float()
        return features

    def embed_image_features(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B N"]:
        """Relative representation of pictures: unit rows, one dimension for each pair, at most k of them not 0."""
        return self._relative("image", features, self.config.image_power)

    def embed_text_features(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B N"]:
        """Relative representation of texts: unit rows, one dimension for each pair, at most k of them not 0."""
        return self._relative("text", features, self.config.text_power)

    def encode_image(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B N"]:
        """`embed_image_features` of `image_features`."""
        return self.embed_image_features(self.image_features(pixels))

    def encode_text(self, tokens: Int[Tensor, "B T"], token_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B N"]:
        """`embed_text_features` of `text_features`."""
        return self.embed_text_features(self.text_features(tokens, token_mask))

    def image_tower_fingerprint(self) -> str:
        """A hash of the image tower's weights; the pairs are not part of it."""
        return fingerprint(self.visual)

    def explain(self, image: Float[Tensor, "N"], text: Float[Tensor, "N"], k: int = 5) -> list[tuple[str, float]]:
        """The pairs behind a similarity, the strongest first, with what each contributes.

        The contributions of all pairs sum to the score, image · text. Fewer than `k` where fewer contribute.
        """
        if image.shape != (self.num_pairs,) or text.shape != (self.num_pairs,):
            raise InputError(
                f"asif: explain: expected two vectors of {self.num_pairs} numbers, one for each pair that is stored "
                f"now, got {tuple(image.shape)} and {tuple(text.shape)}"
            )
        found = (image * text).topk(min(k, self.num_pairs))
        return [(self.names[j], value) for value, j in zip(found.values.tolist(), found.indices.tolist()) if value > 0]

    @torch.no_grad()
    def _relative(self, side: str, features: Float[Tensor, "B D"], power: float) -> Float[Tensor, "B N"]:
        if not self.names:
            raise InputError("asif: there are no pairs yet; give it some with add_pairs")
        result = features.new_zeros(len(features), self.num_pairs, dtype=torch.float32)
        kinds = [(columns, weight) for columns, weight in self._kinds() if len(columns)]
        total = sum(weight for _, weight in kinds)
        with torch.autocast(features.device.type, enabled=False):  # a power would blow bf16's rounding up
            mean, matrix, anchors = self._unit_anchors(side)
            for start in range(0, len(features), _ROWS):
                rows = unit_rows(features[start : start + _ROWS])
                similarities = unit_rows((rows - mean) @ matrix) @ anchors.t()
                for columns, weight in kinds:
                    kept = similarities[:, columns].topk(min(self.config.k, len(columns)), dim=1)
                    values = F.normalize(kept.values.clamp(min=0).pow(power), dim=1) * (weight / total) ** 0.5
                    result[start : start + _ROWS].scatter_(1, columns[kept.indices], values)
        return unit_rows(result)  # a row without any positive similarity in one kind is made up for by the other

    def _kinds(self) -> list[tuple[Int[Tensor, "M"], float]]:
        """The columns of the pairs of pictures, and of a classifier's rows, with the weight of each kind."""
        pictures, classes = (~self.directions).nonzero().flatten(), self.directions.nonzero().flatten()
        return [(pictures, 1.0), (classes, self.config.class_weight)]

    def _unit_anchors(self, side: str) -> tuple[Float[Tensor, "D"], Float[Tensor, "D D"], Float[Tensor, "N D"]]:
        """What is taken from unit features, the matrix that turns them then, and the unit anchors after both."""
        stored: Tensor = self.image_anchors if side == "image" else self.text_anchors
        cached = self._unit.get(side)
        if cached is None or cached[2].device != stored.device:
            anchors = unit_rows(stored)
            mean, matrix = torch.zeros_like(anchors[0]), torch.eye(anchors.shape[1], device=anchors.device)
            pictures = ~self.directions
            if side == "image" and self.config.whiten is not None and pictures.any():
                mean, matrix = whitening(anchors[pictures], self.config.whiten)
            centred = anchors - mean * pictures[:, None]  # a direction has no place to move from
            cached = self._unit[side] = mean, matrix, unit_rows(centred @ matrix)
        return cached

    # ------------------------------------------------------------ state: as many pairs as were saved, and their names

    def get_extra_state(self) -> UInt8[Tensor, "S"]:
        """The pairs' names as the bytes of a JSON list: a state dict holds tensors only."""
        return torch.frombuffer(bytearray(json.dumps(self.names), "utf-8"), dtype=torch.uint8)

    def set_extra_state(self, state: UInt8[Tensor, "S"]) -> None:
        self.names = json.loads(bytes(state.cpu().numpy()))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in _PAIR_BUFFERS:
            saved = state_dict.get(prefix + name)
            if saved is not None:
                old = getattr(self, name)
                setattr(self, name, old.new_empty((len(saved), *old.shape[1:])))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._unit.clear()


def whitening(rows: Float[Tensor, "N D"], shrinkage: float) -> tuple[Float[Tensor, "D"], Float[Tensor, "D D"]]:
    """The mean of `rows` and the symmetric matrix (C + shrinkage tr(C)/D I)^-1/2, C their covariance."""
    mean = rows.mean(dim=0)
    covariance = (rows - mean).double().t().cov(correction=0)
    values, vectors = torch.linalg.eigh(covariance)
    floor = max(shrinkage * float(values.mean()), torch.finfo(torch.float32).tiny)
    spread = values.clamp(min=0) + floor
    return mean, ((vectors * spread.rsqrt()) @ vectors.t()).to(rows)


def build(image_address: str = LITE0, text_address: str = MINILM, **fields: Any) -> ASIF:
    """An ASIF over two pretrained towers, without pairs yet. `fields` are further entries of `ASIFConfig`."""
    return ASIF.new(ASIFConfig(image_address=image_address, text_address=text_address, **fields))
