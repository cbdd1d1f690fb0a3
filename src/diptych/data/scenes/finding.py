"""Scenes on order: drawn until one fits."""

from __future__ import annotations

from collections.abc import Callable

from diptych.data.scenes.dials import Dials
from diptych.data.scenes.relations import Facts
from diptych.data.scenes.sampling import sample_scene
from diptych.types import InputError

DRAWN = 1000


def scene_where(fits: Callable[[Facts], bool], dials: Dials, index: int, purpose: str, wanted: str) -> Facts:
    """The first of the scenes of this purpose that fits.

    Raises:
        InputError: none of the first 1000 does, because the dials rule it out; the sentence names what was `wanted`.
    """
    for i in range(DRAWN):
        facts = Facts(sample_scene(dials, index, f"{purpose} {i}"))
        if fits(facts):
            return facts
    raise InputError(
        f"scenes: task={dials.task}: none of {DRAWN} scenes has {wanted}; change objects, bias or held_out"
    )
