"""English for things: which words a value has, noun phrases, lists, numbers, grounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from diptych.data.scenes.sampling import draw
from diptych.data.scenes.world import COLORS

SYNONYMS: dict[str, tuple[str, ...]] = {
    "large": ("large", "big"),
    "small": ("small", "little"),
    "metal": ("metal", "metallic", "shiny"),
    "rubber": ("rubber", "matte"),
    "cube": ("cube", "block"),
    "sphere": ("sphere", "ball"),
    "cylinder": ("cylinder",),
    "cone": ("cone",),
    "": ("thing", "object"),  # the noun where no shape is named
    **{color: (color,) for color in COLORS},
}

DIRECTIONS: dict[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "front": ("in front of",),
    "behind": ("behind",),
}

GROUNDS: dict[str, tuple[str, ...]] = {
    "plain": ("a plain floor", "a bare surface"),
    "checker": ("a checkered floor", "a checkerboard"),
    "wood": ("a wooden floor", "wooden boards"),
    "sand": ("sand", "a sandy ground"),
    "grass": ("grass", "a lawn"),
    "stone": ("a stone floor", "gray stone"),
}

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

BEFORE_COLOR = ("shiny", "matte")
SHINY_ORDER = ("size", "material", "color")  # "a large shiny red cube"
METAL_ORDER = ("size", "color", "material")  # "a large red metal cube"


def phrase(random: Random, values: Mapping[str, str], plural: bool = False) -> str:
    """A noun phrase without article for some values (attribute -> value): "large shiny red cube", "blue things"."""
    word = {attribute: draw(random, SYNONYMS[value]) for attribute, value in values.items() if attribute != "shape"}
    order = SHINY_ORDER if word.get("material") in BEFORE_COLOR else METAL_ORDER
    noun = draw(random, SYNONYMS[values.get("shape", "")])
    return " ".join([*(word[attribute] for attribute in order if attribute in word), f"{noun}s" if plural else noun])


def a(words: str) -> str:
    """With the indefinite article: "a red cube", "an object"."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def listed(parts: Sequence[str]) -> str:
    """ "x", "x and y", "x, y and z"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
