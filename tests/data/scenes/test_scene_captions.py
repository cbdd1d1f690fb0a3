import re

from scene_english import (
    COUNTS,
    GROUND,
    NOUNS,
    claim_is_true,
    list_is_true,
    noun_phrase,
    standing_is_true,
    things,
    world,
)

from diptych.data.scenes.captions import captions_of
from diptych.data.scenes.describe import describe
from diptych.data.scenes.dials import dials_of
from diptych.data.scenes.relations import Facts
from diptych.data.scenes.sampling import generator, sample_scene

AMOUNTS = {
    "a single": {1},
    **dict.fromkeys(("a pair of", "a couple of"), {2}),
    **dict.fromkeys(("a few", "some"), {3, 4}),
    **dict.fromkeys(("several", "a number of"), set(range(5, 11))),
    **{word: {number} for word, number in COUNTS.items()},
}


def gist_is_true(scene, caption):
    text = caption[0].lower() + caption[1:-1]
    text = re.sub(r"^there are ", "", text)
    found = re.fullmatch(
        rf"({'|'.join(AMOUNTS)}) (?:(simple|colored) )?(object|thing|shape|solid)(s?)"
        rf" (?:(?:standing|placed|resting) )?on ({'|'.join(GROUND)})",
        text,
    )
    assert found, caption
    colors = {t.color for t in scene.things} - {"gray"}
    assert (found[4] == "s") == (len(scene.things) > 1)
    return (
        len(scene.things) in AMOUNTS[found[1]]
        and GROUND[found[5]] == scene.background
        and (found[2] != "colored" or len(colors) > 1)
    )


def full_is_true(scene, caption):
    first, *rest = re.findall(r"[^.]+\.", caption)
    clauses = [part for sentence in rest for part in re.split(r", and ", sentence.strip()[:-1])]
    return list_is_true(scene, first) and all(claim_is_true(scene, c[0].lower() + c[1:]) for c in clauses)


def test_every_caption_is_true_of_its_scene_and_reads_as_english():
    for scene, said in (*world(1500), *world(400, objects="1-10")):
        assert len(said.captions) == 5
        assert gist_is_true(scene, said.captions[0])
        assert list_is_true(scene, said.captions[1]), said.captions[1]
        if found := re.fullmatch(r"A ((?:large|big|small|little) \w+)\.", said.captions[2]):
            assert things(scene, noun_phrase(found[1]))
            assert len({(t.color, t.shape) for t in scene.things}) == 1  # no two things to tell apart
        else:
            assert standing_is_true(scene, said.captions[2]), said.captions[2]
        assert list_is_true(scene, said.captions[3]), said.captions[3]
        assert full_is_true(scene, said.captions[4]), said.captions[4]


def test_the_reader_notices_what_is_false():
    scene, said = world(1500)[0]
    others = [other for other, _ in world(1500)[1:300]]
    assert not any(list_is_true(other, said.captions[3]) for other in others)
    assert not any(full_is_true(other, said.captions[4]) for other in others if other.background != scene.background)
    true = sum(standing_is_true(other, said.captions[2]) for other in others)
    assert true < 0.2 * len(others)


def test_detail_rises():
    lengths = [[len(caption.split()) for caption in said.captions] for _, said in world(1500)]
    means = [sum(column) / len(lengths) for column in zip(*lengths)]
    assert means[0] < means[1] < means[3] < means[4]
    assert all(any(f" {noun}" in said.captions[1] for noun in NOUNS) for _, said in world(1500))


def test_captions_vary():
    noun = re.compile(rf"\b(?:{'|'.join(NOUNS)})s?\b")
    openings = {tuple(noun.sub("N", caption).split()[:3]) for _, said in world(1500) for caption in said.captions}
    assert len(openings) > 150
    assert len({said.captions[2] for _, said in world(1500)}) > 1000


def test_noise_gives_the_captions_of_another_scene_and_says_so():
    plain, noisy = dials_of({"n": "400"}), dials_of({"n": "400", "noise": "0.3"})
    wrong = 0
    for i in range(400):
        scene = sample_scene(plain, i)
        clean, said = describe(scene, plain, i), describe(scene, noisy, i)
        assert said.questions == clean.questions
        assert said.regions == clean.regions and said.relations == clean.relations
        if said.noisy:
            wrong += 1
            assert not said.negatives
            assert said.captions != clean.captions and len(said.captions) == 5
        else:
            assert said == clean
    assert 85 <= wrong <= 155  # 120 expected, standard deviation 9


def test_noise_of_one_spoils_nearly_every_caption():
    dials = dials_of({"n": "200", "noise": "1"})
    spoilt = 0
    for i in range(200):
        scene = sample_scene(dials, i)
        said = describe(scene, dials, i)
        assert said.noisy
        spoilt += not list_is_true(scene, said.captions[3])
    assert spoilt >= 199


def test_one_thing_has_no_relation_to_speak_of():
    facts = Facts(sample_scene(dials_of({"objects": "1"}), 0))
    captions, standing = captions_of(facts, generator(dials_of({}), 0, "language"))
    assert standing is None and "single" in captions[0]
