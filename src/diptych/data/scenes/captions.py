"""Five captions of rising detail: the gist, the shapes, two things and how they stand, all colors, everything.

All of them are true. A caption that lists things lists all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from diptych.data.scenes.referring import distinguishing, in_order, outermost
from diptych.data.scenes.relations import SIDEWAYS, Facts
from diptych.data.scenes.sampling import draw
from diptych.data.scenes.words import DIRECTIONS, GROUNDS, NUMBERS, WORDINGS, Wording, a, listed, phrase, sentence
from diptych.data.scenes.world import ATTRIBUTES

TWO_THINGS, COLORS_AND_SHAPES = 2, 3  # positions in the list of captions

NOUNS = ("objects", "things", "shapes", "solids")
LIE = ("on", "standing on", "placed on", "resting on")
STANDING = ("{first} {place} {second}", "{first} stands {place} {second}", "there is {first} {place} {second}")
PAIRS_TRIED = 10


@dataclass(frozen=True, slots=True)
class Standing:
    """The caption "A red cube stands left of a blue ball" in parts, so that a negative can exchange some of them.

    Attributes:
        template: how the parts make a sentence.
        adjectives: of the first and the second thing, as worded.
        nouns: likewise.
        place: the direction, as worded.
        direction: the direction.
        first: values of the first thing that the caption names.
        second: likewise.
    """

    template: str
    adjectives: tuple[str, str]
    nouns: tuple[str, str]
    place: str
    direction: str
    first: tuple[str, str]
    second: tuple[str, str]

    def __str__(self) -> str:
        first, second = (a(f"{adjective} {noun}") for adjective, noun in zip(self.adjectives, self.nouns))
        return sentence(self.template.format(first=first, place=self.place, second=second))

    def swapped(self) -> Standing:
        """With the adjectives exchanged."""
        (x, first), (y, second) = self.first, self.second
        return replace(self, adjectives=self.adjectives[::-1], first=(y, first), second=(x, second))

    def reversed(self) -> Standing:
        """With the two things exchanged, which reverses the relation and keeps the words."""
        return replace(
            self, adjectives=self.adjectives[::-1], nouns=self.nouns[::-1], first=self.second, second=self.first
        )

    def can_swap(self, facts: Facts) -> bool:
        """Whether swapping makes a false sentence."""
        (x, first), (y, second) = self.first, self.second
        return x != y and first != second and not self.swapped().holds(facts)

    def can_reverse(self, facts: Facts) -> bool:
        """Whether reversing makes a sentence that is false and no less likely: cones are rarely before cubes."""
        likely = self.direction in SIDEWAYS or self.first[1] == self.second[1]
        return likely and not self.reversed().holds(facts)

    def holds(self, facts: Facts) -> bool:
        """Whether it is true: some such thing stands there."""
        return facts.some_stand(self.first, self.direction, self.second)


def captions_of(facts: Facts, random: Random) -> tuple[list[str], Standing | None]:
    """Five captions, and the parts of the third; they are None where no two things differ."""
    ground = draw(random, GROUNDS[facts.scene.background])
    standing = _standing(facts, random)
    words, first = draw(random, WORDINGS), facts.values[0]
    captions = [
        sentence(_gist(facts, random, ground)),
        sentence(_all(facts, random, ("shape",), ground)),
        str(standing) if standing else sentence(a(phrase(words, {"size": first["size"], "shape": first["shape"]}))),
        sentence(_all(facts, random, ("color", "shape"), ground)),
        _everything(facts, random, ground),
    ]
    return captions, standing


def _gist(facts: Facts, random: Random, ground: str) -> str:
    noun = draw(random, NOUNS)
    if facts.count == 1:
        return f"a single {noun[:-1]} {draw(random, LIE)} {ground}"
    colorful = len({values["color"] for values in facts.values} - {"gray"}) > 1
    adjective = draw(random, ("", "simple ", "colored " if colorful else ""))
    if facts.count == 2:
        amounts: tuple[str, ...] = ("two", "a pair of", "a couple of")
    elif facts.count < 5:
        amounts = ("a few", "some", NUMBERS[facts.count])
    else:
        amounts = ("several", "a number of", NUMBERS[facts.count])
    things = f"{draw(random, amounts)} {adjective}{noun}"
    return f"there are {things} on {ground}" if random.random() < 0.25 else f"{things} {draw(random, LIE)} {ground}"


def _all(facts: Facts, random: Random, pattern: tuple[str, ...], ground: str) -> str:
    """Every thing by a few attributes; equal ones are counted."""
    things, plural = _counted(facts, draw(random, WORDINGS), pattern)
    be = "are" if plural else "is"
    form = int(random.random() * 4)
    if form == 0:
        return f"there {be} {things} on {ground}"
    if form == 1:
        return f"on {ground} there {be} {things}"
    return f"{things} {draw(random, LIE)} {ground}"


def _counted(facts: Facts, words: Wording, pattern: tuple[str, ...]) -> tuple[str, bool]:
    """ "two red cubes and a blue ball", and whether the first of them is a plural."""
    numbers: dict[tuple[str, ...], int] = {}
    for values in facts.values:
        key = tuple([values[name] for name in pattern])
        numbers[key] = numbers.get(key, 0) + 1
    parts = []
    for key, number in numbers.items():
        named = phrase(words, dict(zip(pattern, key)), number > 1)
        parts.append(a(named) if number == 1 else f"{NUMBERS[number]} {named}")
    return listed(parts), next(iter(numbers.values())) > 1


def _standing(facts: Facts, random: Random) -> Standing | None:
    """Two things that differ; if it can be had, such that the same words in another order are wrong."""
    words = draw(random, WORDINGS)
    best, most, sideways = None, -1, random.random() < 0.6
    for _ in range(PAIRS_TRIED if facts.count > 1 else 0):
        i = int(random.random() * facts.count)
        j = (i + 1 + int(random.random() * (facts.count - 1))) % facts.count
        attribute = "color" if random.random() < 0.7 else "material"
        direction, opposite = ("left", "right") if sideways else ("front", "behind")
        if facts.related[opposite][j] >> i & 1:
            direction = opposite
        first, second = ((facts.values[k][attribute], facts.values[k]["shape"]) for k in (i, j))
        if not facts.related[direction][j] >> i & 1 or first == second:
            continue
        found = Standing(
            draw(random, STANDING),
            (words[first[0]], words[second[0]]),
            (words[first[1]], words[second[1]]),
            draw(random, DIRECTIONS[direction]),
            direction,
            first,
            second,
        )
        worth = found.can_swap(facts) + found.can_reverse(facts)
        if worth > most:
            best, most = found, worth
        if worth == 2 or (worth == 1 and not sideways):
            break
    return best


def _everything(facts: Facts, random: Random, ground: str) -> str:
    """All attributes of all things, and how some of them stand."""
    words = draw(random, WORDINGS)
    order = in_order(facts, "left") if facts.count > 1 and random.random() < 0.4 else None
    if order is not None:
        things = listed([a(phrase(words, facts.values[i])) for i in order])
        text = sentence(f"on {ground} there are, from left to right, {things}")
        front = outermost(facts, "front")
        own = None if front is None else distinguishing(facts, front)
        return text if own is None else f"{text} {sentence(f'the {phrase(words, own)} is closest to the camera')}"
    things, plural = _counted(facts, words, ATTRIBUTES)
    text = sentence(f"on {ground} there {'are' if plural else 'is'} {things}")
    claims = []
    known = [(i, own) for i in range(facts.count) if (own := distinguishing(facts, i)) is not None]
    for direction in (draw(random, ("left", "right")), draw(random, ("front", "behind"))):
        if len(known) > 1:
            at = int(random.random() * len(known))
            (i, first), (j, second) = known[at], known[at - 1]
            if facts.related[direction][j] >> i & 1:
                place = draw(random, DIRECTIONS[direction])
                claims.append(f"the {phrase(words, first)} is {place} the {phrase(words, second)}")
    return f"{text} {sentence(', and '.join(claims))}" if claims else text
