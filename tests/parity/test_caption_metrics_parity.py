"""BLEU, ROUGE-L and CIDEr-D beside pycocoevalcap 1.2, per image and over the corpus, with the n-grams both ways."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from diptych.evaluation.metrics.captions import score_captions

WORDS = [f"word{i}" for i in range(60)] + ["a", "the", "of", "naïve", "½", "🐱", "1\N{NO-BREAK SPACE}1/2", "#", "n't"]


def corpus(seed: int, images: int) -> tuple[list[str], list[list[str]]]:
    """Captions with repeated words, of very different length, with and without anything in common; some empty."""
    random = Random(seed)
    weights = [1 / rank for rank in range(1, len(WORDS) + 1)]

    def sentence() -> str:
        return " ".join(random.choices(WORDS, weights, k=random.choice((0, 1, 2, 3, 8, 9, 10, 11, 12, 40))))

    candidates, references = [], []
    for _ in range(images):
        own = [sentence() for _ in range(random.randint(1, 6))]
        words = random.choice(own).split()
        kept = [random.choice(WORDS) if random.random() < 0.3 else word for word in words]
        candidates.append(random.choice([" ".join(kept), own[0], sentence(), "only here", "a a a a a a a a"]))
        references.append(own)
    return candidates, references


@pytest.mark.parametrize(("seed", "images"), [(0, 300), (1, 2), (2, 37)])
def test_equals_pycocoevalcap(seed: int, images: int) -> None:
    candidates, references = corpus(seed, images)
    truth = dict(enumerate(references))
    written = {place: [text] for place, text in enumerate(candidates)}
    bleu, each_bleu = Bleu(4).compute_score(truth, written, verbose=0)
    expected = {f"bleu_{n + 1}": (bleu[n], each_bleu[n]) for n in range(4)}
    expected["rouge_l"] = Rouge().compute_score(truth, written)
    expected["cider_d"] = Cider().compute_score(truth, written)
    found = score_captions(candidates, references, tokenized=True)
    assert list(found) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"]
    for name, (value, each) in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name
        np.testing.assert_allclose(found[name].each, each, atol=1e-9, err_msg=name)
