"""Words out of names, tags and boilerplate: better captions from what a sample has."""

import pytest
from curated_rows import decided, rows

from diptych.data.curate.captions import Captions, Tags, find_boilerplate
from diptych.data.curate.words import file_name_words, folder_words, join_phrases, words


def test_words_split_names_and_drop_digits() -> None:
    assert words("redCar_02-small") == ["red", "car", "small"]
    assert words("Füße&Hände.3") == ["füße", "hände"]


@pytest.mark.parametrize(
    ("path", "creator", "expected"),
    [
        ("people/team_sketch_erich_schube_02.webp", "Erich Schubert", "team sketch"),
        ("office/envelop_rikva_01.webp", "Rikva", "envelop"),
        ("a/IMG_0042.JPG", None, ""),
        ("a/DSCN1234.jpg", None, ""),
        ("deadbeef01.png", None, ""),
        ("animals/ant.png", "Ann T. Smith", "ant"),
    ],
)
def test_file_names_lose_their_author_and_camera(path: str, creator: str | None, expected: str) -> None:
    assert " ".join(file_name_words(path, creator)) == expected


def test_folder_words_come_innermost_first() -> None:
    assert folder_words("animals/bugs_and_spiders/ant.png") == ["bugs and spiders", "animals"]


def test_joined_phrases_add_something_each() -> None:
    assert join_phrases(["red arrow", "arrows", "shape", "red"]) == "red arrow, shape"


def test_boilerplate_is_what_many_pictures_share() -> None:
    texts = ["stamp"] * 4 + ["a cat", "Art by X - dog", "Art by X - cow", "Art by X - hen", "Art by X - pig"]
    frequent, beginnings = find_boilerplate(texts, most_repeats=3)
    assert frequent == {"stamp"}
    assert beginnings == {"Art by X - "}


def test_boilerplate_captions_become_the_file_name_with_context() -> None:
    sentence = "A brown dog runs over wet grass, tongue out."
    table = rows(
        [["My icon theme"]] * 4 + [["a dog"], [sentence], None],
        tags=[["computer"]] * 4 + [[], None, []],
        creator=[None] * 7,
        path=[f"icons/flat/disk_{i}.png" for i in range(4)] + ["animals/hund.png", "photos/img_1.jpg", "IMG_7.jpg"],
    )
    decision = decided(Captions(most_repeats=3), table)
    new = decision.columns["captions"].to_pylist()
    assert new[0] == ["disk, computer, flat, icons"]
    assert new[4] == ["a dog, hund, animals"]
    assert new[5] == [sentence]  # a sentence stays as it is
    assert new[6] == []  # nothing is known of it, and nothing is invented
    assert decision.keep is None and decision.changed.tolist() == [True] * 5 + [False, False]
    assert decision.say(4) == ("a dog", "a dog, hund, animals")
    plain = decided(Captions(most_repeats=3, context=False), table)
    assert plain.columns["captions"].to_pylist()[0] == ["disk"]


def test_junk_tags_go_and_words_stay() -> None:
    table = rows(tags=[["hash", "0x93a3a4c", "Dog", "dog", "x", "united_nations", "facade"], None, ["dog"]])
    decision = decided(Tags(junk=("Hash",)), table)
    assert decision.columns["tags"].to_pylist() == [["dog", "united nations", "facade"], [], ["dog"]]
    assert decision.changed.tolist() == [True, False, False]
    assert decision.say(0)[0].startswith("hash, 0x")
