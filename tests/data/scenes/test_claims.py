"""What captions claim: every true one is wholly right, every false one is not, and nonsense does no harm."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data import open_dataset
from diptych.data.scenes.claims import MOST, check, read
from diptych.data.scenes.sample import from_json
from diptych.data.scenes.words import DIRECTIONS, GROUNDS, NUMBERS, SYNONYMS
from diptych.data.scenes.world import Scene, Thing

FALSE = ("attributes swapped", "relation reversed")


def thing(words: str, x: float, y: float) -> Thing:
    size, color, material, shape = words.split()
    return Thing(shape, color, material, size, x, y)


SCENE = Scene(
    (
        thing("large red metal cube", -2, 0),
        thing("small red rubber cube", 0, 2),
        thing("large blue rubber sphere", 2, -2),
    ),
    background="sand",
)


@pytest.mark.parametrize("address", ["scenes:?n=1000&size=32&seed=7", "scenes:?n=400&size=32&objects=1-10&split=val"])
def test_true_captions_are_right_and_false_ones_wrong(address: str) -> None:
    data = open_dataset(address)
    wrong_texts = 0
    for sample in data.take(range(len(data)), fields={"captions", "negatives", "texts"}):
        scene = from_json(sample.texts["scene"])
        for caption in sample.captions:
            claims = check(caption, scene)
            assert claims.claimed == claims.right > 0 and claims.unread == (), caption
            assert claims.scene_things == len(scene.things)
        for caption in (sample.captions[1], sample.captions[3], sample.captions[4]):  # those that list all things
            claims = check(caption, scene)
            assert claims.scene_things_described == claims.things_claimed == len(scene.things), caption
        for negative in sample.negatives:
            if negative.kind in FALSE:
                wrong_texts += 1
                claims = check(negative.text, scene)
                assert claims.right < claims.claimed and claims.unread == (), negative.text
    assert wrong_texts > len(data) / 2


@pytest.mark.parametrize(
    ("caption", "things", "relations", "grounds", "described"),
    [
        ("A red cube.", (1, 1), (0, 0), (0, 0), 1),
        ("Two red cubes on sand.", (2, 2), (0, 0), (1, 1), 2),
        ("Three red cubes on grass.", (3, 2), (0, 0), (1, 0), 2),
        ("A big shiny red block and a little red block.", (2, 2), (0, 0), (0, 0), 2),
        ("A red cube and a big block and a cube.", (3, 2), (0, 0), (0, 0), 2),  # there are two cubes
        ("A red blue cube.", (1, 0), (0, 0), (0, 0), 0),  # no thing has two colors
        ("A green sphere.", (1, 0), (0, 0), (0, 0), 0),
        ("Three objects.", (3, 3), (0, 0), (0, 0), 0),  # true, and describes none of them
        ("A pair of cubes and some balls", (4, 3), (0, 0), (0, 0), 3),
        ("2 cubes", (2, 2), (0, 0), (0, 0), 2),
        ("A red cube left of a blue ball.", (2, 2), (1, 1), (0, 0), 2),
        ("A blue ball stands to the left of a red cube.", (2, 2), (1, 0), (0, 0), 2),
        ("There is a blue ball in front of a matte cube", (2, 2), (1, 1), (0, 0), 2),
        ("A green ball behind a red cube.", (2, 1), (1, 0), (0, 0), 1),
        ("There are, from left to right, a cube, a red cube and a ball.", (3, 3), (2, 2), (0, 0), 3),
        ("There are, from left to right, a ball, a red cube and a cube.", (3, 3), (2, 1), (0, 0), 3),
        ("A cube and a ball. The ball is closest to the camera.", (2, 2), (1, 1), (0, 0), 2),
        ("A cube and a ball. The cube is closest to the camera.", (2, 2), (1, 0), (0, 0), 2),
        ("The ball is in front of the metal cube.", (2, 2), (1, 1), (0, 0), 2),
        ("A cube. The ball is right of the cube.", (2, 2), (1, 1), (0, 0), 2),
        ("Two cubes and a ball. The two cubes are behind the ball.", (3, 3), (1, 1), (0, 0), 3),
        ("A red cube, a small cube and a ball. The cubes are behind the ball.", (3, 3), (1, 1), (0, 0), 3),
        ("Some of the cubes are behind a ball. The cubes are left of the ball.", (3, 3), (2, 2), (0, 0), 3),
        ("A cube and a ball. The three cubes are behind the ball.", (5, 3), (1, 1), (0, 0), 3),
    ],
)
def test_claims_by_hand(
    caption: str, things: tuple[int, int], relations: tuple[int, int], grounds: tuple[int, int], described: int
) -> None:
    claims = check(caption, SCENE)
    assert (claims.things_claimed, claims.things_right) == things
    assert (claims.relations_claimed, claims.relations_right) == relations
    assert (claims.grounds_claimed, claims.grounds_right) == grounds
    assert (claims.scene_things_described, claims.scene_things, claims.unread) == (described, 3, ())


@pytest.mark.parametrize(
    ("caption", "things", "unread"),
    [
        ("", 0, ()),
        ("a purple elephant on the moon", 0, ("purple", "elephant", "moon")),
        ("a red cube left of", 1, ("left", "of")),
        ("left of a red cube", 1, ("left", "of")),
        ("a red", 0, ("red",)),
        ("a red cube left of behind a ball", 2, ("behind",)),
        ("no red cubes", 0, ("no", "red")),
        ("A cube left. Of a ball.", 2, ("left",)),
    ],
)
def test_nonsense_is_unread(caption: str, things: int, unread: tuple[str, ...]) -> None:
    claims = check(caption, SCENE)
    assert (claims.things_claimed, claims.unread) == (things, unread)


def test_repetition_is_wrong_and_long_texts_are_cut() -> None:
    start = time.process_time()
    claims = check("a red cube left of a ball " * 20_000, SCENE)
    assert time.process_time() - start < 2
    assert claims.words == MOST and claims.things_right == 3 and claims.things_claimed > 200
    assert check("\x00\ud800 ☃ " * 9, SCENE).claimed == 0


WORDS = sorted(
    {
        word
        for texts in (SYNONYMS, DIRECTIONS, GROUNDS)
        for some in texts.values()
        for text in some
        for word in text.split()
    }
    | {"the", "and", "is", "from", "closest", "camera", ".", ",", "on", "cubes", "elephant", *NUMBERS}
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=60))
def test_any_mix_of_words_is_read(words: list[str]) -> None:
    claims = check(" ".join(words), SCENE)
    assert 0 <= claims.right <= claims.claimed
    assert claims.scene_things_described <= min(claims.things_right, claims.scene_things)
    assert len(claims.unread) <= claims.words


def test_tuples_are_those_of_spice() -> None:
    assert read("A big red cube left of a thing, and two balls behind a cone.").tuples() == {
        ("cube",),
        ("cube", "large"),
        ("cube", "red"),
        ("sphere",),
        ("cone",),
        ("sphere", "behind", "cone"),
    }
