"""BLEU, ROUGE-L and CIDEr-D against plain counting, with and without numba, and on captions at the edges."""

from __future__ import annotations

from collections import Counter
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.evaluation.metrics import compiled
from diptych.evaluation.metrics.bleu import bleu_counts, corpus_bleu
from diptych.evaluation.metrics.captions import document_frequencies, score_captions
from diptych.types import InputError

NAMES = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"]

caption = st.lists(st.sampled_from(["a", "b", "c", "dog", "é", "🐱"]), max_size=9).map(" ".join)
image = st.tuples(caption, st.lists(caption, min_size=1, max_size=4))
corpora = st.lists(image, min_size=2, max_size=5)


def grams(text: str, n: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def plain_bleu(candidate: str, references: list[str]) -> list[float]:
    length = len(candidate.split())
    closest = min((abs(len(text.split()) - length), len(text.split())) for text in references)[1]
    scores, product = [], 1.0
    for n in range(1, 5):
        own = grams(candidate, n)
        matched = sum(min(count, max(grams(text, n)[gram] for text in references)) for gram, count in own.items())
        product *= (matched + 1e-15) / (own.total() + 1e-9)
        ratio = (length + 1e-15) / (closest + 1e-9)
        scores.append(product ** (1 / n) * (exp(1 - 1 / ratio) if ratio < 1 else 1.0))
    return scores


def plain_rouge(candidate: str, references: list[str]) -> float:
    def common(a: list[str], b: list[str]) -> int:
        if not a or not b:
            return 0
        return common(a[1:], b[1:]) + 1 if a[0] == b[0] else max(common(a[1:], b), common(a, b[1:]))

    own = candidate.split(" ")
    precision = max(common(own, text.split(" ")) / len(own) for text in references)
    recall = max(common(own, text.split(" ")) / len(text.split(" ")) for text in references)
    return 2.44 * precision * recall / (recall + 1.44 * precision) if precision and recall else 0.0


def plain_cider(candidates: list[str], references: list[list[str]]) -> list[float]:
    scores = []
    for candidate, own_references in zip(candidates, references):
        total = 0.0
        for reference in own_references:
            gap = max(len(candidate.split()) - 1, 0) - max(len(reference.split()) - 1, 0)
            for n in range(1, 5):
                having = Counter(gram for texts in references for gram in {g for text in texts for g in grams(text, n)})
                weight = {gram: log(len(references)) - log(max(1, having[gram])) for gram in grams(candidate, n)}
                weight |= {gram: log(len(references)) - log(max(1, having[gram])) for gram in grams(reference, n)}
                own = {gram: count * weight[gram] for gram, count in grams(candidate, n).items()}
                other = {gram: count * weight[gram] for gram, count in grams(reference, n).items()}
                dot = sum(min(own[gram], other[gram]) * other[gram] for gram in own if gram in other)
                norms = sqrt(sum(value**2 for value in own.values()) * sum(value**2 for value in other.values()))
                total += exp(-(gap**2) / 72) * (dot / norms if norms else 0.0)
        scores.append(10 * total / 4 / len(own_references))
    return scores


@settings(deadline=None, max_examples=60)
@given(corpora)
def test_equals_plain_counting(corpus: list[tuple[str, list[str]]]) -> None:
    candidates, references = [text for text, _ in corpus], [texts for _, texts in corpus]
    found = score_captions(candidates, references, tokenized=True)
    bleu = np.array([plain_bleu(*one) for one in corpus])
    for n in range(4):
        np.testing.assert_allclose(found[f"bleu_{n + 1}"].each, bleu[:, n], atol=1e-9)
    np.testing.assert_allclose(found["rouge_l"].each, [plain_rouge(*one) for one in corpus], atol=1e-9)
    np.testing.assert_allclose(found["cider_d"].each, plain_cider(candidates, references), atol=1e-9)


def test_numba_and_numpy_give_equal_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(40)])

    def sentence() -> str:
        return " ".join(rng.choice(words, rng.integers(0, 15)))

    candidates, references = [sentence() for _ in range(200)], [[sentence() for _ in range(4)] for _ in range(200)]
    candidates[:50] = [texts[0] for texts in references[:50]]
    frequencies = document_frequencies(references[:150], tokenized=True)
    for chosen in (None, frequencies):
        results = []
        for worthwhile in (0, 10**9):
            monkeypatch.setattr(compiled, "WORTHWHILE", worthwhile)
            assert (compiled.kernels(1000) is None) == (worthwhile > 0)
            results.append(score_captions(candidates, references, frequencies=chosen, tokenized=True))
        for name in NAMES:
            np.testing.assert_allclose(results[0][name].each, results[1][name].each, atol=1e-12, err_msg=name)


def test_a_caption_that_equals_its_only_reference() -> None:
    texts = ["a dog runs on the grass", "two cats sleep in a box", "the old clock is red"]
    found = score_captions(texts, [[text] for text in texts], tokenized=True)
    for name in NAMES:
        np.testing.assert_allclose(found[name].each, 10.0 if name == "cider_d" else 1.0, atol=1e-6)


def test_nothing_in_common_and_empty_captions() -> None:
    found = score_captions(["x y z", "", "a"], [["a b"], ["a b c", "d"], ["", "b"]], tokenized=True)
    for name in NAMES:
        np.testing.assert_allclose(found[name].each, 0.0, atol=1e-6)


def test_repeated_words_count_only_as_often_as_a_reference_has_them() -> None:
    counts = bleu_counts(["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]])
    assert counts.tolist() == [[7, 7, 2, 0, 0, 0, 7, 6, 5, 4]]


def test_of_two_references_as_close_the_shorter_counts() -> None:
    assert bleu_counts(["a b c d"], [["a b c d e", "a b c"]])[0, 1] == 3
    assert bleu_counts(["a b c d"], [["a b c d e", "a b c", "x y z v"]])[0, 1] == 4


def test_precision_and_recall_may_come_from_two_references() -> None:
    found = score_captions(["a b"], [["a b c d", "a"]], metrics=("rouge_l",), tokenized=True)
    assert found["rouge_l"].value == pytest.approx(1.0)  # precision of the first, recall of the second


def test_corpus_bleu_adds_counts_before_it_divides() -> None:
    counts = bleu_counts(["a b", "c d e f g h"], [["a b"], ["c x e x g x"]])
    assert corpus_bleu(counts)[0] == pytest.approx(5 / 8)
    assert corpus_bleu(counts[:1])[0] == pytest.approx(1.0)


def test_raw_text_is_tokenized() -> None:
    raw = score_captions(["A dog's ball!", "Two cats."], [["a DOG 's ball."], ["two, cats"]])
    assert raw["bleu_1"].each == pytest.approx([1.0, 1.0])


def test_frequencies_of_another_corpus() -> None:
    texts = [["a dog"], ["a cat"], ["a red ball"], ["two dogs"]]
    frequencies = document_frequencies(texts)
    assert frequencies.images == 4
    own = score_captions([t[0] for t in texts], texts, metrics=["cider_d"])["cider_d"]
    same = score_captions([t[0] for t in texts], texts, metrics=["cider_d"], frequencies=frequencies)["cider_d"]
    np.testing.assert_allclose(own.each, same.each)
    one = score_captions(["a dog"], [["a dog"]], metrics=["cider_d"], frequencies=frequencies)["cider_d"]
    assert one.value == pytest.approx(own.each[0])
    unknown = score_captions(["zebra a"], [["zebra a"]], metrics=["cider_d"], frequencies=frequencies)["cider_d"]
    assert unknown.value == pytest.approx(10 * 2 / 4)  # two words: no 3- and 4-grams


@pytest.mark.parametrize(
    ("candidates", "references", "sentence"),
    [
        ([], [], "candidates: expected at least one caption"),
        (["a"], [["a"], ["b"]], "one list for each of the 1 candidates, got 2"),
        (["a", "b"], [["a"], []], "one or more captions for image 1, got none"),
        (["a", "b"], [["a"], "b"], "expected a list of captions for each candidate, got a single text"),
        (["a"], [["a"]], "expected two or more images, or `frequencies` of a larger corpus"),
    ],
)
def test_bad_input(candidates: list[str], references: list[list[str]], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        score_captions(candidates, references)


def test_unknown_metric_and_a_corpus_of_one_image() -> None:
    with pytest.raises(InputError, match="metrics: expected some of bleu, rouge_l, cider_d, got 'spice'"):
        score_captions(["a"], [["a"]], metrics=["spice"])
    with pytest.raises(InputError, match="expected two or more images"):
        document_frequencies([["a"]])


def test_bleu_and_rouge_of_one_image() -> None:
    found = score_captions(["a dog runs fast"], [["a dog runs fast"]], metrics=("bleu", "rouge_l"))
    assert [score.value for score in found.values()] == pytest.approx([1.0] * 5)
