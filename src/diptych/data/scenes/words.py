"""English for things: which words a value has, noun phrases, lists, numbers, grounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from diptych.data.scenes.relations import ATTRIBUTE_OF
from diptych.data.scenes.world import COLORS, SHAPES

SYNONYMS: dict[str, tuple[str, ...]] = {
    "large": ("large", "big"),
    "small": ("small", "little"),
    "metal": ("metal", "metallic", "shiny"),
    "rubber": ("rubber", "matte"),
    "cube": ("cube", "block"),
    "sphere": ("sphere", "ball"),
    "cylinder": ("cylinder",),
    "cone": ("cone",),
    "": ("thing", "object"),
    **{color: (color,) for color in COLORS},
}

Wording = Mapping[str, str]  # value -> the word for it; "" -> the noun where no shape is named

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
    "stone": ("a stone floor", "stone tiles"),
}

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

BEFORE_COLOR = ("shiny", "matte")
SHINY_ORDER = ("size", "material", "color")  # "a large shiny red cube"
METAL_ORDER = ("size", "color", "material")  # "a large red metal cube"


def _wordings() -> tuple[Wording, ...]:
    return tuple(dict(zip(SYNONYMS, words)) for words in product(*SYNONYMS.values()))


WORDINGS = _wordings()
"""Every choice of one word a value. A text keeps to one of them, as people do."""


def phrase(words: Wording, values: Mapping[str, str], plural: bool = False) -> str:
    """A noun phrase without article for some values (attribute -> value): "large shiny red cube", "blue things"."""
    order = SHINY_ORDER if words[values.get("material", "")] in BEFORE_COLOR else METAL_ORDER
    parts = [words[values[attribute]] for attribute in order if attribute in values]
    noun = words[values.get("shape", "")]
    return " ".join([*parts, f"{noun}s" if plural else noun])


def a(words: str) -> str:
    """With the indefinite article: "a red cube", "an object"."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def listed(parts: Sequence[str]) -> str:
    """ "x", "x and y", "x, y and z"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def read_phrase(text: str) -> dict[str, str] | None:
    """The values that a noun phrase names (attribute -> value), whatever the wording; None if it is none."""
    *adjectives, noun = text.split() or [""]
    if noun not in _NOUN or any(word not in _ADJECTIVE for word in adjectives):
        return None
    found = [*(_ADJECTIVE[word] for word in adjectives), _NOUN[noun]]
    return {ATTRIBUTE_OF[value]: value for value in found if value}


_NOUN = {word: value for value in ("", *SHAPES) for word in SYNONYMS[value]}
_ADJECTIVE = {word: value for value, words in SYNONYMS.items() for word in words if word not in _NOUN}
