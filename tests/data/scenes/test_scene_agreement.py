"""Masks, boxes, depths, relations, questions, expressions and captions of one scene say the same.

What is asked is answered here from the picture's labels alone: what is left is what has its mask further left.
"""

import json
import re
from functools import cache

import numpy as np
import pytest
from scene_english import noun_phrase, things

from diptych.data import masks, open_dataset
from diptych.data.scenes.render import render_many
from diptych.data.scenes.sample import from_json
from diptych.data.scenes.world import Scene

FIELDS = ["objects", "relations", "questions", "regions", "captions", "texts"]
WORLDS = {"scenes:?n=2000&size=48": 2000, "scenes:?n=150&size=64&objects=10&seed=1&style=mixed": 150}


class Nonsense(ValueError):
    """ "The ..." finds no thing or several."""


@cache
def seen(address):
    """[(sample, masks)] of a world."""
    found = []
    dataset = open_dataset(address)
    for start in range(0, len(dataset), 250):
        for sample in dataset.take(range(start, min(start + 250, len(dataset))), FIELDS):
            found.append((sample, [masks.decode(object.mask) for object in sample.objects]))
    return found


def columns(shown):
    """The mean column of each mask."""
    return [np.nonzero(mask)[1].mean() for mask in shown]


@pytest.mark.parametrize("address", WORLDS)
def test_boxes_are_those_of_masks_and_each_pixel_is_of_one_thing(address):
    for sample, shown in seen(address):
        assert sum(mask.astype(int) for mask in shown).max() <= 1
        assert len(shown) == len(json.loads(sample.texts["scene"])["things"])
        for object, mask in zip(sample.objects, shown):
            rows, cols = np.nonzero(mask)
            assert object.box == (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("address", WORLDS)
def test_left_and_right_are_the_order_of_masks(address):
    pairs = 0
    for sample, shown in seen(address):
        middle = columns(shown)
        found = {(r.subject, r.object) for r in sample.relations if r.predicate == "left of"}
        everything = [(i, j) for i in range(len(shown)) for j in range(len(shown))]
        assert found == {(i, j) for i, j in everything if middle[i] < middle[j]}
        assert {(r.object, r.subject) for r in sample.relations if r.predicate == "right of"} == found
        pairs += len(found)
    assert pairs > 5000


@pytest.mark.parametrize("address", WORLDS)
def test_what_is_in_front_hides_what_is_behind(address):
    """Where the outlines of two things overlap, never the one that is said to be behind is seen."""
    overlaps = 0
    for sample, shown in seen(address)[:400]:
        scene = from_json(sample.texts["scene"])
        alone = [Scene((thing,), scene.camera, scene.lights) for thing in scene.things]
        outlines = [drawn.ids == 0 for drawn in render_many(alone, shown[0].shape[0])]
        for relation in sample.relations:
            if relation.predicate == "in front of":
                both = outlines[relation.subject] & outlines[relation.object]
                assert not shown[relation.object][both].any()
                overlaps += both.any()
    assert overlaps > 200


def answer(program, sample, middle):
    """A program's answer from the labels of the picture: names, attributes, mean columns of masks, relations."""
    values = [{object.name, *object.attributes} for object in sample.objects]
    every = set(range(len(values)))
    beside = {
        "left": lambda i: {j for j in every if middle[j] < middle[i]},
        "right": lambda i: {j for j in every if middle[j] > middle[i]},
        "front": lambda i: {r.subject for r in sample.relations if r.predicate == "in front of" and r.object == i},
        "behind": lambda i: {r.subject for r in sample.relations if r.predicate == "behind" and r.object == i},
    }
    order = ("size", "color", "material")
    done = []
    for node in json.loads(program):
        given, value = [done[i] for i in node["inputs"]], (node["value_inputs"] or [None])[0]
        kind, _, attribute = node["function"].partition("_")
        if kind == "scene":
            done.append(every)
        elif kind == "filter":
            done.append({i for i in given[0] if value in values[i]})
        elif kind == "unique":
            if len(given[0]) != 1:
                raise Nonsense
            done.append(next(iter(given[0])))
        elif kind == "relate":
            done.append(beside[value](given[0]))
        elif kind == "query":
            object = sample.objects[given[0]]
            done.append(object.name if attribute == "shape" else object.attributes[order.index(attribute)])
        elif kind == "count":
            done.append(len(given[0]))
        elif kind == "exist":
            done.append(len(given[0]) > 0)
        else:
            done.append(
                {"equal": given[0] == given[-1], "less": given[0] < given[-1], "greater": given[0] > given[-1]}[kind]
            )
    last = done[-1]
    return ("no", "yes")[last] if isinstance(last, bool) else str(last)


@pytest.mark.parametrize("address", WORLDS)
def test_questions_are_answered_by_what_the_picture_shows(address):
    asked = nonsense = 0
    for sample, shown in seen(address):
        middle = columns(shown)
        for question in sample.questions:
            asked += 1
            if question.answerable:
                assert [answer(question.program, sample, middle)] == question.answers, question
                continue
            nonsense += 1
            with pytest.raises(Nonsense):
                answer(question.program, sample, middle)
    assert asked > 9 * len(seen(address)) and nonsense > 2 * len(seen(address))


@pytest.mark.parametrize("address", WORLDS)
def test_the_nearest_and_the_furthest_thing_are_so_by_their_distance_from_the_camera(address):
    """ "In front of all others" is not enough: far to the side it may be further away than what is behind it."""
    claims, sideways = 0, ("to the left", "to the right")
    ends = re.compile(r"the (?:(?:nearest|furthest) (.+)|(.+) (?:closest to|furthest from) the camera)")
    for sample, _ in seen(address):
        scene = from_json(sample.texts["scene"])
        distance = [np.linalg.norm(np.subtract((t.x, t.y, t.height / 2), scene.camera.position)) for t in scene.things]
        claimed = []
        for region in sample.regions:
            if (found := ends.fullmatch(region.phrase)) and not any(side in region.phrase for side in sideways):
                claimed.append((found[0], region.object, things(scene, noun_phrase(found[1] or found[2]))))
        if found := re.search(r"The (.+) is closest to the camera", sample.captions[-1]):
            claimed.append((found[0], *things(scene, noun_phrase(found[1])), range(len(scene.things))))
        for text, thing, among in claimed:
            end = max if "furthest" in text else min
            assert thing == end(among, key=lambda i: distance[i]), (sample.id, text)
        claims += len(claimed)
    assert claims > len(seen(address)) / 5
