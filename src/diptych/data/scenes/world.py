"""What a scene is made of. A scene says everything about its picture; nothing in it depends on how it is drawn.

Space: x to the right and y away from the viewer lie on the ground, z points up; lengths are in world units (a large
thing is 1.4 high). Things stand on the ground.
"""

from __future__ import annotations

from dataclasses import dataclass

SHAPES = ("cube", "sphere", "cylinder", "cone")
COLORS: dict[str, tuple[int, int, int]] = {  # sRGB
    "gray": (110, 110, 110),
    "red": (200, 45, 45),
    "blue": (45, 85, 210),
    "green": (40, 140, 45),
    "brown": (125, 75, 35),
    "purple": (135, 50, 190),
    "cyan": (50, 205, 210),
    "yellow": (250, 225, 55),
}
MATERIALS = ("rubber", "metal")
SIZES: dict[str, float] = {"small": 0.7, "large": 1.4}  # heights, in world units
STYLES = ("photo", "flat", "sketch")
BACKGROUNDS = ("plain", "checker", "wood", "sand", "grass", "stone")  # textures of the ground
ATTRIBUTES = ("size", "color", "material", "shape")  # in the order in which English names them
VALUES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "color": tuple(COLORS),
    "material": MATERIALS,
    "shape": SHAPES,
}
RELATION_MARGIN = 0.35
"""Any two things of a scene differ by at least this in x and in y, and stand in the same order in the picture, so that
left (smaller x), right, front (smaller y) and behind are never in doubt. World units."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. `x` and `y` are where its centre stands on the ground; `turn` is its rotation, in radians."""

    shape: str
    color: str
    material: str
    size: str
    x: float
    y: float
    turn: float = 0.0

    @property
    def height(self) -> float:
        """In world units; every shape is as wide and deep as it is high."""
        return SIZES[self.size]

    @property
    def name(self) -> str:
        """In words: "large red metal cube"."""
        return f"{self.size} {self.color} {self.material} {self.shape}"


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera above all things that looks at the point `target`, not straight down; `fov` is the field of view
    across the square picture, in degrees.
    """

    position: tuple[float, float, float] = (0.0, -7.4, 4.7)
    target: tuple[float, float, float] = (0.0, 0.2, 0.3)
    fov: float = 40.0


@dataclass(frozen=True, slots=True)
class Light:
    """A lamp with an extent, which is what makes shadows soft. `radius` is in world units.

    Lamps hang above all things; one that is lower than 2 is drawn at 2.
    """

    position: tuple[float, float, float] = (-4.0, -5.0, 8.0)
    radius: float = 0.8
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything in one picture, things in no particular order."""

    things: tuple[Thing, ...]
    camera: Camera = Camera()
    lights: tuple[Light, ...] = (Light(),)
    background: str = "plain"
    style: str = "photo"
