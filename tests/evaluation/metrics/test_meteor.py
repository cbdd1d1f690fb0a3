"""METEOR against the released program, by golden values (tests/golden/meteor.py made them), and by hand."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from diptych.evaluation.metrics.meteor import corpus_meteor, find_meteor_data, meteor
from diptych.evaluation.metrics.meteor_align import PARAPHRASE, STEM, Lexicon, Match, Sentence, align
from diptych.evaluation.metrics.meteor_data import MeteorData, Synonyms
from diptych.evaluation.metrics.meteor_words import FUNCTION_WORDS, words_of
from diptych.types import InputError

GOLDEN = Path(__file__).parents[2] / "golden" / "meteor.json"


@pytest.fixture(scope="module")
def data() -> MeteorData:
    found = find_meteor_data()
    if found is None or found.table is None:
        pytest.skip("needs the package pycocoevalcap, which carries METEOR's data")
    return found


def test_scores_are_those_of_the_program(data: MeteorData) -> None:
    golden = json.loads(GOLDEN.read_text("utf-8"))
    rows, pictures = golden["rows"], golden["pictures"]
    references = [
        [text for place, text in enumerate(pictures[number]) if place != left_out] for _, number, left_out, _ in rows
    ]
    found = meteor([row[0] for row in rows], references, data, tokenized=True)
    off = np.abs(found.each - [row[3] for row in rows])
    print(f"corpus off by {abs(found.value - golden['corpus']):.1e}; {len(rows)} captions: ", end="")
    print(f"{(off < 1e-6).mean():.2%} within 1e-6, {(off < 1e-3).mean():.2%} within 1e-3, largest {off.max():.1e}")
    assert found.stages == ("exact", "stem", "synonym", "paraphrase")
    assert len(rows) > 2000
    assert found.value == pytest.approx(golden["corpus"], abs=1e-4)
    assert (off < 1e-6).mean() >= 0.99  # a stem may differ by the version of snowballstemmer


def test_the_function_words_are_those_of_the_program(data: MeteorData) -> None:
    with zipfile.ZipFile(data.jar) as jar:
        assert set(jar.read("function/english.words").decode().split("\n")) - {""} == FUNCTION_WORDS


def test_by_hand_without_data() -> None:
    captions = ["the cat", "the cats sat", "", "a b"]
    found = meteor(captions, [["the dog sleeps"], ["the cat sat"], ["a"], ["c d"]], tokenized=True)
    assert found.stages == ("exact", "stem")
    # "the" alone: precision .25 / 1, recall .25 / 1.75, one chunk of one word
    alone = 1 / (0.15 / 0.25 + 0.85 * 7) * (1 - 0.6)
    # a stem weighs .6: precision = recall = (.25 + .75 + .6 * .75) / 1.75; all words in one chunk: no penalty
    assert found.each.tolist() == pytest.approx([alone, 1.45 / 1.75, 0, 0])


def test_the_best_reference_counts_and_the_corpus_is_summed() -> None:
    captions, references = ["a red car", "a dog runs"], [["a blue bus", "red car", "a red car"], ["the dog ran", "x"]]
    found = meteor(captions, references, tokenized=True)
    assert found.each[0] == 1
    alone = [meteor([caption], [texts], tokenized=True) for caption, texts in zip(captions, references)]
    assert [score.value for score in alone] == pytest.approx(found.each.tolist())
    assert corpus_meteor(found.counts[1:]) == pytest.approx(found.each[1])
    assert found.value != pytest.approx(found.each.mean())


def test_raw_captions_are_tokenized() -> None:
    assert meteor(["A man, eating."], [["a man eating"]]).each.tolist() == [1]


def test_nothing_to_score() -> None:
    found = meteor([], [], tokenized=True)
    assert found.each.shape == (0,)
    assert found.value == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("two  dogs run", "two dogs run"),
        ("it's 1,500 kg, or more...", "it 's 1,500 kg , or more ..."),
        ("the u.s.-based dogs' e.g. one", "the us based dogs ' eg one"),
        ("on mary's street. 5 x. y 6.", "on mary 's street . 5 x. y 6 ."),
        ("pp. 5 vs. X.", "pp. 5 vs. x ."),
        ("“a” – b-c ''", '" a " - b c "'),
        ("do n't café\u00a0東!", "do n 't café 東 !"),
        ("", ""),
    ],
)
def test_words(text: str, words: str) -> None:
    assert words_of(text) == words.split()


def _aligned(caption: str, reference: str, paraphrases: dict[str, str] | None = None) -> list[Match]:
    phrases = {phrase: {other: [0]} for phrase, other in (paraphrases or {}).items()}
    lexicon = Lexicon(lambda word: word.rstrip("s"), lambda _: frozenset(), phrases)
    return align(Sentence(caption.split(), lexicon), Sentence(reference.split(), lexicon))


def test_a_repeated_word_goes_where_the_chunk_is_longer() -> None:
    matches = _aligned("a b a c", "a c")
    assert [(match.own_start, match.start) for match in matches] == [(2, 0), (3, 1)]


def test_stems_and_paraphrases_in_both_directions() -> None:
    assert _aligned("dogs", "dog") == [Match(0, 1, 0, 1, STEM)]
    for caption, reference in (("x in front of", "y before"), ("y before", "x in front of")):
        match = _aligned(caption, reference, {"in front of": "before"})
        lengths = {match[0].end - match[0].start, match[0].own_end - match[0].own_start}
        assert (len(match), match[0].stage, lengths) == (1, PARAPHRASE, {1, 3})


def test_synonyms_of_base_forms() -> None:
    known = Synonyms("car\n1 2\nauto\n2\ngo\n3\nbus\n4\nmove\n3\n", "go\nwent gone\n")
    assert known.of("cars") == known.of("car") == {"1", "2"}
    assert known.of("autos") & known.of("car")
    assert known.of("went") == known.of("moved") == {"3"}
    assert known.of("bus") == {"4"}
    assert known.of("tree") == frozenset()


def _small_data(folder: Path, table: bytes | None) -> MeteorData:
    with zipfile.ZipFile(folder / "meteor-1.5.jar", "w") as jar:
        jar.writestr("synonym/english.synsets", "car\n1\nauto\n1\n")
        jar.writestr("synonym/english.exceptions", "")
    if table is not None:
        (folder / "paraphrase-en.gz").write_bytes(table)
    found = find_meteor_data(folder)
    assert found is not None
    return found


def test_data_of_a_folder(tmp_path: Path) -> None:
    table = gzip.compress(b"0.5\nin front of\nbefore\n0.1\nnot\nhere\n0.1\non the left\nleft of\n")
    small = _small_data(tmp_path, table)
    assert meteor(["auto before"], [["car in front of"]], small, tokenized=True).each[0] > 0.5
    assert small.paraphrases([["before"], ["in", "front", "of"]]) == {"in front of": {"before": [0]}}
    assert "on the left" in small.paraphrases([["on", "the", "left"], ["left", "of"]])  # other texts: read again


def test_without_the_table_the_paraphrase_stage_is_left_out(tmp_path: Path) -> None:
    assert meteor(["auto"], [["car"]], _small_data(tmp_path, None), tokenized=True).stages[2:] == ("synonym",)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="references: expected 1 lists, one of each caption, got 0"):
        meteor(["a"], [])
    with pytest.raises(InputError, match="got none at position 1"):
        meteor(["a", "b"], [["a"], []])
    with pytest.raises(InputError, match=r"expected METEOR's meteor-1\.5\.jar in this folder"):
        find_meteor_data(tmp_path)
    for table in (b"no gzip", gzip.compress(b"0.5\na\nb\n" * 99)[:-9]):
        with pytest.raises(InputError, match="expected METEOR's paraphrase table, gzipped"):
            meteor(["a"], [["b"]], _small_data(tmp_path, table), tokenized=True)
    (tmp_path / "meteor-1.5.jar").write_bytes(b"no zip")
    with pytest.raises(InputError, match="expected METEOR 1.5 with WordNet's synsets inside"):
        meteor(["a"], [["b"]], find_meteor_data(tmp_path), tokenized=True)
