"""Filters by text, picture and number of repeats: what passes, what goes, and what they say of it."""

import builtins
import io
import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from curated_rows import decided, drawing, kept, png, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.data.curate import texts
from diptych.data.curate.limits import Cap, Uncaptioned, within_cap
from diptych.data.curate.lists import counts, filtered, flat
from diptych.data.curate.pictures import Aspect, PictureSize, Readable
from diptych.data.curate.steps import Decision, Step, no_models
from diptych.data.curate.texts import Alphabet, Language, TextLength
from diptych.types import InputError


def captions(decision: Decision) -> list[list[str]]:
    """What is left of all captions."""
    return decision.columns["captions"].to_pylist()


@settings(deadline=None)  # the first example pays for imports
@given(st.lists(st.none() | st.lists(st.text(max_size=3), max_size=3), max_size=6), st.data())
def test_entries_are_filtered_within_their_rows(lists: list[list[str] | None], data: st.DataObject) -> None:
    column = pa.chunked_array([pa.array(part, pa.list_(pa.string())) for part in (lists[:2], lists[2:])])
    column = column.slice(min(1, len(lists)))  # a slice whose offsets do not begin at 0
    lists = [entries or [] for entries in lists[1:]]
    all_of_them = [text for entries in lists for text in entries]
    assert counts(column).tolist() == [len(entries) for entries in lists] and flat(column).to_pylist() == all_of_them
    good = np.array(data.draw(st.lists(st.booleans(), min_size=len(all_of_them), max_size=len(all_of_them))), bool)
    places = iter(good.tolist())
    assert filtered(column, good).to_pylist() == [[text for text in entries if next(places)] for entries in lists]


def test_captions_that_are_too_short_or_too_long_go_and_rows_without_one_stay() -> None:
    table = rows([["a red car", "car"], ["car"], [], None, ["one two three four five"], ["  two   words  "]])
    decision = decided(TextLength(words=(2, 4)), table)
    assert captions(decision) == [["a red car"], [], [], [], [], ["  two   words  "]]
    assert kept(decision) == [0, 2, 3, 5]
    assert decision.changed.tolist() == [True, True, False, False, True, False]
    assert decision.say(0) == ("a red car | car", "a red car") and decision.say(1) == ("car", "")
    assert kept(decided(TextLength(words=None, characters=(4, 9)), rows([["äöüß"], ["abc"], ["0123456789"]]))) == [0]


def test_the_alphabet_is_counted_as_unicode_does() -> None:
    texts = ["a red car", "IMG_0042 100%", "красная машина", "red машина", "", "½ cup", "naïve café", "猫が寝ている"]
    for text, share in zip(texts, (7 / 7, 3 / 12, 1, 1, 0, 3 / 4, 1, 1), strict=True):
        visible = [c for c in text if not c.isspace() and unicodedata.category(c)[0] != "Z"]
        letters = sum(unicodedata.category(c)[0] == "L" for c in visible)
        assert letters / max(len(visible), 1) == pytest.approx(share)
        for least in (share - 0.01, share + 0.01):
            if 0 <= least <= 1:
                assert kept(decided(Alphabet(least=least), rows([[text]]))) == ([0] if share >= least else [])
    latin = decided(Alphabet(of=("Latin",), least=0.6), rows([[text] for text in texts]))
    assert kept(latin) == [0, 5, 6] and latin.say(3) == ("red машина (33%)", "")
    assert kept(decided(Alphabet(of=("Latin", "Cyrillic"), least=1), rows([[text] for text in texts]))) == [0, 2, 3, 6]
    with pytest.raises(InputError, match="alphabet: of: expected Unicode classes or scripts"):
        decided(Alphabet(of=("Klingon",)), rows([["a"]]))


def measured(step: Step, table: pa.Table) -> pa.Table:
    """With the columns that a step measures."""
    for name, column in step.measure(table, no_models).items():
        table = table.append_column(name, column)
    return table


def test_only_what_is_surely_another_language_goes() -> None:
    table = rows(
        [
            ["A brown dog runs over wet grass", "Ein brauner Hund läuft über die nasse Wiese"],
            ["Un chien brun court sur l'herbe mouillée"],
            ["dog"],  # too short to tell
            [],
        ]
    )
    step = Language(keep=("en",), sure=0.5)
    assert "py3langid" in step.measures(no_models)
    decision = decided(step, measured(step, table))
    assert captions(decision) == [["A brown dog runs over wet grass"], [], ["dog"], []] and kept(decision) == [0, 2, 3]
    assert decision.say(1)[0].startswith("Un chien brun court sur l'herbe mouillée (fr, ")
    both = Language(keep=("en", "de"))
    assert len(captions(decided(both, measured(both, table)))[0]) == 2
    with pytest.raises(InputError, match="unknown language 'english'; known are .*en"):
        Language(keep=("english",)).measures(no_models)


def test_language_without_its_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("py3langid"):
            raise ImportError(name)
        return real(name, *rest)

    texts._identifier.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r'pip install "diptych\[language\]"'):
        Language().measures(no_models)


def pictures() -> pa.Table:
    """64 x 64, 200 x 50, 50 x 200 turned by its EXIF to 200 x 50, broken, none; a last row of 64 x 64 and 50 x 200."""
    turned = Image.new("RGB", (50, 200))
    exif = turned.getexif()
    exif[0x0112] = 6
    data = io.BytesIO()
    turned.save(data, "JPEG", exif=exif)
    files = [
        png(drawing(0)),
        png(Image.new("RGB", (200, 50))),
        data.getvalue(),
        png(drawing(0))[:300],
        None,
        png(drawing(0)),
    ]
    more = pa.array([[]] * 5 + [[png(drawing(1)), png(Image.new("RGB", (50, 200)))]], pa.list_(pa.large_binary()))
    return rows(picture=pa.array(files, pa.large_binary()), more=more)


def test_size_and_aspect_are_those_of_the_upright_picture() -> None:
    step = PictureSize(least_side=60, most_pixels=None)
    table = measured(step, pictures())
    assert table["width"].to_pylist() == [[64], [200], [200], [64], [], [64, 64, 50]]
    assert table["height"].to_pylist() == [[64], [50], [50], [64], [], [64, 64, 200]]
    assert kept(decided(step, table)) == [0, 3, 4], "a row without a picture is not judged by one, others by all"
    assert decided(step, table).say(1) == ("200 x 50 pixels", "")
    assert decided(step, table).say(5) == ("50 x 200 pixels", ""), "only what is wrong is told"
    assert kept(decided(PictureSize(least_side=1, most_pixels=64 * 64), table)) == [0, 3, 4]
    assert kept(decided(Aspect(most=4.0), table)) == [0, 1, 2, 3, 4, 5]
    assert kept(decided(Aspect(most=3.9), table)) == [0, 3, 4]
    lists = pa.list_(pa.int32())
    huge = rows(width=pa.array([[100_000]], lists), height=pa.array([[100_000]], lists))
    assert kept(decided(PictureSize(most_pixels=10**10), huge)) == [0]
    assert kept(decided(PictureSize(most_pixels=10**10 - 1), huge)) == []


def test_readable_is_what_can_be_decoded_to_its_end() -> None:
    step = Readable()
    assert kept(decided(step, measured(step, pictures()))) == [0, 1, 2, 5]


def test_cap_keeps_a_stable_choice() -> None:
    table = rows(creator=["a"] * 8 + [None, "", "b", "b"])
    decision = decided(Cap(per="creator", most=3), table)
    stay = kept(decision)
    assert len([i for i in stay if i < 8]) == 3 and stay[3:] == [8, 9, 10, 11]
    backwards = table.take(pa.array(np.arange(12)[::-1]))
    again = kept(decided(Cap(per="creator", most=3), backwards))
    assert {backwards["id"][i].as_py() for i in again} == {str(i) for i in stay}
    gone = next(i for i in range(8) if i not in stay)
    assert decision.say(gone) == ("creator 'a'", "")
    same = rows([["x", "y"], ["x | y"], ["x"], [], []])
    assert len(kept(decided(Cap(per="caption", most=1), same))) == 4, "all captions together are what is capped"


def test_caps_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    values = [["", "x", "y", "z"][i] for i in rng.integers(0, 4, 300)]
    keep = within_cap(pa.chunked_array([values[:100], values[100:]]), pa.array([f"id {i}" for i in range(300)]), 20, 7)
    assert {v: int(keep[[i for i, w in enumerate(values) if w == v]].sum()) for v in "xyz"} == {
        "x": 20,
        "y": 20,
        "z": 20,
    }
    assert keep[[i for i, w in enumerate(values) if not w]].all()


def test_uncaptioned_rows_go() -> None:
    assert kept(decided(Uncaptioned(), rows([["a"], [], None]))) == [0]
