from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from diptych.data.scenes.dials import Dials, dials_of, partners
from diptych.data.scenes.render import render_many
from diptych.data.scenes.sampling import is_clear, sample_scene
from diptych.data.scenes.view import View
from diptych.data.scenes.world import ATTRIBUTES, BACKGROUNDS, RELATION_MARGIN, STYLES, VALUES
from diptych.types import InputError

MANY = 1200
OF_FULL_BIAS = ",".join(f"{color} {partners(('color', 'shape'), color)[0]}" for color in VALUES["color"])


@pytest.fixture(scope="module")
def scenes():
    dials = dials_of({"objects": "3-7", "style": "mixed"})
    return [sample_scene(dials, i) for i in range(MANY)]


def test_a_scene_depends_on_seed_split_index_and_purpose_and_on_nothing_else():
    plain = Dials()
    assert sample_scene(plain, 5) == sample_scene(Dials(n=7, size=224, noise=0.5), 5)
    others = [
        sample_scene(plain, 6),
        sample_scene(plain, 5, "pair"),
        sample_scene(Dials(seed=1), 5),
        sample_scene(Dials(split="test"), 5),
    ]
    assert len({repr(scene) for scene in [sample_scene(plain, 5), *others]}) == 5


def test_attributes_are_uniform_and_independent(scenes):
    things = [thing for scene in scenes for thing in scene.things]
    for attribute in ATTRIBUTES:
        counts = Counter(getattr(thing, attribute) for thing in things)
        expected = len(things) / len(VALUES[attribute])
        assert counts.keys() == set(VALUES[attribute])
        assert max(abs(n - expected) for n in counts.values()) < 4 * expected**0.5
    for a, b in combinations(ATTRIBUTES, 2):
        table = Counter((getattr(thing, a), getattr(thing, b)) for thing in things)
        expected = len(things) / len(VALUES[a]) / len(VALUES[b])
        chi = sum((table[x, y] - expected) ** 2 / expected for x in VALUES[a] for y in VALUES[b])
        free = len(VALUES[a]) * len(VALUES[b]) - 1
        assert chi < free + 4 * (2 * free) ** 0.5


def test_counts_grounds_and_styles_are_uniform(scenes):
    for values, found in (
        (range(3, 8), [len(scene.things) for scene in scenes]),
        (BACKGROUNDS, [scene.background for scene in scenes]),
        (STYLES, [scene.style for scene in scenes]),
    ):
        expected = MANY / len(values)
        counts = Counter(found)
        assert counts.keys() == set(values)
        assert max(abs(n - expected) for n in counts.values()) < 4 * expected**0.5


def test_left_right_front_and_behind_are_clear_on_the_ground_and_in_the_picture(scenes):
    for scene in scenes:
        view = View(scene.camera)
        at = [view.project(thing.x, thing.y, thing.height / 2) for thing in scene.things]
        for (a, (ua, _, za)), (b, (ub, _, zb)) in combinations(zip(scene.things, at), 2):
            assert abs(a.x - b.x) >= RELATION_MARGIN and abs(a.y - b.y) >= RELATION_MARGIN
            assert (a.x < b.x) == (ua < ub) and abs(ua - ub) >= 0.03
            assert (a.y < b.y) == (za < zb)


def test_things_do_not_touch(scenes):
    for scene in scenes:
        for a, b in combinations(scene.things, 2):
            reach = [t.height / 2 * (2**0.5 if t.shape == "cube" else 1) for t in (a, b)]
            assert np.hypot(a.x - b.x, a.y - b.y) > sum(reach)


@pytest.mark.parametrize("objects", ["3-6", "10"])
def test_of_each_thing_enough_is_seen_and_none_leaves_the_picture(objects):
    scenes = [sample_scene(dials_of({"objects": objects}), i) for i in range(480 // int(objects[-2:].strip("-")))]
    whole = [replace(scene, things=(thing,)) for scene in scenes for thing in scene.things]
    alone = iter(render_many(whole, 96))
    hidden = 0
    for scene, drawn in zip(scenes, render_many(scenes, 96)):
        for i in range(len(scene.things)):
            outline = next(alone).ids == 0
            seen = drawn.ids == i
            assert seen.sum() >= max(16, 0.4 * outline.sum())
            assert not outline[[0, -1]].any() and not outline[:, [0, -1]].any()
            hidden += seen.sum() < outline.sum()
    assert hidden > 0.1 * len(whole)  # things do stand before each other


def test_a_scene_that_is_not_clear_is_told(scenes):
    scene = next(scene for scene in scenes if len(scene.things) >= 3)
    assert is_clear(scene.things, scene.camera)
    first, second, *rest = scene.things
    for moved in (
        replace(first, x=second.x + RELATION_MARGIN / 2),
        replace(first, x=second.x, y=second.y),
        replace(first, x=9.0),
    ):
        assert not is_clear([moved, second, *rest], scene.camera)


@pytest.mark.parametrize(("kind", "bias"), [("color-shape", 0.8), ("shape-color", 0.5), ("size-material", 1.0)])
def test_bias_is_as_strong_as_the_dial_says(kind, bias):
    dials = dials_of({"bias": str(bias), "bias_kind": kind})
    first, second = kind.split("-")
    things = [thing for i in range(500) for thing in sample_scene(dials, i).things]
    together = [getattr(t, second) in partners((first, second), getattr(t, first)) for t in things]
    share = np.mean([len(partners((first, second), value)) for value in VALUES[first]]) / len(VALUES[second])
    expected = bias + (1 - bias) * share
    assert abs(np.mean(together) - expected) < 4 * (expected * (1 - expected) / len(things)) ** 0.5 + 1e-9
    counts = Counter(getattr(thing, first) for thing in things)
    assert max(counts.values()) < 1.25 * min(counts.values())  # the deciding attribute stays uniform


def test_bias_towards_the_ground():
    dials = dials_of({"bias": "0.9", "bias_kind": "color-background"})
    scenes = [sample_scene(dials, i) for i in range(400)]
    own = [t.color in partners(("background", "color"), s.background) for s in scenes for t in s.things]
    assert 0.88 < np.mean(own) < 0.95  # 0.9 + 0.1 * 8 / 6 / 8 on average
    assert len({s.background for s in scenes}) == len(BACKGROUNDS)


def test_every_value_has_a_partner():
    for pair in (("color", "shape"), ("background", "color"), ("shape", "color"), ("material", "background")):
        found = [
            partner for value in (VALUES | {"background": BACKGROUNDS})[pair[0]] for partner in partners(pair, value)
        ]
        assert set(found) == set((VALUES | {"background": BACKGROUNDS})[pair[1]])


def test_held_out_combinations_are_in_every_test_scene_and_in_no_training_scene():
    options = {"held_out": "yellow cone,small blue metal cube", "objects": "2-5"}

    def held(thing):
        values = {getattr(thing, attribute) for attribute in ATTRIBUTES}
        return {"yellow", "cone"} <= values or {"small", "blue", "metal", "cube"} <= values

    for split, check in (("train", 0), ("val", 0), ("test", 1)):
        dials = dials_of({**options, "split": split})
        counts = [sum(map(held, sample_scene(dials, i).things)) for i in range(300)]
        assert min(counts) >= check and (max(counts) == 0) == (check == 0)
    free = [held(t) for i in range(300) for t in sample_scene(Dials(objects="2-5"), i).things]
    assert any(free)  # otherwise the above would hold for every scene


def test_what_is_held_out_may_be_nearly_all_and_is_no_matter_to_the_test_split():
    dials = dials_of({"held_out": "small rubber,small metal,large rubber"})
    assert {(t.size, t.material) for i in range(20) for t in sample_scene(dials, i).things} == {("large", "metal")}
    every = dials_of({"held_out": OF_FULL_BIAS, "bias": "1", "split": "test"})
    assert sample_scene(every, 0).things


def test_lamps_and_jitter():
    still = [sample_scene(Dials(jitter=False, lights=3, objects="3"), i) for i in range(5)]
    assert len({scene.camera for scene in still}) == len({scene.lights for scene in still}) == 1
    assert len(still[0].lights) == 3
    moving = [sample_scene(Dials(), i) for i in range(5)]
    assert len({scene.camera for scene in moving}) == len({scene.lights for scene in moving}) == 5


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"n": "many"}, "scenes: n: .*integer.*'many'"),
        ({"n": "0"}, "scenes: n: .*1"),
        ({"size": "8"}, "scenes: size: .*32"),
        ({"bias": "1.5"}, "scenes: bias: .*1"),
        ({"noise": "-0.1"}, "scenes: noise: "),
        ({"noise": "0.1", "task": "pairs"}, "scenes: noise: expected 0 with task=pairs, only .*task=scene have wrong"),
        ({"colour": "red"}, "scenes: no option 'colour'; it has n, size"),
        ({"objects": "6-3"}, "scenes: objects: expected .*'6-3'"),
        ({"objects": "3-60"}, "scenes: objects: expected .*1-10.*'3-60'"),
        ({"bias_kind": "color"}, "scenes: bias_kind: expected .*'color'"),
        ({"bias_kind": "color-color"}, "scenes: bias_kind: "),
        ({"held_out": "yellow"}, "scenes: held_out: expected at least two attributes.*'yellow'"),
        ({"held_out": "yellow horse"}, "scenes: held_out: expected combinations.*'yellow horse'"),
        ({"held_out": "red blue"}, "scenes: held_out: expected combinations.*'red blue'"),
        (
            {"held_out": "small rubber,small metal,large rubber,large metal"},
            "scenes: held_out: with bias=0 it leaves less than one thing in 1,000",
        ),
        ({"held_out": OF_FULL_BIAS, "bias": "1"}, "scenes: held_out: with bias=1 it leaves less"),
        ({"held_out": OF_FULL_BIAS, "bias": "0.9999"}, "scenes: held_out: with bias=0.9999 it leaves less"),
        (
            {
                "held_out": "brown small,brown large,purple small,purple large",
                "bias": "1",
                "bias_kind": "color-background",
            },
            "scenes: held_out: with bias=1 it leaves less",
        ),
        ({"style": "oil"}, "scenes: style: .*'photo'.*'oil'"),
        ({"background": "moon"}, "scenes: background: "),
        ({"lights": "9"}, "scenes: lights: "),
        ({"jitter": "perhaps"}, "scenes: jitter: "),
        ({"task": "chess"}, "scenes: task: "),
    ],
)
def test_bad_options_are_one_sentence_that_names_them(options, names):
    with pytest.raises(InputError, match=names) as error:
        dials_of(options)
    assert "\n" not in str(error.value)
