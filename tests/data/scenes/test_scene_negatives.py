from collections import Counter

import pytest
from scene_english import MEANING, Unreadable, list_is_true, standing_is_true, word_bag, world

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
