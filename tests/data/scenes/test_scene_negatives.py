from collections import Counter
from dataclasses import replace

import pytest
from scene_english import MEANING, Unreadable, list_is_true, standing_is_true, word_bag, world

from diptych.data.scenes.describe import describe
from diptych.data.scenes.dials import Dials, dials_of
from diptych.data.scenes.sampling import sample_scene
from diptych.types import InputError

DIALS = Dials(seed=3)
SENTENCES = ("attributes swapped", "relation reversed")
SHUFFLES = (
    "nouns and adjectives shuffled",
    "other words shuffled",
    "words shuffled within trigrams",
    "trigrams shuffled",
)


def negatives(kinds):
    return [(scene, said, n) for scene, said in world(1500) for n in said.negatives if n.kind in kinds]


def test_a_bag_of_words_cannot_tell_a_negative_from_its_caption():
    for _, said, negative in negatives(SENTENCES + SHUFFLES):
        caption = said.captions[negative.of]
        assert negative.text != caption
        assert word_bag(negative.text) == word_bag(caption)
        assert negative.text[0].isupper() and negative.text.endswith(".")


def test_swapped_and_reversed_sentences_are_sentences_and_false():
    for scene, said, negative in negatives(SENTENCES):
        assert standing_is_true(scene, said.captions[negative.of])
        assert not standing_is_true(scene, negative.text), negative.text


def test_shuffled_captions_say_nothing_true():
    readable = 0
    for scene, _, negative in negatives(SHUFFLES):
        try:
            true = list_is_true(scene, negative.text)
            readable += 1
        except Unreadable:
            true = False
        assert not true, negative.text
    assert readable < 0.05 * len(negatives(SHUFFLES))


def test_shuffles_move_what_they_say():
    content = {form for word, meaning in MEANING.items() if meaning for form in (word, f"{word}s")}
    for _, said, negative in negatives(SHUFFLES):
        before, after = (
            text.lower().rstrip(".").replace(",", "").split() for text in (said.captions[negative.of], negative.text)
        )
        if negative.kind == "other words shuffled":
            assert [w for w in before if w in content] == [w for w in after if w in content]
        elif negative.kind == "words shuffled within trigrams":
            assert [sorted(before[i : i + 3]) for i in range(0, len(before), 3)] == [
                sorted(after[i : i + 3]) for i in range(0, len(after), 3)
            ]
        elif negative.kind == "trigrams shuffled":
            threes = [before[i : i + 3] for i in range(0, len(before), 3)]
            assert all(" ".join(three) in " ".join(after) for three in threes)


@pytest.mark.parametrize(
    ("kind", "least"),
    [*((k, 0.97) for k in SHUFFLES[:3]), (SHUFFLES[3], 0.9), (SENTENCES[0], 0.8), (SENTENCES[1], 0.6)],
)
def test_most_scenes_have_one_of_each_kind(kind, least):
    found = Counter(n.kind for _, said in world(1500) for n in said.negatives)
    assert least * 1500 < found[kind] <= 1500


def test_detail_keeps_some_captions_and_their_negatives() -> None:
    whole = [describe(sample_scene(DIALS, i), DIALS, i) for i in range(40)]
    for text, kept in (("5", [4]), ("4-5", [3, 4]), ("3-4", [2, 3])):
        dials = replace(DIALS, detail=text)
        for i, all_of_it in enumerate(whole):
            some = describe(sample_scene(dials, i), dials, i)
            assert some.captions == [all_of_it.captions[k] for k in kept]
            assert some.questions == all_of_it.questions
            about = [(one.text, all_of_it.captions[one.of]) for one in all_of_it.negatives if one.of in kept]
            assert [(one.text, some.captions[one.of]) for one in some.negatives] == about
    assert any(describe(sample_scene(DIALS, i), replace(DIALS, detail="3-4"), i).negatives for i in range(40))


@pytest.mark.parametrize("options", [{"detail": "6"}, {"detail": "0-3"}, {"detail": "5", "task": "pairs"}])
def test_details_that_are_none_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="detail: expected"):
        dials_of(options)
