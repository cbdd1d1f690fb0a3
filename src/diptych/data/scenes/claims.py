"""What a caption of the world claims, and whether it is true: things, how they stand, and the ground.

Captions that a model wrote are read too, however broken: what makes no sense is left unread and counted. A claim is
read as it stands, so that a caption that says little but nothing false is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from diptych.data.scenes.captions import LIE, NOUNS
from diptych.data.scenes.referring import EXTREMES, is_outermost
from diptych.data.scenes.relations import PREDICATES, Facts, members, relations_of
from diptych.data.scenes.words import DIRECTIONS, GROUNDS, NUMBERS, SYNONYMS
from diptych.data.scenes.world import SHAPES, VALUES, Scene

MOST = 1000  # words of a caption that are read

Tuples = set[tuple[str, ...]]
Words = tuple[str, ...]


@dataclass(frozen=True)
class Claimed:
    """Some things of one kind: "two red cubes". No thing has two colors, so "red blue cube" is never true.

    Attributes:
        values: what all of them have in common.
        count: how many there are at least.
    """

    values: frozenset[str]
    count: int = 1

    @property
    def shape(self) -> str | None:
        """The shape, if one is named."""
        return next((value for value in SHAPES if value in self.values), None)


class Standing(NamedTuple):
    """`first` stands in `direction` of `second`; of everything else, if that is None ("closest to the camera")."""

    first: Claimed
    direction: str
    second: Claimed | None


@dataclass
class Reading:
    """What a caption says.

    Attributes:
        things: every thing that it introduces. "The cube" and "the two cubes" were named before, if those fit.
        standings: how things stand.
        grounds: textures of the ground.
        words: how many words there are, up to `MOST`.
        unread: those that are in no claim and no part of a sentence of this world.
    """

    things: list[Claimed] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)
    grounds: list[str] = field(default_factory=list)
    words: int = 0
    unread: list[str] = field(default_factory=list)

    def tuples(self) -> Tuples:
        """(shape), (shape, attribute), (shape, predicate, shape), as SPICE has them; a thing without shape has none."""
        found: Tuples = set()
        for thing in self.things:
            if thing.shape:
                found |= {(thing.shape,), *((thing.shape, value) for value in thing.values - {thing.shape})}
        for first, direction, second in self.standings:
            if second is not None and first.shape and second.shape:
                found.add((first.shape, PREDICATES[direction], second.shape))
        return found


@dataclass(frozen=True)
class Claims:
    """How much of a caption is true of a scene, in counts.

    Attributes:
        things_claimed, things_right: each of "two red cubes" counts. One thing of the scene stands for one claim.
        relations_claimed, relations_right: each looked at by itself: some such things stand so.
        grounds_claimed, grounds_right: usually one.
        scene_things: how many things there are.
        scene_things_described: those that a right claim with a shape can be about.
        words: how many the caption has.
        unread: words that made no sense.
    """

    things_claimed: int
    things_right: int
    relations_claimed: int
    relations_right: int
    grounds_claimed: int
    grounds_right: int
    scene_things: int
    scene_things_described: int
    words: int
    unread: tuple[str, ...]

    @property
    def claimed(self) -> int:
        """Claims of all kinds."""
        return self.things_claimed + self.relations_claimed + self.grounds_claimed

    @property
    def right(self) -> int:
        """Claims of all kinds that are true."""
        return self.things_right + self.relations_right + self.grounds_right


def check(caption: str | Reading, scene: Scene) -> Claims:
    """Compare what a caption says with the scene.

    Deviation: a number is read as "at least so many"; "a few" and other plurals as at least two.
    """
    said = read(caption) if isinstance(caption, str) else caption
    facts = Facts(scene)
    return Claims(
        sum(thing.count for thing in said.things),
        _matched(said.things, facts),
        len(said.standings),
        sum(_holds(standing, facts) for standing in said.standings),
        len(said.grounds),
        sum(ground == scene.background for ground in said.grounds),
        facts.count,
        _matched([thing for thing in said.things if thing.shape], facts),
        said.words,
        tuple(said.unread),
    )


def scene_tuples(scene: Scene) -> Tuples:
    """The scene graph as `Reading.tuples` has a caption: its things, their attributes and every relation that holds."""
    found: Tuples = set()
    for thing in scene.things:
        found |= {(thing.shape,), *((thing.shape, value) for value in (thing.size, thing.color, thing.material))}
    for relation in relations_of(Facts(scene)):
        found.add((scene.things[relation.subject].shape, relation.predicate, scene.things[relation.object].shape))
    return found


def _matched(things: Sequence[Claimed], facts: Facts) -> int:
    """How many claimed things can have a thing of the scene each: a maximum matching, by augmenting paths."""
    owner: dict[int, int] = {}
    fitting = [facts.with_all(thing.values) for thing in things for _ in range(min(thing.count, facts.count))]

    def place(claim: int, tried: set[int]) -> bool:
        for i in members(fitting[claim]):
            if i not in tried:
                tried.add(i)
                if i not in owner or place(owner[i], tried):
                    owner[i] = claim
                    return True
        return False

    return sum(place(claim, set()) for claim in range(len(fitting)))


def _holds(standing: Standing, facts: Facts) -> bool:
    first, direction, second = standing
    if second is not None:
        return facts.some_stand(first.values, direction, second.values)
    candidates = members(facts.with_all(first.values))
    return any(is_outermost(facts, i, direction, facts.all & ~(1 << i)) for i in candidates)


# ---------------------------------------------------------------- reading


def read(caption: str) -> Reading:
    """The claims of a caption; never fails, whatever the text."""
    words = _WORD.findall(caption.lower())[:MOST]
    found = Reading(words=sum(word not in _STOPS for word in words))
    sentence: list[str] = []
    for word in (*words, "."):
        if word in _STOPS:
            _Sentence(sentence, found).read()
            sentence = []
        else:
            sentence.append(word)
    return found


class _Sentence:
    """One sentence, read from left to right."""

    def __init__(self, words: Sequence[str], found: Reading) -> None:
        self.words, self.found = words, found
        self.last: Claimed | None = None  # the thing named last
        self.waiting: tuple[Claimed, str, Words] | None = (
            None  # a thing and the direction in which it stands of the next
        )
        self.row: tuple[str, Claimed | None] | None = None  # the direction in which things are listed, and the last one
        self._clear()

    def _clear(self) -> None:
        self.count: int | None = None
        self.known = False  # "the": perhaps named before
        self.values: set[str] = set()
        self.pending: list[str] = []  # adjectives whose noun is still to come

    def read(self) -> None:
        at = 0
        while at < len(self.words):
            phrase = next(
                (p for p in _PHRASES.get(self.words[at], ()) if tuple(self.words[at : at + len(p)]) == p), None
            )
            if phrase is None:
                self._word(self.words[at])
                at += 1
            else:
                self._phrase(phrase)
                at += len(phrase)
        self._drop()
        if self.waiting is not None:
            self.found.unread += self.waiting[2]

    def _word(self, word: str) -> None:
        if word in _DETERMINER:
            known = word == "the" or (self.known and not self.pending)  # "the two cubes"
            self._drop()
            self.count, self.known = _DETERMINER[word], known
        elif word in _ADJECTIVE:
            self.values.add(_ADJECTIVE[word])
            self.pending.append(word)
        elif word in _NOUN:
            value, plural = _NOUN[word]
            self._thing(frozenset(self.values | ({value} if value else set())), plural)
        elif word not in _FILLERS:
            self._drop()
            self.found.unread.append(word)

    def _drop(self) -> None:
        """Adjectives without a noun say nothing."""
        self.found.unread += self.pending
        self._clear()

    def _thing(self, values: frozenset[str], plural: bool) -> None:
        if self.count == 0:  # a caption of this world says what there is
            self.found.unread += ["no", *self.pending]
            self._clear()
            return
        thing = Claimed(values, self.count or (2 if plural else 1))
        named = sum(before.count for before in self.found.things if values <= before.values)
        if not (self.known and named >= (self.count or 1)):
            self.found.things.append(thing)
        if self.waiting is not None:
            self.found.standings.append(Standing(*self.waiting[:2], thing))
            self.waiting = None
        if self.row is not None:
            direction, before = self.row
            if before is not None:
                self.found.standings.append(Standing(before, direction, thing))
            self.row = direction, thing
        self.last = thing
        self._clear()

    def _phrase(self, phrase: Words) -> None:
        kind, value = _MEANING[phrase]
        self._drop()
        if kind == "ground":
            self.found.grounds.append(value)
        elif kind == "row":
            self.row = value, None
        elif self.last is None or self.waiting is not None:
            self.found.unread += phrase
        elif kind == "outermost":
            self.found.standings.append(Standing(self.last, value, None))
        else:
            self.waiting = self.last, value, phrase


_WORD = re.compile(r"\w+|[.!?;]")
_STOPS = frozenset(".!?;")
_DETERMINER: dict[str, int | None] = {
    **{word: count for count, word in enumerate(NUMBERS)},
    **{str(count): count for count in range(1, len(NUMBERS))},
    **dict.fromkeys(("a", "an", "single"), 1),
    **dict.fromkeys(("pair", "couple", "few", "some", "several", "number"), 2),
    "the": None,
}
_NOUN = {
    f"{word}{end}": (value, bool(end))
    for value, words in [
        *((shape, SYNONYMS[shape]) for shape in SHAPES),
        ("", (*SYNONYMS[""], *(n[:-1] for n in NOUNS))),
    ]
    for word in words
    for end in ("", "s")
}
_ADJECTIVE = {
    word: value for name in ("size", "color", "material") for value in VALUES[name] for word in SYNONYMS[value]
}
_FILLERS = frozenset(
    ("there", "is", "are", "and", "of", "stands", "stand", "simple", "colored", *" ".join(LIE).split())
)


def _meanings() -> Iterator[tuple[Words, tuple[str, str]]]:
    for direction, texts in DIRECTIONS.items():
        yield from ((tuple(text.split()), ("direction", direction)) for text in texts)
    for direction, (_, text) in EXTREMES.items():
        yield tuple(text.replace("{}", "").split()), ("outermost", direction)
    for ground, texts in GROUNDS.items():
        yield from ((tuple(text.removeprefix("a ").split()), ("ground", ground)) for text in texts)
    yield ("from", "left", "to", "right"), ("row", "left")
    yield ("from", "right", "to", "left"), ("row", "right")


_MEANING = dict(_meanings())
_PHRASES: dict[str, list[Words]] = {}  # by their first word
for _phrase in _MEANING:
    _PHRASES.setdefault(_phrase[0], []).append(_phrase)
