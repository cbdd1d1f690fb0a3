import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from scene_english import MEANING, PLACE_WORDS, noun_phrase, related, things, world

from diptych.data.scenes.dials import dials_of
from diptych.data.scenes.programs import PresuppositionError, run_program
from diptych.data.scenes.questions import ANSWERS
from diptych.data.scenes.sampling import sample_scene
from diptych.types import InputError

SCENES = 4000


def asked(scenes=SCENES):
    return [(scene, question) for scene, said in world(SCENES)[:scenes] for question in said.questions]


def slowly(program, things):
    """CLEVR's programs by the book, on lists of things."""
    done = []
    for node in json.loads(program):
        inputs, value = [done[i] for i in node["inputs"]], (node["value_inputs"] or [None])[0]
        name, _, attribute = node["function"].partition("_")
        match node["function"]:
            case "scene":
                done.append(list(things))
            case "unique":
                (thing,) = inputs[0]
                done.append(thing)
            case "relate":
                done.append([t for t in things if related(t, value, inputs[0])])
            case "count":
                done.append(len(inputs[0]))
            case "exist":
                done.append(bool(inputs[0]))
            case "greater_than":
                done.append(inputs[0] > inputs[1])
            case "less_than":
                done.append(inputs[0] < inputs[1])
            case _ if name == "filter":
                done.append([t for t in inputs[0] if getattr(t, attribute) == value])
            case _ if name == "query":
                done.append(getattr(inputs[0], attribute))
            case _ if name == "equal":
                done.append(inputs[0] == inputs[1])
    return {True: "yes", False: "no"}[done[-1]] if isinstance(done[-1], bool) else str(done[-1])


def test_answers_are_those_of_the_program_run_in_two_ways():
    for scene, question in asked(1000):
        if question.answerable:
            assert [slowly(question.program, scene.things)] == question.answers
            assert [run_program(question.program, scene)] == question.answers
            assert question.answers[0] in ANSWERS[question.kind]


def test_nonsense_fails_by_what_it_presupposes_and_has_no_answer():
    for scene, question in asked(1000):
        if not question.answerable:
            assert question.answers == []
            with pytest.raises(PresuppositionError, match="expected one thing, found 0"):
                run_program(question.program, scene)
            with pytest.raises(ValueError, match="unpack"):
                slowly(question.program, scene.things)


def test_text_and_program_name_the_same_values():
    for _, question in asked():
        words = re.findall(r"[a-z]+", question.question.replace("How big", "").lower())
        said = [MEANING.get(w, MEANING.get(w.removesuffix("s"))) for w in words]
        asked_for = [node["value_inputs"][0] for node in json.loads(question.program) if node["value_inputs"]]
        directions = {"left", "right", "front", "behind"}
        assert Counter(filter(None, said)) == Counter(v for v in asked_for if v not in directions), question
        assert [w for w in words if w in directions] == [v for v in asked_for if v in directions]


def test_every_the_is_one_thing():
    """The program has a `unique`, which fails on none and on several, for each "the" before a thing."""
    for scene, question in asked():
        phrases = re.findall(r"\bthe (?!left|right|number|picture|same|(?:size|color|shape) of)", question.question)
        uniques = sum(node["function"] == "unique" for node in json.loads(question.program))
        if question.kind == "relate":  # a program that looks beside the second thing for the first
            found = re.fullmatch(rf"(?:Is|Does) the (.+?)(?: stand)? (?:{PLACE_WORDS}) the (.+)\?", question.question)
            assert [len(things(scene, noun_phrase(found[k]))) for k in (1, 2)] == [1, 1]
        elif not question.question.startswith("Is the number of"):
            assert len(phrases) == uniques, question


def test_twins_have_one_form():
    for _, said in world(SCENES):
        by_id = {question.id: question for question in said.questions}
        assert len(by_id) == len(said.questions)
        for question in said.questions:
            has_twin = f"{question.id}-nonsense" in by_id
            if question.answerable:
                assert has_twin == (question.kind.startswith(("query", "relate ")))
                continue
            sense = by_id[question.id.removesuffix("-nonsense")]
            assert sense.answerable and sense.kind == question.kind and sense.question != question.question
            assert shape_of(sense.program) == shape_of(question.program)
            assert len(sense.question.split()) in range(
                len(question.question.split()) - 2, len(question.question.split()) + 3
            )


def shape_of(program):
    """The functions of a program, and its directions."""
    return [(n["function"], [v for v in n["value_inputs"] if n["function"] == "relate"]) for n in json.loads(program)]


def test_there_are_enough_questions_of_every_kind():
    kinds = Counter(question.kind for _, question in asked() if question.answerable)
    assert set(kinds) == set(ANSWERS)
    assert 8 < sum(kinds.values()) / SCENES < 10
    groups = Counter(kind.split()[0] for kind in kinds.elements())
    assert all(groups[name] > 0.6 * SCENES for name in ("exist", "count", "query", "compare", "relate"))
    assert 2.5 < sum(not question.answerable for _, question in asked()) / SCENES < 3.2


def features(text):
    words = ["^", *text.lower().rstrip("?.").split(), "$"]
    return {*words, *zip(words, words[1:])}


def blind_accuracy(examples):
    """Bernoulli naive Bayes on words and pairs: trained on the even examples, judged on the odd ones; (share, n)."""
    labels = sorted({label for _, label in examples})
    columns = {part: i for i, part in enumerate({part for text, _ in examples for part in features(text)})}
    x = np.zeros((len(examples), len(columns)), bool)
    for row, (text, _) in enumerate(examples):
        x[row, [columns[part] for part in features(text)]] = True
    y = np.array([labels.index(label) for _, label in examples])
    train = np.arange(len(examples)) % 2 == 0
    shares = np.stack([(x[train & (y == k)].sum(0) + 1) / ((train & (y == k)).sum() + 2) for k in range(len(labels))])
    scores = x[~train] @ np.log(shares).T + ~x[~train] @ np.log(1 - shares).T
    scores += np.log(np.bincount(y[train], minlength=len(labels)) + 1)
    return float(np.mean(scores.argmax(1) == y[~train])), int((~train).sum())


def within_two_points(examples, chance):
    share, n = blind_accuracy(examples)
    return share <= chance + 0.02 + 3 * (chance * (1 - chance) / n) ** 0.5


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_blind_guesser_stays_at_chance(kind):
    examples = [(q.question, q.answers[0]) for _, q in asked() if q.kind == kind and q.answerable]
    assert within_two_points(examples, 1 / len(ANSWERS[kind]))
    assert uniform(Counter(answer for _, answer in examples), len(ANSWERS[kind]))


@pytest.mark.parametrize("kind", [k for k in ANSWERS if k.startswith(("query", "relate "))])
def test_a_blind_guesser_cannot_tell_nonsense(kind):
    examples = [(q.question, str(q.answerable)) for _, q in asked() if q.kind == kind]
    order = np.random.default_rng(0).permutation(len(examples))  # twins stand side by side
    assert within_two_points([examples[i] for i in order], 0.5)


def uniform(counts, values):
    """Whether no answer is further from its equal share than four standard deviations."""
    n, share = sum(counts.values()), 1 / values
    return (
        all(abs(c - n * share) < 4 * (n * share * (1 - share)) ** 0.5 for c in counts.values())
        and len(counts) == values
    )


def test_the_guesser_finds_a_leak_where_there_is_one():
    examples = [(q.question, q.answers[0]) for _, q in asked() if q.kind == "exist"]
    leaky = [(text, "yes" if "thing" in text else answer) for text, answer in examples]
    assert not within_two_points(leaky, 0.5)
    biased = [
        (q.question, q.answers[0])
        for _, s in world(1000, bias="0.9")
        for q in s.questions
        if q.kind == "query shape" and q.answers
    ]
    assert not within_two_points(biased, 0.25)


def test_no_attribute_value_gives_an_answer_away():
    """Per kind, word by word: the share of each answer among texts with a word is that answer's share."""
    found = defaultdict(Counter)
    for _, question in asked():
        if question.answerable and len(ANSWERS[question.kind]) == 2:
            for word in set(question.question.lower().rstrip("?.").split()):
                found[question.kind, word][question.answers[0] == ANSWERS[question.kind][0]] += 1
    deviations = [
        (counts[True] - counts[False]) / (counts[True] + counts[False]) ** 0.5
        for counts in found.values()
        if counts.total() >= 50
    ]
    assert len(deviations) > 200
    assert max(map(abs, deviations)) < 4.5
    assert 0.8 < np.std(deviations) < 1.2  # as coins would fall


@pytest.mark.parametrize("objects", ["1", "2", "10"])
def test_questions_of_small_and_full_worlds_are_right_too(objects):
    for scene, said in world(100, objects=objects):
        assert said.questions
        for question in said.questions:
            if question.answerable:
                assert [slowly(question.program, scene.things)] == question.answers


def node(function, *inputs, value=None):
    return {"function": function, "inputs": list(inputs), "value_inputs": [value] if value else []}


@pytest.mark.parametrize(
    "program",
    [
        [],
        "{",
        '"scene"',
        "null",
        [node("fly")],
        [node("count", 0)],
        [node("scene"), node("count", -1)],
        [node("scene"), node("count", 1)],
        [node("scene"), node("filter_color", 0, value="cube")],
        [node("scene"), node("filter_color", 0)],
        [node("scene"), node("relate", 0, value="above")],
        [{"function": "scene"}],
    ],
)
def test_what_is_no_program_is_said_in_one_sentence(program):
    with pytest.raises(InputError, match="program: expected a list of CLEVR's functions"):
        run_program(program, sample_scene(dials_of({}), 0))


def test_a_program_may_be_given_as_nodes():
    scene = sample_scene(dials_of({}), 0)
    assert run_program([node("scene"), node("count", 0)], scene) == str(len(scene.things))
