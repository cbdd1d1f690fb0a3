"""Questions whose text says nothing about their answer, and nonsense twins whose text says nothing about their sense.

How the balance comes about. A scene's attributes are drawn independently and uniformly, so that the values of an
attribute can be swapped throughout the world without changing how likely a scene is. Two texts of one *pattern* (which
attributes they name, which direction) are then equally likely for any given answer, as long as nothing here treats one
value differently from another; so it is enough that answers are equally likely given the pattern. Which they are:

- a question for an attribute chooses its thing without looking at that attribute, nor does it name any value of it;
- elsewhere a pattern is used only if the scene has a text of it for *every* possible answer; then the answer is drawn,
  then the text. A scene that lacks one answer leaves the pattern out for all of them;
- a question with a presupposition is asked only together with a nonsense twin of the same pattern;
- no text names one value twice (a second red thing is rarer than a first);
- places depend on sizes and shapes: a cube is rarely before a cone, which it would hide. So no text about places names
  a size, and shapes are named only where they cannot tell: to the left and right, between which the world is symmetric,
  of things of one shape, or of what both possible answers are told beside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from random import Random
from typing import TypeVar

from diptych.data.scenes.programs import Program
from diptych.data.scenes.relations import CONVERSE, PREDICATES, SIDEWAYS, Facts, members
from diptych.data.scenes.sampling import draw
from diptych.data.scenes.words import DIRECTIONS, WORDINGS, Wording, a, phrase
from diptych.data.scenes.world import ATTRIBUTES, VALUES
from diptych.types import Question

Pattern = tuple[str, ...]  # attributes that a phrase names
Key = tuple[str, ...]  # their values
Groups = dict[Key, int]  # the things of each key
T = TypeVar("T")

YES_NO = ("yes", "no")
DIRECTION_NAMES = tuple(PREDICATES)
PLACED = ("color", "material", "shape")  # attributes that texts about places may name
NAMED_WHERE = {name: PLACED if name in SIDEWAYS else PLACED[:2] for name in DIRECTION_NAMES}
"""Direction -> attributes that may be named of what stands there."""

ANSWERS: dict[str, tuple[str, ...]] = {
    "exist": YES_NO,
    "count": ("0", "1", "2"),
    "count beside": ("0", "1", "2", "3"),
    **{f"query {attribute}": VALUES[attribute] for attribute in ATTRIBUTES},
    **{f"compare {attribute}": YES_NO for attribute in ATTRIBUTES},
    "compare number": YES_NO,
    "relate": YES_NO,
    **{f"relate {attribute}": VALUES[attribute] for attribute in PLACED},
}
"""Question.kind -> the answers that are equally likely given the text."""

ASK = {
    "size": ("What size is the {}?", "How big is the {}?", "What is the size of the {}?"),
    "color": ("What color is the {}?", "What is the color of the {}?", "Which color does the {} have?"),
    "material": ("What material is the {}?", "What is the {} made of?", "Which material is the {} made of?"),
    "shape": ("What shape is the {}?", "What is the shape of the {}?", "Which shape does the {} have?"),
}
EXIST = ("Is there {one}?", "Are there any {many}?", "Can you see {one}?", "Does the picture show any {many}?")
EXIST_BESIDE = ("Is there {one} {place}?", "Are there any {many} {place}?", "Do you see {one} {place}?")
COUNT = ("How many {many} are there?", "How many {many} do you see?", "What is the number of {many}?")
COUNT_BESIDE = (
    "How many {many} are {place}?",
    "How many {many} are there {place}?",
    "What number of {many} stand {place}?",
)
SAME = ("Do the {0} and the {1} have the same {2}?", "Is the {0} of the same {2} as the {1}?")
MORE = ("Are there more {0} than {1}?", "Do you see more {0} than {1}?")
FEWER = ("Are there fewer {0} than {1}?", "Do you see fewer {0} than {1}?")
EQUAL = ("Are there as many {0} as {1}?", "Is the number of {0} the same as that of {1}?")
STAND = ("Is the {0} {1} the {2}?", "Does the {0} stand {1} the {2}?")


def _subsets(attributes: Sequence[str]) -> list[Pattern]:
    return [subset for size in range(1, len(attributes) + 1) for subset in combinations(attributes, size)]


def _without(attribute: str, attributes: Sequence[str]) -> list[str]:
    return [other for other in attributes if other != attribute]


ANY = _subsets(ATTRIBUTES)
COUNTED = [pattern for pattern in ANY if len(pattern) < 3]
PATTERNS = {attribute: _subsets(_without(attribute, ATTRIBUTES)) for attribute in ATTRIBUTES}
"""Attribute -> patterns that leave it out."""
BESIDE = {
    (direction, name): [
        (thing, anchor)
        for thing, anchor in product(_subsets(NAMED_WHERE[direction]), _subsets(PLACED))
        if len(thing) < 3 and name not in thing + anchor
    ]
    for direction in DIRECTION_NAMES
    for name in ("", *PLACED)
}
"""(direction, attribute to leave out or "") -> pairs of a thing's pattern and that of what it stands beside."""


def questions_of(facts: Facts, random: Random) -> list[Question]:
    """About ten questions of all kinds and about three nonsense twins; a twin of "q4" is "q4-nonsense".

    A kind that the scene gives no room for is left out. Answers are exact; nonsense has none.
    """
    first = int(random.random() * 4)
    second = (first + 1 + int(random.random() * 3)) % 4
    slots: list[Callable[[Facts, Random], list[Question]]] = [
        _exist,
        _exist_beside,
        _count,
        _count_beside,
        lambda f, r: _query(f, r, ATTRIBUTES[first]),
        lambda f, r: _query(f, r, ATTRIBUTES[second]),
        _compare,
        _compare_number,
        _relate,
        _query_beside,
    ]
    questions = []
    for i, slot in enumerate(slots):
        for question in slot(facts, random):
            question.id = f"q{i}" if question.answerable else f"q{i}-nonsense"
            questions.append(question)
    return questions


# ---------------------------------------------------------------- existence and number


def _exist(facts: Facts, random: Random) -> list[Question]:
    words = draw(random, WORDINGS)
    for pattern in _turned(random, ANY):
        groups = _groups(facts, pattern)
        missing = _missing(random, pattern, groups)
        if missing is None:
            continue
        yes = random.random() < 0.5
        key = draw(random, list(groups)) if yes else missing
        program = Program()
        program.add("exist", program.things(key))
        values = dict(zip(pattern, key))
        text = draw(random, EXIST).format(one=a(phrase(words, values)), many=phrase(words, values, True))
        return [_question("exist", text, program, "yes" if yes else "no")]
    return []


def _exist_beside(facts: Facts, random: Random) -> list[Question]:
    words = draw(random, WORDINGS)
    direction = draw(random, DIRECTION_NAMES)
    for pattern, beside in _some(random, BESIDE[direction, ""]):
        anchor = _anchor(facts, random, beside)
        if anchor is None:
            continue
        key, at = anchor
        groups = _groups(facts, pattern, facts.related[direction][at])
        present = [other for other in groups if not _share(other, key)]
        missing = _missing(random, pattern, groups, key)
        if not present or missing is None:
            continue
        yes = random.random() < 0.5
        chosen = draw(random, present) if yes else missing
        program = Program()
        program.add("exist", program.beside(key, direction, chosen))
        values = dict(zip(pattern, chosen))
        text = draw(random, EXIST_BESIDE).format(
            one=a(phrase(words, values)),
            many=phrase(words, values, True),
            place=_place(random, words, direction, dict(zip(beside, key))),
        )
        return [_question("exist", text, program, "yes" if yes else "no")]
    return []


def _count(facts: Facts, random: Random) -> list[Question]:
    words = draw(random, WORDINGS)
    for pattern in _turned(random, COUNTED):
        groups = _groups(facts, pattern)
        options = [
            _missing(random, pattern, groups),
            _drawn(random, _of_size(groups, 1)),
            _drawn(random, _of_size(groups, 2)),
        ]
        if None in options:
            continue
        number = int(random.random() * len(options))
        key = options[number] or ()
        program = Program()
        program.add("count", program.things(key))
        text = draw(random, COUNT).format(many=phrase(words, dict(zip(pattern, key)), True))
        return [_question("count", text, program, str(number))]
    return []


def _count_beside(facts: Facts, random: Random) -> list[Question]:
    """ "How many things are left of the red cube?", where 0 to 3 are equally likely, or "metal things", 0 to 2."""
    words = draw(random, WORDINGS)
    direction = draw(random, DIRECTION_NAMES)
    narrow = random.random() < 0.5
    for pattern in _turned(random, (("color",), ("color", "material"))[: 1 if narrow else 2]):
        single = _of_size(_groups(facts, pattern), 1)
        which = (draw(random, VALUES["material"]),) if narrow else ()
        among = facts.with_all(which)
        kind = "count" if narrow else "count beside"
        options: list[list[Key]] = [[] for _ in ANSWERS[kind]]
        for key in single:
            number = (facts.related[direction][members(facts.with_all(key))[0]] & among).bit_count()
            if number < len(options):
                options[number].append(key)
        if not all(options):
            continue
        number = int(random.random() * len(options))
        key = draw(random, options[number])
        program = Program()
        program.add("count", program.beside(key, direction, which))
        text = draw(random, COUNT_BESIDE).format(
            many=phrase(words, dict(zip(("material",), which)), True),
            place=_place(random, words, direction, dict(zip(pattern, key))),
        )
        return [_question(kind, text, program, str(number))]
    return []


# ---------------------------------------------------------------- attributes


def _query(facts: Facts, random: Random, attribute: str) -> list[Question]:
    words = draw(random, WORDINGS)
    for pattern in _turned(random, PATTERNS[attribute]):
        groups = _groups(facts, pattern)
        single = _of_size(groups, 1)
        missing = _missing(random, pattern, groups)
        if not single or missing is None:
            continue
        template = draw(random, ASK[attribute])
        twins: list[Question] = []
        for key in (draw(random, single), missing):
            program = Program()
            program.add(f"query_{attribute}", program.the(key))
            text = template.format(phrase(words, dict(zip(pattern, key))))
            answer = facts.values[members(groups[key])[0]][attribute] if key in groups else None
            twins.append(_question(f"query {attribute}", text, program, answer))
        return twins
    return []


def _query_beside(facts: Facts, random: Random) -> list[Question]:
    words = draw(random, WORDINGS)
    attribute = draw(random, PLACED)
    direction = draw(random, SIDEWAYS if attribute == "shape" else DIRECTION_NAMES)
    for pattern, beside in _some(random, BESIDE[direction, attribute]):
        anchor = _anchor(facts, random, beside)
        if anchor is None:
            continue
        key, at = anchor
        groups = _groups(facts, pattern, facts.related[direction][at])
        single = [other for other in _of_size(groups, 1) if not _share(other, key)]
        if not single:
            continue
        chosen = draw(random, single)
        # nonsense: no such thing stands there, or nothing to stand beside
        if "shape" in beside or random.random() < 0.5:
            wrong, wrong_key = _missing(random, pattern, groups, key), key
        else:
            wrong, wrong_key = chosen, _missing(random, beside, _groups(facts, beside), chosen) or ()
        if not wrong or not wrong_key:
            continue
        template = draw(random, ASK[attribute])
        twins: list[Question] = []
        for own, other in ((chosen, key), (wrong, wrong_key)):
            program = Program()
            program.add(f"query_{attribute}", program.add("unique", program.beside(other, direction, own)))
            place = _place(random, words, direction, dict(zip(beside, other)))
            text = template.format(f"{phrase(words, dict(zip(pattern, own)))} {place}")
            answer = facts.values[members(groups[chosen])[0]][attribute] if not twins else None
            twins.append(_question(f"relate {attribute}", text, program, answer))
        return twins
    return []


# ---------------------------------------------------------------- comparisons and places


def _compare(facts: Facts, random: Random) -> list[Question]:
    words = draw(random, WORDINGS)
    attribute = draw(random, ATTRIBUTES)
    for pattern in _turned(random, PATTERNS[attribute]):
        groups = _groups(facts, pattern)
        single = _of_size(groups, 1)
        pairs: tuple[list[tuple[Key, Key]], list[tuple[Key, Key]]] = ([], [])
        for first, second in combinations(single, 2):
            x, y = (facts.values[members(groups[key])[0]][attribute] for key in (first, second))
            pairs[x != y].append((first, second))
        if not all(pairs):
            continue
        differ = random.random() < 0.5
        keys = _either_way(random, draw(random, pairs[differ]))
        program = Program()
        queries = [program.add(f"query_{attribute}", program.the(key)) for key in keys]
        program.add(f"equal_{attribute}", *queries)
        named = [phrase(words, dict(zip(pattern, key))) for key in keys]
        text = draw(random, SAME).format(*named, attribute)
        return [_question(f"compare {attribute}", text, program, YES_NO[differ])]
    return []


def _compare_number(facts: Facts, random: Random) -> list[Question]:
    """Things of two values of an attribute that both occur. Where numbers are equal, neither "more" nor "fewer"."""
    words = draw(random, WORDINGS)
    for attribute in _turned(random, ATTRIBUTES):
        groups = _groups(facts, (attribute,))
        pairs: tuple[list[tuple[Key, Key]], list[tuple[Key, Key]]] = ([], [])
        for first, second in combinations(groups, 2):
            pairs[groups[first].bit_count() != groups[second].bit_count()].append((first, second))
        if not pairs[True]:
            continue
        yes = random.random() < 0.5
        if pairs[False] and random.random() < 0.5:
            function, templates = "equal_integer", EQUAL
            keys = _either_way(random, draw(random, pairs[not yes]))
        else:
            first, second = draw(random, pairs[True])
            more = random.random() < 0.5
            function, templates = ("greater_than", MORE) if more else ("less_than", FEWER)
            true = (groups[first].bit_count() > groups[second].bit_count()) == more
            keys = (first, second) if true == yes else (second, first)
        program = Program()
        program.add(function, *[program.add("count", program.things(key)) for key in keys])
        text = draw(random, templates).format(*(phrase(words, {attribute: key[0]}, True) for key in keys))
        return [_question("compare number", text, program, "yes" if yes else "no")]
    return []


def _relate(facts: Facts, random: Random) -> list[Question]:
    words = draw(random, WORDINGS)
    direction = draw(random, DIRECTION_NAMES)
    for pattern in _turned(random, _subsets(PLACED)):
        single = _of_size(_groups(facts, pattern), 1)
        if not single:
            continue
        first = draw(random, single)
        others = [key for key in single if key is not first]
        if "shape" in pattern and direction not in SIDEWAYS:
            others = [key for key in others if key[-1] == first[-1]]
        if not others:
            continue
        second = draw(random, others)
        at, anchor = (1 << members(facts.with_all(key))[0] for key in (first, second))
        stands = bool(facts.related[direction][members(anchor)[0]] & at)
        if not stands and not facts.related[CONVERSE[direction]][members(anchor)[0]] & at:
            continue
        yes = random.random() < 0.5
        asked = direction if stands == yes else CONVERSE[direction]
        program = Program()
        program.add("exist", program.beside(second, asked, first))
        named = [phrase(words, dict(zip(pattern, key))) for key in (first, second)]
        text = draw(random, STAND).format(named[0], draw(random, DIRECTIONS[asked]), named[1])
        return [_question("relate", text, program, "yes" if yes else "no")]
    return []


# ---------------------------------------------------------------- parts


def _question(kind: str, text: str, program: Program, answer: str | None) -> Question:
    return Question(text, [] if answer is None else [answer], kind, "", [], answer is not None, str(program))


def _place(random: Random, words: Wording, direction: str, anchor: dict[str, str]) -> str:
    return f"{draw(random, DIRECTIONS[direction])} the {phrase(words, anchor)}"


def _groups(facts: Facts, pattern: Pattern, among: int = -1) -> Groups:
    """The things (or those in the set `among`) by their values of a pattern."""
    found: Groups = {}
    for i, values in enumerate(facts.values):
        if among >> i & 1:
            key = tuple([values[attribute] for attribute in pattern])
            found[key] = found.get(key, 0) | 1 << i
    return found


def _of_size(groups: Groups, size: int) -> list[Key]:
    return [key for key, things in groups.items() if things.bit_count() == size]


def _missing(random: Random, pattern: Pattern, groups: Groups, unlike: Key = ()) -> Key | None:
    """Values of a pattern that nothing in `groups` has, none of them in `unlike`; all equally likely. None if none."""
    for _ in range(16):
        key = tuple([draw(random, VALUES[attribute]) for attribute in pattern])
        if key not in groups and not _share(key, unlike):
            return key
    return None


def _anchor(facts: Facts, random: Random, pattern: Pattern) -> tuple[Key, int] | None:
    """Values that tell one thing from all others, and its position."""
    groups = _groups(facts, pattern)
    key = _drawn(random, _of_size(groups, 1))
    return None if key is None else (key, members(groups[key])[0])


def _share(first: Key, second: Key) -> bool:
    return any(value in second for value in first)


def _drawn(random: Random, values: Sequence[T]) -> T | None:
    return draw(random, values) if values else None


def _either_way(random: Random, pair: tuple[T, T]) -> tuple[T, T]:
    return pair if random.random() < 0.5 else (pair[1], pair[0])


def _turned(random: Random, values: Sequence[T]) -> list[T]:
    """All values, starting at any of them."""
    start = int(random.random() * len(values))
    return [*values[start:], *values[:start]]


def _some(random: Random, values: Sequence[T]) -> list[T]:
    """A few values, to be tried in turn."""
    return [draw(random, values) for _ in range(8)]
