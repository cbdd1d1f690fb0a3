"""Hard negatives of captions after ARO (Yuksekgonul et al. 2023, arXiv:2210.01936): the same words in another order.

"attributes swapped" and "relation reversed" are sentences that say something false of the scene; the four shuffles of
ARO's order test are no sentences. No negative can be told from its caption by a bag of words, nor can the first two by
any text alone.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from diptych.data.scenes.captions import COLORS_AND_SHAPES, TWO_THINGS, Standing
from diptych.data.scenes.relations import Facts
from diptych.data.scenes.words import GROUNDS, NUMBERS, SYNONYMS
from diptych.data.scenes.world import COLORS, SHAPES
from diptych.types import Negative

THINGS = frozenset(f"{noun}{end}" for shape in SHAPES for noun in SYNONYMS[shape] for end in ("", "s"))
CONTENT = (
    THINGS | COLORS.keys() | {word for names in GROUNDS.values() for name in names for word in name.split()} - {"a"}
)
DETERMINERS = frozenset(("a", *NUMBERS))
SHUFFLES_TRIED = 8

Words = list[str]
T = TypeVar("T")


def negatives_of(facts: Facts, captions: list[str], standing: Standing | None, random: Random) -> list[Negative]:
    """Negatives of the captions of `captions_of`; a kind is left out where the scene makes it true or gives none."""
    negatives = []
    if standing is not None:
        if standing.can_swap(facts):
            negatives.append(Negative(str(standing.swapped()), "attributes swapped", TWO_THINGS))
        if standing.can_reverse(facts):
            negatives.append(Negative(str(standing.reversed()), "relation reversed", TWO_THINGS))
    words, commas = _words(captions[COLORS_AND_SHAPES])
    for kind, shuffle in SHUFFLES.items():
        for _ in range(SHUFFLES_TRIED):
            mixed = shuffle(words, random)
            if _broken(mixed):
                negatives.append(Negative(_text(mixed, commas), kind, COLORS_AND_SHAPES))
                break
    return negatives


def _content(words: Words, random: Random) -> Words:
    return _permuted(words, [i for i, word in enumerate(words) if word in CONTENT], random)


def _others(words: Words, random: Random) -> Words:
    return _permuted(words, [i for i, word in enumerate(words) if word not in CONTENT], random)


def _within_threes(words: Words, random: Random) -> Words:
    return [word for three in _threes(words) for word in _shuffled(three, random)]


def _threes_as_wholes(words: Words, random: Random) -> Words:
    return [word for three in _shuffled(_threes(words), random) for word in three]


SHUFFLES: dict[str, Callable[[Words, Random], Words]] = {
    "nouns and adjectives shuffled": _content,
    "other words shuffled": _others,
    "words shuffled within trigrams": _within_threes,
    "trigrams shuffled": _threes_as_wholes,
}


def _broken(words: Words) -> bool:
    """Whether some color is without its article or number before it or without its thing after it.

    The captions that are shuffled have both everywhere, so that a broken one is none of them, whatever the scene.
    """
    return any(
        word in COLORS
        and (i == 0 or words[i - 1] not in DETERMINERS or i + 1 == len(words) or words[i + 1] not in THINGS)
        for i, word in enumerate(words)
    )


def _words(caption: str) -> tuple[Words, list[bool]]:
    """The words without capital and full stop, and after which of them a comma stands."""
    words = f"{caption[0].lower()}{caption[1:-1]}".split()
    return [word.rstrip(",") for word in words], [word.endswith(",") for word in words]


def _text(words: Words, commas: list[bool]) -> str:
    text = " ".join(f"{word}," if comma else word for word, comma in zip(words, commas))
    return f"{text[0].upper()}{text[1:]}."


def _permuted(words: Words, places: list[int], random: Random) -> Words:
    result = list(words)
    for place, word in zip(places, _shuffled([words[i] for i in places], random)):
        result[place] = word
    return result


def _threes(words: Words) -> list[Words]:
    return [words[i : i + 3] for i in range(0, len(words), 3)]


def _shuffled(values: list[T], random: Random) -> list[T]:
    return sorted(values, key=lambda _: random.random())
