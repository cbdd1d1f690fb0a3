"""The generated world with other dials: what makes tests possible that photographs do not allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from diptych.data.scenes.dials import Dials
from diptych.data.scenes.relations import ATTRIBUTE_OF
from diptych.data.scenes.store import scenes
from diptych.data.scenes.words import WORDINGS, a, phrase, sentence
from diptych.data.store import Dataset
from diptych.types import Object, Sample

WANTED = {"images", "captions", "objects", "questions", "negatives", "group", "texts"}
NEEDED = "a world whose dials can be turned, as `scenes:` is"

Values = dict[str, str]  # attribute -> value


def dials_of_world(data: Dataset) -> Dials | None:
    """The dials of a whole generated world of single scenes; None for any other dataset."""
    if data.card.get("read_as") != "scenes":
        return None
    dials = Dials(**{field.name: data.card["dials"][field.name] for field in fields(Dials)})
    whole = data.fingerprint() == scenes(dials).fingerprint()  # a part of a world has other numbers for its samples
    return dials if dials.task == "scene" and whole else None


def samples_of(dials: Dials, count: int, **changes: Any) -> list[Sample]:
    """The first `count` samples of the world with some dials changed."""
    return scenes(replace(dials, n=count, **changes)).take(range(count), WANTED)


def values_of(thing: Object) -> Values:
    """What a thing of a scene is."""
    return {ATTRIBUTE_OF[word]: word for word in (thing.name, *thing.attributes)}


def shows(things: Sequence[Values], wanted: Values) -> bool:
    """Whether some thing has all the values."""
    return any(wanted.items() <= thing.items() for thing in things)


def there_is(values: Values) -> str:
    """ "There is a small red cube." """
    return sentence(f"there is {a(phrase(WORDINGS[0], values))}")
