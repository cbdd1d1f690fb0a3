"""FCOS: finds things of given classes, and regions for the families that read a picture as regions.

pixels ─ residual network ─ pyramid, finest level ─┬─ convolutions ─ classes at each place
                                                   └─ convolutions ─┬─ how far the box's sides are
                                                                    └─ how central the place is
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from diptych.blocks.boxes import generalised_iou, suppressed
from diptych.config import strict
from diptych.models.dual_encoder import field_of, seeded
from diptych.objectives.detection import assigned, centredness, focal, places, sides
from diptych.processing import ImageConfig, ImageProcessor, Normalize
from diptych.processing.objects import ObjectProcessor
from diptych.towers import ResNetConfig
from diptych.towers.detector import APART, Detector, DetectorConfig, Found
from diptych.types import Batch, Detection, InputError, Losses

Picture = np.ndarray
"""uint8 H W 3."""


@strict
@dataclass(frozen=True)
class FCOSConfig:
    """The defaults are the paper's (Tian et al. 2019, section 4), of whose pictures the short side is 800 pixels.

    Attributes:
        detector: the network; `new` knows how many classes there are.
        overlap: of two boxes of one class that overlap by more, as intersection over union, the surer one stays.
        least: score (probability times how central) from which a thing is told of; the published code asks it of the
            probability alone.
        most: things told of in a picture.
    """

    detector: DetectorConfig = field(default_factory=DetectorConfig)
    overlap: float = 0.6
    least: float = 0.05
    most: int = 100
    image: ImageConfig = field(default_factory=lambda: ImageConfig(size=800, resize="squash"))


PRESETS: dict[str, FCOSConfig] = {
    # ours, for minutes on two cores
    "tiny": FCOSConfig(
        detector=DetectorConfig(vision=ResNetConfig(depths=(1, 1, 1), stem_width=32, block="basic"), width=64, depth=2),
        image=ImageConfig(size=64, resize="squash"),
    ),
    "r50": FCOSConfig(),
}


class FCOS(nn.Module):
    """FCOS (Tian et al. 2019); for its network and what differs see `Detector`."""

    Config = FCOSConfig
    Processor = ObjectProcessor
    PRESETS = PRESETS
    VERSION = 1
    SIDES = "images"

    def __init__(self, config: FCOSConfig, processor: ObjectProcessor | None = None) -> None:
        super().__init__()
        self.config = config
        self.processor = cast(ObjectProcessor, processor)
        self.normalize = Normalize(config.image.mean, config.image.std)
        self.detector = Detector(config.detector)

    @classmethod
    def new(cls, config: FCOSConfig, texts: Iterable[str] = (), *, names: Sequence[str] = (), seed: int = 0) -> "FCOS":
        """Fresh weights drawn from `seed`, for things of the classes `names`; texts are not needed.

        Raises `InputError` without a class.
        """
        if not names:
            raise InputError("fcos: names: expected the class of at least one thing with a box")
        config = dataclasses.replace(config, detector=dataclasses.replace(config.detector, classes=len(names)))
        with seeded(seed):
            return cls(config, ObjectProcessor(ImageProcessor(config.image), names))

    @property
    def names(self) -> list[str]:
        """The classes that it knows."""
        return self.processor.names

    def find(self, pixels: Shaped[Tensor, "B C H W"]) -> Found:
        """What the network says at each place."""
        found: Found = self.detector(self.normalize(pixels))
        return found

    def forward(self, batch: Batch) -> Losses:
        """Focal loss of the classes, 1 - GIoU of the boxes, weighted by how central, and cross-entropy of the latter.

        (Equation 2, with the improvements of the paper's later version.) Each over the places that are to tell of a
        thing. Things of no listed class are found, but not named.
        """
        found, boxes = self.find(field_of(batch, "pixels")), field_of(batch, "boxes")
        at = places(found.map.shape[2], found.map.shape[3], found.map.device)
        which = assigned(boxes, field_of(batch, "box_of"), len(batch), at)
        rows, columns = (which >= 0).nonzero(as_tuple=True)
        own = which[rows, columns]
        number = field_of(batch, "names")[own]
        wanted = torch.zeros_like(found.logits, dtype=torch.bool)
        wanted[rows[number >= 0], columns[number >= 0], number[number >= 0]] = True
        count = max(1, len(own))
        central = centredness(sides(boxes[own], at[columns]))
        overlap = generalised_iou(found.boxes[rows, columns], boxes[own])
        of_class = focal(found.logits, wanted) / count
        of_box = ((1 - overlap) * central).sum() / central.sum().clamp(min=1)
        guessed = found.central[rows, columns].float()
        of_place = F.binary_cross_entropy_with_logits(guessed, central, reduction="sum") / count
        parts = {"loss/class": of_class, "loss/box": of_box, "loss/central": of_place}
        return Losses(
            of_class + of_box + of_place,
            {name: part.detach() for name, part in parts.items()},
            stats={"things": float(len(boxes)) / max(1, len(batch))},
            terms=torch.tensor(count, device=found.map.device),
        )

    # ------------------------------------------------------------ what it can be asked

    def detect(self, pictures: Sequence[Picture], names: Sequence[str]) -> list[list[Detection]]:
        """Things of the classes `names` that it knows, in the pictures' own pixels, the surest first."""
        known = [(name, self.names.index(name)) for name in names if name in self.names]
        told = []
        for picture, scores, boxes in self._seen(pictures):
            some = []
            for name, number in known:
                sure = scores[:, number] >= self.config.least
                kept = suppressed(boxes[sure], scores[sure, number], self.config.overlap, self.config.most)
                some += _told(name, boxes[sure][kept], scores[sure, number][kept], self._corners(picture))
            told.append(sorted(some, key=lambda one: -one.score)[: self.config.most])
        return told

    def propose(self, pictures: Sequence[Picture], count: int) -> list[list[Detection]]:
        """Where things are, whatever they are, in the pictures' own pixels: `count` boxes at most, the surest first."""
        told = []
        for picture, scores, boxes in self._seen(pictures):
            surest = scores.amax(dim=1)
            kept = suppressed(boxes, surest, APART, count)
            told.append(_told("", boxes[kept], surest[kept], self._corners(picture)))
        return told

    @torch.no_grad()
    def _seen(self, pictures: Sequence[Picture]) -> list[tuple[Picture, Float[Tensor, "P K"], Float[Tensor, "P 4"]]]:
        decoded = np.stack([self.processor.decode_image(picture) for picture in pictures])
        device = next(self.parameters()).device
        found = self.find(torch.from_numpy(decoded).permute(0, 3, 1, 2).to(device))
        return list(zip(pictures, found.scores().cpu(), found.boxes.float().clamp(0, 1).cpu()))

    def _corners(self, picture: Picture) -> tuple[float, float, float, float, int, int]:
        height, width = picture.shape[:2]
        return (*self.processor.image.shown(width, height), width, height)


def _told(
    name: str,
    boxes: Float[Tensor, "K 4"],
    scores: Float[Tensor, "K"],
    shown: tuple[float, float, float, float, int, int],
) -> list[Detection]:
    """Boxes that are shares of what the model saw, in pixels of the picture."""
    left, top, right, bottom, width, height = shown
    found = []
    for score, (x0, y0, x1, y1) in zip(scores.tolist(), boxes.tolist()):
        xs = [min(float(width), max(0.0, left + x * (right - left))) for x in (x0, x1)]
        ys = [min(float(height), max(0.0, top + y * (bottom - top))) for y in (y0, y1)]
        found.append(Detection(name, score, (xs[0], ys[0], xs[1], ys[1])))
    return found
