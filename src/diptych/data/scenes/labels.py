"""What the language of the world hands on to whoever draws the pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from diptych.data.scenes.dials import Dials
from diptych.data.scenes.world import Scene
from diptych.types import Negative, Question, Region, Relation, Sample


@dataclass(slots=True)
class Described:
    """All that is said of one scene. Positions of things are those in `Scene.things`; boxes are not known here.

    `noisy` says that the captions are those of another scene; there are no negatives then, since a negative is a change
    of a true caption.
    """

    captions: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    negatives: list[Negative] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    noisy: bool = False


@dataclass(slots=True)
class Composite:
    """A sample made of several scenes, whose pictures are to be put into `sample.images` in that order."""

    scenes: list[Scene]
    sample: Sample


def sample_id(dials: Dials, index: int) -> str:
    """What sample `index` of these dials is called."""
    return f"{dials.task}-{dials.split}-{dials.seed}-{index}"
