"""The control of every test of words: a guesser that reads the texts and never sees a picture.

On ARO's order test text-only models beat CLIP (Hsieh et al. 2023, arXiv:2306.14610), because a shuffled caption can be
told by its grammar alone. What a model scores there says something about its sight only as far as it exceeds this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from diptych.evaluation.health.choosing import Choice
from diptych.evaluation.match import hit

Floats = NDArray[np.float64]

FOLDS = 5
WIDTH = 1 << 15  # columns that the parts of texts share
DECAY = 0.1  # of the weights, as a sum of squares; light, since the parts are many and each is rare


def blind_hits(choices: Sequence[Choice], names: Sequence[str]) -> Floats:
    """How a guesser that only reads does on the same choices, each judged by what the other folds teach.

    It learns a linear score of a text's words, neighbours, threes, and which word comes before which (logistic
    regression on the difference of the true and a false text, without an intercept).

    Args:
        names: choices of the same name are never split between learning and judging.

    Returns:
        Q hits as in `Chosen`; those of a fair die where there are too few choices to learn from.
    """
    folds = np.array([_hash(f"fold {name}") % FOLDS for name in names])
    features = _features([text for choice in choices for text in choice.texts])
    ends = np.cumsum([len(choice.texts) for choice in choices])
    starts = np.concatenate([[0], ends[:-1]])
    false = np.setdiff1d(np.arange(ends[-1]), starts)  # the first of each choice is true
    owner = np.searchsorted(ends, false, side="right")
    gaps = features[starts[owner]] - features[false]
    hits = np.array([1 / len(choice.texts) for choice in choices])
    for fold in range(FOLDS):
        judged, taught = np.flatnonzero(folds == fold), folds[owner] != fold
        if len(judged) and taught.any():
            scores = features @ _fit(gaps[taught])
            hits[judged] = [hit(scores[starts[i]], scores[starts[i] + 1 : ends[i]].tolist()) for i in judged]
    return hits


def _fit(gaps: Any) -> Floats:
    """Weights that score true texts above false ones: minimises sum log(1 + exp(-w gap)) + decay |w|^2."""
    used = np.unique(gaps.indices)
    gaps = gaps[:, used]

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = gaps @ weights
        slopes = -1 / (1 + np.exp(np.minimum(margins, 500.0)))
        value = np.logaddexp(0, -margins).sum() + DECAY * (weights @ weights)
        return float(value), gaps.T @ slopes + 2 * DECAY * weights

    found = minimize(loss, np.zeros(len(used)), jac=True, method="L-BFGS-B", options={"maxiter": 60})
    weights = np.zeros(WIDTH)
    weights[used] = found.x
    return weights


def _features(texts: Sequence[str]) -> Any:
    """texts x WIDTH, sparse."""
    columns = [[_hash(part) % WIDTH for part in _parts(text)] for text in texts]
    starts = np.cumsum([0, *map(len, columns)])
    flat = np.array([column for row in columns for column in row], np.int64)
    found = csr_matrix((np.ones(len(flat)), flat, starts), shape=(len(texts), WIDTH))
    found.sum_duplicates()
    return found


def _parts(text: str) -> list[str]:
    words = ["^", *text.lower().replace(",", " ,").replace(".", " .").split(), "$"]
    parts = [" ".join(words[i : i + n]) for n in (1, 2, 3) for i in range(len(words) - n + 1)]
    return parts + [f"{first} .. {later}" for i, first in enumerate(words) for later in words[i + 2 :]]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
