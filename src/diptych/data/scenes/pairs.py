"""Statements about two pictures after NLVR2 (Suhr et al. 2019, arXiv:1811.00491): true of one pair, false of another.

A statement is drawn without looking at any scene; then scenes are drawn until a pair makes it true and a pair makes it
false. Samples 2 k and 2 k + 1 carry them, in random order, so that the statement alone tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from diptych.data.scenes.dials import Dials
from diptych.data.scenes.labels import Composite, sample_id
from diptych.data.scenes.relations import PREDICATES, Facts
from diptych.data.scenes.sampling import draw, generator, sample_scene
from diptych.data.scenes.words import DIRECTIONS, NUMBERS, WORDINGS, a, phrase, sentence
from diptych.data.scenes.world import VALUES, Scene
from diptych.types import InputError, Question, Sample

Judge = Callable[[Facts, Facts], bool]  # whether a statement is true of a left and a right picture
Statement = tuple[str, Judge]

NAMED = (("color",), ("shape",), ("size", "shape"), ("material", "shape"), ("material",))
SCENES_DRAWN = 100  # for a group, and tried with each of its statements
STATEMENTS_TRIED = 100


def pair(dials: Dials, index: int) -> Composite:
    """Sample `index`: two scenes, left and right, and a statement that is "True" or "False" of them."""
    statement, pairs = _both(dials, index // 2)
    random = generator(dials, index // 2, "pair order")
    label = (random.random() < 0.5) == (index % 2 == 0)
    question = Question(statement, [str(label)], "nlvr2", "statement")
    sample = Sample(
        id=sample_id(dials, index), questions=[question], group=f"statement-{dials.split}-{dials.seed}-{index // 2}"
    )
    return Composite(list(pairs[label]), sample)


def _both(dials: Dials, group: int) -> tuple[str, dict[bool, tuple[Scene, Scene]]]:
    """A statement and, by its truth, a pair of scenes."""
    random = generator(dials, group, "statement")
    drawn: list[Facts] = []
    for _ in range(STATEMENTS_TRIED):
        text, judge = _statement(random)
        found: dict[bool, tuple[Scene, Scene]] = {}
        for i in range(SCENES_DRAWN):
            if i == len(drawn):
                drawn.append(Facts(sample_scene(dials, group, f"pair {i}")))
            if i:
                left, right = drawn[i - 1], drawn[i]
                found.setdefault(judge(left, right), (left.scene, right.scene))
            if len(found) == 2:
                return text, found
    raise InputError(
        "scenes: task=pairs: no statement is true of some scenes and false of others; change objects, bias or held_out"
    )


def _statement(random: Random) -> Statement:
    """A statement about two pictures, all kinds and values equally likely."""
    words = draw(random, WORDINGS)
    names = draw(random, NAMED)
    values = {name: draw(random, VALUES[name]) for name in names}
    return draw(random, KINDS)(random, values, a(phrase(words, values)), phrase(words, values, True))


def _number(facts: Facts, values: dict[str, str]) -> int:
    return facts.with_all(values.values()).bit_count()


def _in_all(random: Random, values: dict[str, str], one: str, many: str) -> Statement:
    least = draw(random, (1, 2, 3))
    text = (
        f"there are at least {NUMBERS[least]} {many} in the two pictures together"
        if least > 1
        else f"there is {one} in at least one of the pictures"
    )
    return sentence(text), lambda x, y: _number(x, values) + _number(y, values) >= least


def _both_have(random: Random, values: dict[str, str], one: str, many: str) -> Statement:
    text = draw(random, ("both pictures show {}", "there is {} in each picture", "each of the pictures contains {}"))
    return sentence(text.format(one)), lambda x, y: _number(x, values) > 0 and _number(y, values) > 0


def _one_has(random: Random, values: dict[str, str], one: str, many: str) -> Statement:
    text = draw(random, ("only one of the pictures shows {}", "exactly one picture contains {}"))
    return sentence(text.format(one)), lambda x, y: (_number(x, values) > 0) != (_number(y, values) > 0)


def _more(random: Random, values: dict[str, str], one: str, many: str) -> Statement:
    first, second = draw(random, (("left", "right"), ("right", "left")))
    text = f"the {first} picture contains more {many} than the {second} one"
    sign = 1 if first == "left" else -1
    return sentence(text), lambda x, y: sign * (_number(x, values) - _number(y, values)) > 0


def _as_many(random: Random, values: dict[str, str], one: str, many: str) -> Statement:
    text = draw(
        random,
        ("there are as many {} in the left picture as in the right one", "both pictures have the same number of {}"),
    )
    return sentence(text.format(many)), lambda x, y: _number(x, values) == _number(y, values)


def _stands(random: Random, values: dict[str, str], one: str, many: str) -> Statement:
    direction = draw(random, tuple(PREDICATES))
    side = draw(random, ("left", "right"))
    other = {"color": draw(random, VALUES["color"])} if "shape" in values else {"shape": draw(random, VALUES["shape"])}
    place = f"{draw(random, DIRECTIONS[direction])} {a(phrase(draw(random, WORDINGS), other))}"
    text = f"in the {side} picture there is {one} {place}"

    def judge(x: Facts, y: Facts) -> bool:
        return (x if side == "left" else y).some_stand(values.values(), direction, other.values())

    return sentence(text), judge


KINDS = (_in_all, _both_have, _one_has, _more, _as_many, _stands)
