"""Reads what the world says, without any of its code: own vocabulary, own grammar, coordinates instead of bits."""

import re
from collections import Counter
from functools import cache

from diptych.data.scenes.describe import describe
from diptych.data.scenes.dials import dials_of
from diptych.data.scenes.sampling import sample_scene

MEANING = {
    "big": "large", "large": "large", "small": "small", "little": "small",
    "shiny": "metal", "metal": "metal", "metallic": "metal", "matte": "rubber", "rubber": "rubber",
    "block": "cube", "cube": "cube", "ball": "sphere", "sphere": "sphere", "cylinder": "cylinder", "cone": "cone",
    "thing": None, "object": None,
    **{color: color for color in ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")},
}  # fmt: skip
NOUNS = {"cube", "block", "sphere", "ball", "cylinder", "cone", "thing", "object"}
COUNTS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
GROUND = {
    "a plain floor": "plain", "a bare surface": "plain", "a checkered floor": "checker", "a checkerboard": "checker",
    "a wooden floor": "wood", "wooden boards": "wood", "sand": "sand", "a sandy ground": "sand", "grass": "grass",
    "a lawn": "grass", "a stone floor": "stone", "stone tiles": "stone",
}  # fmt: skip
PLACE = {"to the left of": "left", "left of": "left", "to the right of": "right", "right of": "right",
         "in front of": "front", "behind": "behind"}  # fmt: skip
PLACE_WORDS = "|".join(PLACE)


class Unreadable(ValueError):
    """No sentence of the world's English."""


@cache
def world(count=1500, **options):
    """[(scene, what is said of it)]; made once for all tests that ask for the same."""
    dials = dials_of({"n": str(count), **options})
    return [(scene := sample_scene(dials, i), describe(scene, dials, i)) for i in range(count)]


def things(scene, words):
    """Positions of the things that fit a noun phrase."""
    values = {MEANING[word] for word in words} - {None}
    return [i for i, t in enumerate(scene.things) if values <= {t.size, t.color, t.material, t.shape}]


def noun_phrase(text, plural=False):
    """The words of a noun phrase, the noun made singular; adjectives in English order, none twice."""
    *adjectives, noun = text.split() or [""]
    if plural:
        if not noun.endswith("s"):
            raise Unreadable(text)
        noun = noun[:-1]
    if noun not in NOUNS or any(word not in MEANING or word in NOUNS for word in adjectives):
        raise Unreadable(text)
    shiny = adjectives and ("shiny" in adjectives or "matte" in adjectives)
    order = ["large small", "metal rubber", "color"] if shiny else ["large small", "color", "metal rubber"]
    kinds = [next((k for k in order if MEANING[word] in k.split()), "color") for word in adjectives]
    if [k for k in order if k in kinds] != kinds:
        raise Unreadable(text)
    return [*adjectives, noun]


def article_phrase(text):
    """The words of "a red cube" or "an object"."""
    found = re.fullmatch(r"(an?) (.+)", text)
    if not found or (found[1] == "an") != (found[2][0] in "aeiou"):
        raise Unreadable(text)
    return noun_phrase(found[2])


def stands(scene, first, place, second):
    """Whether some thing of `first` stands in that direction of some thing of `second`; by coordinates."""
    return any(related(scene.things[i], place, scene.things[j]) for i in first for j in second)


def related(one, place, other, margin=0.35):
    return {
        "left": other.x - one.x >= margin,
        "right": one.x - other.x >= margin,
        "front": other.y - one.y >= margin,
        "behind": one.y - other.y >= margin,
    }[place]


def listing(text):
    """[(number, words)] of "two red cubes, a ball and a cone"."""
    head, last = re.fullmatch(r"(?:(.+) and )?(.+?)", text).groups()
    found = []
    for part in [*(head.split(", ") if head else []), last]:
        number, _, words = part.partition(" ")
        if number in ("a", "an"):
            found.append((1, article_phrase(part)))
        elif COUNTS.get(number, 0) > 1:
            found.append((COUNTS[number], noun_phrase(words, plural=True)))
        else:
            raise Unreadable(part)
    return found


def opened(sentence):
    """(ground or None, verb or None, in order of place or not, the rest) of a sentence that names things."""
    if not re.fullmatch(r"[A-Z][a-z, ]*[a-z]\.", sentence) or "  " in sentence:
        raise Unreadable(sentence)
    text = sentence[0].lower() + sentence[1:-1]
    verb = ordered = None
    ground = next((g for g in GROUND if text.startswith(f"on {g} there ")), None)
    if ground:
        text = text.removeprefix(f"on {ground} ")
    if found := re.match(r"there (is|are) ", text):
        verb, text = found[1], text[found.end() :]
    elif found := re.match(r"there are, from left to right, ", text):
        verb, ordered, text = "are", True, text[found.end() :]
    if ground is None and (found := re.search(rf" (?:(?:standing|placed|resting) )?on ({'|'.join(GROUND)})$", text)):
        ground, text = found[1], text[: found.start()]
    return ground, verb, ordered, text


def list_is_true(scene, sentence):
    """Whether a sentence that lists everything is exactly right: kinds, numbers, order, ground, agreement."""
    ground, verb, ordered, text = opened(sentence)
    found = listing(text)
    if ground is None or GROUND[ground] != scene.background:
        return False
    if verb and not ordered and verb != ("are" if found[0][0] > 1 else "is"):
        raise Unreadable(sentence)
    sets = [things(scene, words) for _, words in found]
    everything = sorted(i for members in sets for i in members) == list(range(len(scene.things)))
    if ordered:
        ranks = sorted(range(len(scene.things)), key=lambda i: scene.things[i].x)
        return len(ranks) == len(found) and all(n == 1 and i in s for i, s, (n, _) in zip(ranks, sets, found))
    return everything and all(len(members) == number for members, (number, _) in zip(sets, found))


def standing_is_true(scene, sentence):
    """Whether "A red cube stands left of a ball." is."""
    _, verb, _, text = opened(sentence)
    found = re.fullmatch(rf"(an? .+?)(?: stands)? ({PLACE_WORDS}) (an? .+)", text)
    if not found or verb == "are":
        raise Unreadable(sentence)
    first, second = (things(scene, article_phrase(found[k])) for k in (1, 3))
    return stands(scene, first, PLACE[found[2]], second)


def claim_is_true(scene, clause):
    """Whether "the cube is behind the ball" or "the cone is closest to the camera" is; each "the" must be unique."""
    if found := re.fullmatch(r"the (.+) is closest to the camera", clause):
        (i,) = things(scene, noun_phrase(found[1]))
        return all(related(scene.things[i], "front", t) for j, t in enumerate(scene.things) if i != j)
    found = re.fullmatch(rf"the (.+?) is ({PLACE_WORDS}) the (.+)", clause)
    if not found:
        raise Unreadable(clause)
    (i,), (j,) = (things(scene, noun_phrase(found[k])) for k in (1, 3))
    return related(scene.things[i], PLACE[found[2]], scene.things[j])


def referents(scene, expression):
    """Positions of the things that an expression can refer to."""
    if not expression.startswith("the "):
        raise Unreadable(expression)
    text = expression[4:]
    ends = {"furthest to the left": "left", "furthest to the right": "right", "closest to the camera": "front",
            "furthest from the camera": "behind"}  # fmt: skip
    firsts = {"leftmost": "left", "rightmost": "right", "nearest": "front", "furthest": "behind"}
    for word, place in ends.items():
        if text.endswith(f" {word}"):
            return _extreme(scene, things(scene, noun_phrase(text.removesuffix(f" {word}"))), place)
    first, _, rest = text.partition(" ")
    if first in firsts:
        return _extreme(scene, things(scene, noun_phrase(rest)), firsts[first])
    if found := re.fullmatch(rf"(.+?) ({PLACE_WORDS}) the (.+)", text):
        anchors = things(scene, noun_phrase(found[3]))
        if len(anchors) != 1:
            return []
        own = things(scene, noun_phrase(found[1]))
        return [i for i in own if stands(scene, [i], PLACE[found[2]], anchors)]
    return things(scene, noun_phrase(text))


def _extreme(scene, members, place):
    return [i for i in members if all(related(scene.things[i], place, scene.things[j]) for j in members if j != i)]


def word_bag(text):
    return Counter(text.lower().rstrip(".").replace(",", "").split())
