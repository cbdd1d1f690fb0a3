"""The caption tokenizer beside the Java program of COCO caption evaluation; `tests/golden/tokenizer.py` ran that."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.evaluation.metrics.tokenizer import tokenize

GOLDEN = Path(__file__).parents[2] / "golden" / "tokenizer.json.gz"

# (why, caption, what the Java program makes of it, what we make of it); some 7 such among 17,000 odd captions
KNOWN = [
    ("a line separator makes two captions there", "a dog\u2028a cat", "a dog\na cat", "a dog a cat"),
    ("letters newer than 2010", "a Ა cat", "a cat", "a Ა cat".lower()),
    ("a soft hyphen in a contraction", "can\u00adt can\u00ad't", "cant can t", "cant ca n't"),
    ("a Greek sigma before a hyphen", "ΑΘΉΝΑΣ-AN", "αθήνασ-an", "αθήνας-an"),
    ("an acronym after an acronym", "J.K.-i.e. x", "j.k.-i.e. x", "j.k.-i e. x"),
    ("a hyphen after a state", "Ill.-A x", "ill. a x", "ill.-a x"),
    (
        "other white space before an address",
        "R.I.P.\u2003flickr.com/photos",
        "r.i.p. \u2003flickr.com/photos",
        "r.i.p.\u2003flickr.com/photos",
    ),
    ("a back quote in curly quotes", "x “`” y", "x ``` y", "x y"),
]


def test_equals_the_java_program() -> None:
    rows = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    captions = [caption for caption, _ in rows]
    assert len(set(captions)) > 5000
    different = [(*row, ours) for row, ours in zip(rows, tokenize(captions)) if row[1] != ours]
    assert different == []


@pytest.mark.parametrize(("why", "caption", "theirs", "ours"), KNOWN)
def test_known_differences(why: str, caption: str, theirs: str, ours: str) -> None:
    assert theirs != ours, why
    assert tokenize([caption]) == [ours]


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man, riding a wave.", "a man riding a wave"),
        ("It isn't the dog's; they've cannot.", "it is n't the dog 's they 've can not"),
        ("3 1/2 cups (of tea) for $5 ...", "3\u00a01/2 cups -lrb- of tea -rrb- for $ 5"),
        ("“Curly” – U.S.-based T-shirt 😀 naïve", "curly u.s.-based t-shirt naïve"),
        ("", ""),
        (" \t\n ", ""),
        ("!?", "!?"),
    ],
)
def test_examples(caption: str, tokens: str) -> None:
    assert tokenize([caption]) == [tokens]


@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_text_gives_one_line_of_lower_case_tokens(texts: list[str]) -> None:
    found = tokenize(texts)
    assert len(found) == len(texts)
    for text in found:
        assert "\n" not in text and text == text.strip(" ") and "  " not in text
        assert text == text.lower()


@given(st.text(alphabet="ab A7.-'/,!?(\"$ <’", max_size=14), st.text(alphabet="ab A7.-'/", max_size=8))
def test_captions_do_not_touch_each_other(first: str, second: str) -> None:
    assert tokenize([first, second, first]) == [*tokenize([first]), *tokenize([second]), *tokenize([first])]
