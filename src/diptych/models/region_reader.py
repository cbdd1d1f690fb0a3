"""Where VisualBERT's and ViLBERT's regions come from: the cells of a tower's grid, or what a trained detector finds."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from diptych import models
from diptych.config import strict
from diptych.models.dual_encoder import field_of, seeded
from diptych.models.fcos import FCOS
from diptych.models.fusion import HeadsConfig
from diptych.models.letters import grid_of
from diptych.processing import ImageConfig, ImageProcessor, Normalize, TextProcessor
from diptych.processing.fusion import FusionProcessor
from diptych.towers import ResNetConfig, VisionConfig, build_vision, fingerprint, load_vision
from diptych.towers.detector import DetectedRegions, DetectorConfig
from diptych.towers.regions import GridRegions, Regions, packed, unpacked
from diptych.types import Batch, InputError


@strict
@dataclass(frozen=True)
class RegionsConfig:
    """What finds regions in a picture.

    Attributes:
        vision: a tower with a grid, whose cells are the regions; it trains with the rest, unless `training.groups` say
            otherwise.
        vision_address: where `new` takes pretrained weights of the tower from.
        detector: a detector, whose surest `count` boxes are the regions, in the place of the tower. It stays as it is,
            so that its regions are computed once and kept.
        detector_address: where `new` takes it from: the folder of a trained `fcos`, which also says how pictures are
            prepared.
    """

    vision: VisionConfig = field(default_factory=ResNetConfig)
    vision_address: str | None = None
    detector: DetectorConfig | None = None
    detector_address: str | None = None
    count: int = 20

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"RegionsConfig: count: expected 1 or more, got {self.count}")
        if self.vision_address is not None and self.detector_address is not None:
            raise InputError("RegionsConfig: expected the address of a tower or of a detector, not both")


class RegionReader(nn.Module):
    """The regions of pictures; `width` is that of their features."""

    def __init__(self, config: RegionsConfig, image: ImageConfig) -> None:
        super().__init__()
        self.normalize = Normalize(image.mean, image.std)
        self.count, self.classes = config.count, 0
        self.source: GridRegions | DetectedRegions
        if config.detector is None:
            self.source = GridRegions(build_vision(config.vision))
        else:
            self.source = DetectedRegions(config.detector, config.count)
            self.classes = config.detector.classes + 1  # and nothing of them

    def forward(self, pixels: Shaped[Tensor, "N C H W"]) -> Regions:
        found: Regions = self.source(self.normalize(pixels))
        return found

    def of(self, batch: Batch) -> Regions:
        """The regions of a batch's pictures, which may have been found before."""
        if batch.image_features is not None:
            return unpacked(batch.image_features, self.count, self.classes)
        found: Regions = self(field_of(batch, "pixels"))
        return found


class ReadsRegions:
    """What a family has whose pictures are read as regions; `regions` is None where features come from elsewhere.

    Where a detector finds them its features can be kept (`HasFrozenImageTower`); the methods are not there otherwise.
    """

    regions: RegionReader | None

    def hide_cache(self) -> None:
        """Take the methods away again where regions are not a detector's."""
        if self.regions is None or not self.regions.classes:
            self.image_features = self.image_tower_fingerprint = None  # type: ignore[method-assign, assignment]

    def source(self) -> RegionReader:
        """Raises `InputError` without one."""
        if self.regions is None:
            raise InputError("model: expected one that finds regions in pictures; this one is given their features")
        return self.regions

    @torch.no_grad()
    def image_features(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """All that the detector says of each picture's regions, in one row."""
        return packed(self.source()(pixels))

    def image_tower_fingerprint(self) -> str:
        """A hash of the detector's weights, and of how many regions are taken."""
        return f"{fingerprint(self.source())}-{self.source().count}"


def new(family: Any, config: Any, texts: Iterable[str], answers: Sequence[str], seed: int, context_length: int) -> Any:
    """A model of such a family with fresh weights drawn from `seed`, a tokenizer learnt from `texts`, and `answers`.

    A tower or detector has the weights at its address, where there is one. `features`, `vocab_size` and the sizes of
    its lists in the config become what they are. Raises `InputError`, and `WeightsUnavailable`.
    """
    words = TextProcessor.train(texts, config.vocab_size, context_length, mask=True)
    regions, image, weights = _fetched(config.regions, config.image)
    heads: HeadsConfig = dataclasses.replace(config.heads_for, answers=len(answers), answers_of_two=len(answers))
    with seeded(seed):
        if regions.detector is not None:
            width = regions.detector.width
        else:
            width = grid_of(build_vision(regions.vision), image.size)[1]
        config = dataclasses.replace(
            config, regions=regions, image=image, vocab_size=words.vocab_size, heads_for=heads, features=width
        )
        model = family(config, FusionProcessor(ImageProcessor(image), words, answers))
    if weights is not None:
        reader = cast(RegionReader, model.regions)
        part = reader.source.tower if isinstance(reader.source, GridRegions) else reader.source.detector
        part.load_state_dict(weights)
    return model


def _fetched(
    config: RegionsConfig | None, image: ImageConfig
) -> tuple[RegionsConfig, ImageConfig, dict[str, Tensor] | None]:
    """The config with what is at its address, how that wants its pictures, and its weights."""
    if config is None:
        raise InputError("regions: expected a tower or a detector, so that pictures can be seen")
    if config.vision_address is not None:
        found = load_vision(config.vision_address)
        return dataclasses.replace(config, vision=found.config), ImageConfig(**found.image), found.state_dict
    if config.detector_address is not None:
        model = models.load(config.detector_address)
        if not isinstance(model, FCOS):
            raise InputError(f"regions.detector_address: expected an fcos, got {type(model).__name__}")
        config = dataclasses.replace(config, detector=model.config.detector)
        return config, model.config.image, model.detector.state_dict()
    if config.detector is not None:
        raise InputError("regions.detector: expected an address, because a detector is trained before")
    return config, image, None
