"""Concept matching against the substring test that defines it."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data.curate import concepts
from diptych.data.curate.concepts import ConceptMatcher, normalise, read_entries
from diptych.types import InputError


def by_row(matches: concepts.Matches) -> list[list[int]]:
    offsets, entries = matches
    return [entries[start:end].tolist() for start, end in zip(offsets, offsets[1:])]


def by_substring(entries: list[str], texts: list[str]) -> list[list[int]]:
    """The definition, one entry after the other."""
    first = [entry not in entries[:i] for i, entry in enumerate(entries)]
    return [
        [i for i, entry in enumerate(entries) if first[i] and entry and f" {entry} " in f" {text} "] for text in texts
    ]


PIECES = st.lists(st.sampled_from(["a", "b", "ab", "é", "", "a.", "\t", "c"]), max_size=8).map(" ".join)


@settings(deadline=None)  # the first call warms Arrow up
@given(st.lists(PIECES, max_size=12), st.lists(PIECES, max_size=6))
def test_literal_matching_is_the_substring_test(entries, texts):
    assert by_row(ConceptMatcher(entries, literal=True).match(texts)) == by_substring(entries, texts)


@settings(deadline=None)  # the first call warms Arrow up
@given(st.lists(PIECES, max_size=12), st.lists(PIECES, max_size=6))
def test_matching_is_the_substring_test_of_normalised_texts(entries, texts):
    plain = by_substring(normalise(entries).to_pylist(), normalise(texts).to_pylist())
    assert by_row(ConceptMatcher(entries).match(texts)) == plain


def test_entries_that_overlap_are_all_found_once_each():
    entries = ["york", "new york", "new york city", "york city hall", "city", "York", "yorks"]
    found = by_row(ConceptMatcher(entries).match(["New York City, the city of New York", "", "yorkshire"]))
    assert found == [[0, 1, 2, 4], [], []]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A  Red\tcar\n", "a red car"),
        ("red, car (new)!", "red , car ( new ) !"),
        ("a T-shirt, size 3.5: don't", "a t-shirt , size 3 . 5 : don't"),
        ("Cafe\u0301\u00a0ÉTÉ", "café été"),
        ('[x]{y}`z`"q";?', '[ x ] { y } ` z ` " q " ; ?'),
        ("", ""),
    ],
)
def test_normal_form(text, normal):
    assert normalise([text]).to_pylist() == [normal]


def test_a_sign_keeps_words_apart_and_a_run_of_spaces_does_not():
    matcher = ConceptMatcher(["red car", "u.s."])
    assert by_row(matcher.match(["a RED   car", "red, car", "the U.S. flag", "us"])) == [[0], [], [1], []]


def test_arrow_arrays_slices_nulls_and_many_texts(monkeypatch):
    monkeypatch.setattr(concepts, "_AT_ONCE", 3)
    texts = ["a dog", None, "dog dog", "a cat", "cat dog", "", "dog"]
    matcher = ConceptMatcher(["dog", "cat"])
    expected = [[0], [], [0], [1], [0, 1], [], [0]]
    array = pa.array(["cat", *texts])[1:]
    for given_ in (texts, array, pa.chunked_array([array[:2], array[2:]]), array.cast(pa.large_string())):
        assert by_row(matcher.match(given_)) == expected
    offsets, entries = matcher.match([])
    assert (offsets.tolist(), len(entries)) == ([0], 0)
    assert (offsets.dtype, entries.dtype) == ("int64", "int32")


def test_without_entries_nothing_matches():
    for entries in ([], [""], ["  "]):
        assert by_row(ConceptMatcher(entries).match(["a", ""])) == [[], []]


def test_what_is_no_text_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="expected a list of texts"):
        ConceptMatcher(["a"]).match(["a", 3])
    with pytest.raises(InputError, match="valid Unicode"):
        ConceptMatcher(["\udce9"])


def test_lists_of_entries_are_read(tmp_path):
    lines, listed = tmp_path / "entries.txt", tmp_path / "metadata.json"
    lines.write_text("red car\n\ndog\n", encoding="utf-8")
    listed.write_text(json.dumps(["red car", "", "dog"]))
    assert read_entries(lines) == read_entries(listed) == ["red car", "dog"]
    for bad in ("[1]", "{}", "[", '{"a": ["b"]}'):
        listed.write_text(bad)
        with pytest.raises(InputError, match="metadata.json: "):
            read_entries(listed)
    lines.write_text("\n")
    with pytest.raises(InputError, match="at least one entry"):
        read_entries(lines)
    with pytest.raises(InputError, match="cannot be read"):
        read_entries(tmp_path / "none.txt")
