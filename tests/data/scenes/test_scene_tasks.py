import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache

import pytest
from scene_english import (
    COUNTS,
    MEANING,
    PLACE,
    PLACE_WORDS,
    article_phrase,
    list_is_true,
    noun_phrase,
    related,
    stands,
    things,
)

from diptych.data.scenes.dials import dials_of
from diptych.data.scenes.episodes import MADE_UP, episode
from diptych.data.scenes.pairs import pair
from diptych.data.scenes.robot import BadStep, Goal, Step, check, job, read_steps, robot, simulate
from diptych.data.scenes.sampling import is_clear, sample_scene
from diptych.data.scenes.store import scenes
from diptych.data.scenes.words import WORDINGS, phrase, read_phrase
from diptych.data.scenes.world import VALUES, Scene, Thing
from diptych.types import InputError


@cache
def made(task, count=300, **options):
    return [task(dials_of({"n": str(count), **options}), i) for i in range(count)]


# ---------------------------------------------------------------- pairs


def statement_is_true(text, left, right):
    """By the words of the statement and the things' attributes alone."""
    text = text[0].lower() + text[1:-1]

    def number(words, scene):
        return len(things(scene, words))

    if m := re.fullmatch(r"there are at least (\w+) (.+) in the two pictures together", text):
        words = noun_phrase(m[2], plural=True)
        return number(words, left) + number(words, right) >= COUNTS[m[1]]
    if m := re.fullmatch(r"there is (.+) in at least one of the pictures", text):
        words = article_phrase(m[1])
        return number(words, left) + number(words, right) > 0
    both = r"both pictures show (an? .+)|there is (.+) in each picture|each of the pictures contains (.+)"
    if m := re.fullmatch(both, text):
        words = article_phrase(m[1] or m[2] or m[3])
        return min(number(words, left), number(words, right)) > 0
    if m := re.fullmatch(r"(?:only one of the pictures shows|exactly one picture contains) (.+)", text):
        words = article_phrase(m[1])
        return sorted([number(words, left) > 0, number(words, right) > 0]) == [False, True]
    if m := re.fullmatch(r"the (left|right) picture contains more (.+) than the (?:left|right) one", text):
        words = noun_phrase(m[2], plural=True)
        counts = number(words, left), number(words, right)
        return counts[0] > counts[1] if m[1] == "left" else counts[1] > counts[0]
    same = r"there are as many (.+) in the left picture as in the right one|both pictures have the same number of (.+)"
    if m := re.fullmatch(same, text):
        words = noun_phrase(m[1] or m[2], plural=True)
        return number(words, left) == number(words, right)
    m = re.fullmatch(rf"in the (left|right) picture there is (an? .+?) ({PLACE_WORDS}) (an? .+)", text)
    scene = left if m[1] == "left" else right
    return stands(scene, things(scene, article_phrase(m[2])), PLACE[m[3]], things(scene, article_phrase(m[4])))


def test_labels_of_pairs_are_right():
    for made_of in made(pair):
        (question,) = made_of.sample.questions
        assert question.kind == "nlvr2"
        assert question.answers == [str(statement_is_true(question.question, *made_of.scenes))]


def test_each_statement_comes_with_both_labels():
    groups = defaultdict(list)
    for made_of in made(pair):
        groups[made_of.sample.group].append(made_of.sample.questions[0])
    assert len(groups) == 150
    for first, second in groups.values():
        assert first.question == second.question
        assert {first.answers[0], second.answers[0]} == {"True", "False"}
    firsts = Counter(first.answers[0] for first, _ in groups.values())
    assert 45 <= firsts["True"] <= 105  # the order within a group tells nothing: 75 expected, standard deviation 6


def test_statements_vary():
    assert len({made_of.sample.questions[0].question for made_of in made(pair)}) > 130
    assert len({made_of.sample.id for made_of in made(pair)}) == 300


# ---------------------------------------------------------------- episodes


def kind_of(made_of):
    return made_of.sample.questions[0].kind if made_of.sample.questions else "document"


def test_every_picture_has_its_place_in_the_text():
    kinds = Counter()
    for made_of in made(episode):
        kinds[kind_of(made_of)] += 1
        text = "".join(message.text for message in made_of.sample.messages)
        assert text.count("<image>") == len(made_of.scenes)
    assert set(kinds) == {"fast binding", "few-shot count", "document"} and min(kinds.values()) > 60


def test_made_up_words_mean_one_kind_of_thing_within_an_episode():
    last, meanings = Counter(), set()
    for made_of in made(episode, split="train", held_out="yellow cone,large red cube"):
        if kind_of(made_of) != "fast binding":
            continue
        (question,) = made_of.sample.questions
        said = [re.fullmatch(r"This is a (\w+)\.", m.text)[1] for m in made_of.sample.messages if m.role == "assistant"]
        seen = [(s.things[0].color, s.things[0].shape) for s in made_of.scenes]
        assert all(len(scene.things) == 1 and is_clear(scene.things, scene.camera) for scene in made_of.scenes)
        assert len(said) == len(seen) == 5 and len(set(zip(said, seen))) == 2
        (one, other) = set(zip(said, seen))
        assert one[0] != other[0] and one[1][0] != other[1][0] and one[1][1] != other[1][1]
        assert Counter(said[:-1]) == {one[0]: 2, other[0]: 2}
        assert question.answers == [said[-1]] and question.choices == sorted({one[0], other[0]})
        assert ("yellow", "cone") not in seen
        assert not any(s.things[0].name.startswith("large red") and s.things[0].shape == "cube" for s in made_of.scenes)
        last[said[-1] == said[0]] += 1
        meanings.add((one[0], one[1]))
    assert abs(last[True] - last[False]) < 4 * sum(last.values()) ** 0.5
    assert len(meanings) > 60  # a word means something else every time
    assert {word for word, _ in meanings} == set(MADE_UP)


def test_few_shot_counts_are_right_and_balanced():
    answers = Counter()
    for made_of in made(episode):
        if kind_of(made_of) != "few-shot count":
            continue
        (question,) = made_of.sample.questions
        words = noun_phrase(re.fullmatch(r"How many (.+) are there\?", question.question)[1], plural=True)
        said = [m.text for m in made_of.sample.messages if m.role == "assistant"]
        assert said == [str(len(things(scene, words))) for scene in made_of.scenes]
        assert sorted(said[:-1]) == ["0", "1", "2"] and question.answers == said[-1:]
        answers[said[-1]] += 1
    assert min(answers[n] for n in "012") > 0.15 * sum(answers.values())


def test_documents_caption_their_pictures():
    for made_of in made(episode):
        if kind_of(made_of) == "document":
            (message,) = made_of.sample.messages
            captions = [line.removeprefix("<image> ") for line in message.text.split("\n")]
            assert message.role == "document"
            assert all(list_is_true(scene, caption) for scene, caption in zip(made_of.scenes, captions))


WHOLE_SHAPE = "metal cone,rubber cone"
ALL_BUT_CUBES = ",".join(
    f"{color} {shape}" for color in VALUES["color"] for shape in VALUES["shape"] if shape != "cube"
)

ALL_BUT_RED = ",".join(f"{size} {color}" for size in VALUES["size"] for color in VALUES["color"] if color != "red")
ONE_LEFT = f"{ALL_BUT_RED},large red,small metal,small cone,small sphere,small cylinder"  # a small red rubber cube
ALL_ALIKE = {"bias": "1", "bias_kind": "shape-background"}


@pytest.mark.parametrize(
    ("dials", "sentence"),
    [
        ({"held_out": ALL_BUT_CUBES}, "episodes: the dials leave no shape to count"),
        ({"held_out": ALL_BUT_RED}, "leaves no two things that differ in color and shape"),
        ({"objects": "1", "held_out": "yellow cone", "split": "test"}, "episodes: the dials leave no shape to count"),
        ({"objects": "2", "background": "wood"} | ALL_ALIKE, "episodes: the dials leave no shape to count"),
        ({"task": "robot", "held_out": ONE_LEFT}, "task=robot: none of 300 scenes has room for a goal"),
        ({"task": "pairs", "objects": "1", "held_out": ONE_LEFT}, "task=pairs: no statement is true of some scenes"),
    ],
)
def test_dials_that_rule_a_task_out_are_refused_when_opened(dials, sentence):
    with pytest.raises(InputError, match=sentence):
        scenes(dials_of({"task": "episodes"} | dials))


def test_what_is_true_of_few_scenes_is_found_by_another_statement():
    dials = dials_of({"task": "pairs", "objects": "1", "held_out": ALL_BUT_CUBES, "bias": "1"})  # gray and red cubes
    for i in range(0, 100, 2):
        made_of = pair(dials, i)
        (question,) = made_of.sample.questions
        assert question.answers == [str(statement_is_true(question.question, *made_of.scenes))]


@pytest.mark.parametrize("split", ["train", "test"])
def test_episodes_of_a_held_out_shape(split):
    kinds = Counter()
    for made_of in made(episode, 150, split=split, held_out=WHOLE_SHAPE):
        kinds[kind_of(made_of)] += 1
        cones = [any(thing.shape == "cone" for thing in scene.things) for scene in made_of.scenes]
        if split == "train":
            assert not any(cones)
        elif kind_of(made_of) == "fast binding":
            assert 2 <= sum(cones) <= 3, "one of the two kinds is held out"
        else:
            assert all(cones)
    assert min(kinds.values()) > 30


def test_held_out_things_are_bound_in_the_test_split():
    for made_of in made(episode, 150, split="test", held_out="small blue cube"):
        if kind_of(made_of) == "fast binding":
            looks = [(thing.size, thing.color, thing.shape) for scene in made_of.scenes for thing in scene.things]
            assert looks.count(("small", "blue", "cube")) >= 2


# ---------------------------------------------------------------- the robot


@cache
def jobs(count=200):
    return [job(dials_of({"n": str(count)}), i) for i in range(count)]


def test_steps_reach_the_goal_that_the_words_name():
    for done in jobs():
        scene, goal = done.scene, done.goal
        assert check(scene, goal, done.steps) and not check(scene, goal, [])
        orders = rf"(?:Put|Place|Move) the (.+?)(?: so that it stands)? ({PLACE_WORDS}) the (.+)\."
        found = re.fullmatch(orders, done.instruction)
        assert things(scene, noun_phrase(found[1])) == [goal.thing]
        assert PLACE[found[2]] == goal.direction
        assert things(scene, noun_phrase(found[3])) == [goal.anchor]
        assert related(done.after.things[goal.thing], goal.direction, scene.things[goal.anchor])
        assert not related(scene.things[goal.thing], goal.direction, scene.things[goal.anchor])
        moved = [i for i, (a, b) in enumerate(zip(scene.things, done.after.things)) if a != b]
        assert moved == [goal.thing] and is_clear(done.after.things, done.after.camera)


@pytest.mark.parametrize("objects", ["2", "9", "10"])
def test_small_and_full_worlds_have_jobs_too(objects):
    for i in range(20):
        done = job(dials_of({"objects": objects}), i)
        assert check(done.scene, done.goal, done.steps)


def test_samples_carry_instruction_steps_and_goal():
    dials = dials_of({"n": "200"})
    for i, done in enumerate(jobs()[:50]):
        made_of = robot(dials, i)
        messages = made_of.sample.messages
        assert made_of.scenes == [done.scene, done.after]
        assert [m.role for m in messages] == ["user", "assistant"] * 2
        assert sum(m.text.count("<image>") for m in messages) == 2
        assert messages[0].text.endswith(done.instruction)
        steps = read_steps(messages[1].text)
        assert check(done.scene, Goal(**json.loads(made_of.sample.texts["goal"])), steps)
        assert simulate(done.scene, steps) == done.after
        assert re.fullmatch(r"The .+ now stands .+\.", messages[3].text)


def test_the_checker_refuses_what_is_wrong():
    for done in jobs()[:60]:
        scene, goal, (go, pick, carry, place) = done.scene, done.goal, done.steps
        other = scene.things[goal.anchor]
        assert not check(scene, goal, [go, pick, carry])  # still in the hand
        assert not check(scene, goal, [carry, pick, carry, place])  # out of reach
        assert not check(scene, goal, [pick, carry, place])
        assert not check(scene, goal, [go, pick, place])  # put back
        assert not check(scene, goal, [go, pick, Step("move", (other.x, other.y)), place])  # into the other
        assert not check(scene, goal, [go, pick, Step("move", (40.0, 0.0)), place])  # out of the picture
        assert not check(scene, goal, [go, pick, Step("move", (goal.direction == "left", -90.0)), place])
        assert not check(scene, goal, [go, Step("pick", thing="thing"), carry, place])  # which one?
        assert not check(scene, goal, [go, Step("pick", thing="chair"), carry, place])
        assert not check(scene, goal, [go, pick, pick, carry, place])
        assert not check(scene, goal._replace(thing=goal.anchor, anchor=goal.thing), done.steps[:3])
        assert not check(scene, goal._replace(thing=goal.anchor, anchor=goal.thing), done.steps)  # moved the wrong one


def test_a_bad_step_is_named():
    scene = Scene((Thing("cube", "red", "metal", "small", 0.0, 0.0), Thing("cone", "red", "metal", "small", 1.0, 1.0)))
    above = Step("move", (0.1, 0.0))
    cases = {
        "the hand has not been moved": [Step("place")],
        "the hand is empty": [above, Step("place")],
        "2 things are like that": [above, Step("pick", thing="shiny red thing")],
        "0 things are like that": [above, Step("pick", thing="ball")],
        "describe no thing": [above, Step("pick", thing="")],
        "not above it": [above, Step("pick", thing="cone")],
        "still holds": [above, Step("pick", thing="cube")],
        "not empty": [above, Step("pick", thing="cube"), Step("pick", thing="cube")],
    }
    for reason, steps in cases.items():
        with pytest.raises(BadStep, match=reason):
            simulate(scene, steps)
    assert simulate(scene, [above, Step("pick", thing="block"), above, Step("place")]).things[0].x == 0.1


@pytest.mark.parametrize(
    "text", ["jump()", "move(1)", "move(a, b)", "pick()", "place(1)", "move(1, 2) pick(cube)", "pick"]
)
def test_text_that_is_no_step_is_refused(text):
    with pytest.raises(InputError, match="steps: expected move"):
        read_steps(f"move(1, -2.50)\n{text}")


def test_steps_survive_their_text():
    for done in jobs()[:50]:
        assert read_steps("\n".join(map(str, done.steps))) == done.steps
    assert read_steps("") == []


def test_a_robot_needs_two_things():
    with pytest.raises(InputError, match="scenes: objects: expected at least two things with task=robot: '1'"):
        dials_of({"objects": "1", "task": "robot"})


def test_words_are_read_back_in_every_wording():
    values = [{k: v for k in keys for v in [VALUES[k][-1]]} for keys in (("shape",), ("size", "color"), tuple(VALUES))]
    for own in values:
        for words in WORDINGS:
            assert read_phrase(phrase(words, own)) == own
            assert {MEANING[w] for w in noun_phrase(phrase(words, own))} - {None} == set(own.values())
    assert read_phrase("red") is None and read_phrase("") is None and read_phrase("red house") is None


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("task", [pair, episode, robot])
def test_samples_are_the_same_again_and_differ_between_seeds_and_splits(task):
    dials = dials_of({"n": "50"})
    for i in (0, 1, 17):
        again = task(dials, i)
        assert again == task(dials, i)
        assert again.scenes != task(replace(dials, seed=1), i).scenes
        assert again.scenes != task(replace(dials, split="test"), i).scenes
        assert all(is_clear(scene.things, scene.camera) for scene in again.scenes)
        assert not again.sample.images
    assert sample_scene(dials, 0) not in task(dials, 0).scenes
