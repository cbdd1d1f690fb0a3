"""The pinhole camera as numbers: where a point of the world falls in the square picture."""

from __future__ import annotations

from math import radians, sqrt, tan

from diptych.data.scenes.world import Camera
from diptych.types import InputError

Vector = tuple[float, float, float]


class View:
    """A camera's axes. `right`, `up` and `forward` are of length 1; `slope` is tan(fov / 2)."""

    __slots__ = ("forward", "position", "right", "slope", "up")

    def __init__(self, camera: Camera) -> None:
        px, py, pz = self.position = camera.position
        tx, ty, tz = camera.target
        if (px, py) == (tx, ty):
            raise InputError(f"camera: expected one that does not look straight down, got {camera.position}")
        fx, fy, fz = _unit((tx - px, ty - py, tz - pz))
        rx, ry, _ = self.right = _unit((fy, -fx, 0.0))
        self.forward = (fx, fy, fz)
        self.up = (ry * fz, -rx * fz, rx * fy - ry * fx)
        self.slope = tan(radians(camera.fov) / 2)

    def project(self, x: float, y: float, z: float) -> Vector:
        """(u, v, depth): u to the right and v down, in -1..1 inside the picture; depth along the line of sight."""
        dx, dy, dz = x - self.position[0], y - self.position[1], z - self.position[2]
        depth = dx * self.forward[0] + dy * self.forward[1] + dz * self.forward[2]
        scale = 1.0 / (depth * self.slope)
        u = (dx * self.right[0] + dy * self.right[1]) * scale
        v = (dx * self.up[0] + dy * self.up[1] + dz * self.up[2]) * scale
        return u, -v, depth


def _unit(v: Vector) -> Vector:
    length = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    return v[0] / length, v[1] / length, v[2] / length
