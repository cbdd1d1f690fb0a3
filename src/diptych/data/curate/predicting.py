"""How well a text alone tells a class: what a model could score without looking at the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from diptych.data.curate.concepts import normalise
from diptych.types import Estimate

FOLDS = 5
TELLING = 4  # words shown of a class
_CHUNK = 1 << 13
_CELLS = 1 << 26  # of a table of classes by words: with more, the rarest words are left out
_SCORES = 1 << 20  # texts times classes that are scored together

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Prediction:
    """Accuracy of telling a class from the words of a text, in cross-validation.

    Attributes:
        target: the field that is told.
        classes: samples of each, commonest first; rarer ones than asked for are left out and counted in `left_out`.
        accuracy: texts divided at random, so that most repeated texts were seen with their class.
        of_new_texts: equal texts kept together, so that each is new to the classifier. `chance` of both is what
            naming the commonest class reaches; of questions, the commonest of their kind.
        telling: of each class the words that most give it away: (word, texts of the class with it, texts with it).
    """

    target: str
    classes: dict[str, int]
    left_out: int
    accuracy: Estimate
    of_new_texts: Estimate
    telling: dict[str, list[tuple[str, int, int]]]


def predict(
    texts: Sequence[str],
    values: Sequence[str],
    target: str,
    *,
    kinds: Sequence[str] | None = None,
    least: int = 10,
    seed: int = 0,
) -> Prediction | None:
    """Tell `values` from `texts` by naive Bayes over which words occur; None with fewer than two classes.

    McCallum and Nigam, "A comparison of event models for naive Bayes text classification" (1998), the multinomial model
    over distinct words, smoothed by one. Five folds. The 95 % intervals hold equal texts to be one observation. Words
    are those of `concepts.normalise`, signs included. A weak classifier: a stronger one may find more.

    Args:
        texts: N texts.
        values: N class names.
        kinds: N kinds of question. The classifier knows them too.
        least: samples that a class must have.
    """
    names, codes, sizes = np.unique(np.array(values, dtype=object), return_inverse=True, return_counts=True)
    enough = np.flatnonzero(sizes >= max(least, FOLDS))
    if len(enough) < 2:
        return None
    enough = enough[np.argsort(-sizes[enough], kind="stable")]
    renumbered = np.full(len(names), -1)
    renumbered[enough] = np.arange(len(enough))
    chosen = np.flatnonzero(renumbered[codes] >= 0)
    classes = renumbered[codes[chosen]]
    kinds = kinds or [""] * len(texts)
    normal = normalise([f"{texts[i]} {kinds[i].replace(' ', '_')}" for i in chosen.tolist()])
    group = normal.dictionary_encode().indices.to_numpy()
    words = _Words(normal)
    words.limit(_CELLS // len(enough))
    rng = np.random.default_rng(seed)
    hits = words.hits(classes, rng.permutation(len(chosen)) % FOLDS)
    hits_of_new = words.hits(classes, (rng.permutation(int(group.max()) + 1) % FOLDS)[group])
    kind = np.unique(np.array(kinds, dtype=object)[chosen], return_inverse=True)[1]
    table = np.zeros((int(kind.max()) + 1, len(enough)))
    np.add.at(table, (kind, classes), 1)
    chance = float(table.max(axis=1).sum() / len(chosen))
    labels = [str(names[i]) for i in enough.tolist()]
    return Prediction(
        target,
        {label: int(sizes[i]) for label, i in zip(labels, enough.tolist())},
        len(texts) - len(chosen),
        _share(hits, group, chance),
        _share(hits_of_new, group, chance),
        dict(zip(labels, words.telling(classes, least))),
    )


class _Words:
    """Which words occur in which of N texts: text `rows[i]` has word `items[i]`, each pair once, rows rising."""

    def __init__(self, normal: Any) -> None:
        lists = pc.split_pattern(normal, " ")
        encoded = lists.values.dictionary_encode()
        self.names = encoded.dictionary.to_pylist()
        parents = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
        pairs = np.unique(parents * len(self.names) + encoded.indices.to_numpy())
        self.rows, self.items = np.divmod(pairs, len(self.names))
        self.size = len(lists)

    def limit(self, most: int) -> None:
        """Forget all but the commonest words."""
        if len(self.names) <= most:
            return
        counts = np.bincount(self.items, minlength=len(self.names))
        kept = np.sort(np.argsort(-counts, kind="stable")[:most])
        number = np.full(len(self.names), -1)
        number[kept] = np.arange(len(kept))
        some = number[self.items] >= 0
        self.rows, self.items = self.rows[some], number[self.items[some]]
        self.names = [self.names[i] for i in kept.tolist()]

    def hits(self, classes: Array, folds: Array) -> Array:
        """Whether each text is told right by what the other folds teach."""
        right = np.zeros(self.size, bool)
        for fold in range(FOLDS):
            asked = folds == fold
            prior, of_word = self._learn(classes, ~asked)
            right[asked] = self._told(asked, prior, of_word) == classes[asked]
        return right

    def telling(self, classes: Array, least: int) -> list[list[tuple[str, int, int]]]:
        """For each class the words, in at least `least` of its texts and mostly there, that raise its odds most."""
        counts = self._counts(classes, np.ones(self.size, bool))
        sizes, total = np.bincount(classes)[:, None], counts.sum(axis=0)
        factor = ((counts + 1) / (sizes + 2)) / ((total - counts + 1) / (self.size - sizes + 2))
        factor[(counts < least) | (2 * counts <= total)] = 0.0
        best = np.argsort(-factor, axis=1, kind="stable")[:, :TELLING]
        return [
            [(self.names[j], int(counts[i, j]), int(total[j])) for j in row.tolist() if factor[i, j]]
            for i, row in enumerate(best)
        ]

    def _counts(self, classes: Array, of: Array) -> Array:
        """Texts of each class with each word, K x V."""
        pairs = of[self.rows]
        width, kinds = len(self.names), int(classes.max()) + 1
        flat = classes[self.rows[pairs]] * width + self.items[pairs]
        return np.bincount(flat, minlength=kinds * width).reshape(kinds, width)

    def _learn(self, classes: Array, of: Array) -> tuple[Array, Array]:
        """Log prior K, and log probability of a word V x K; zero for words that were not seen."""
        counts = self._counts(classes, of)
        seen = counts.sum(axis=0) > 0
        log = np.log((counts + 1) / (counts.sum(axis=1, keepdims=True) + seen.sum()))
        prior = np.log(np.bincount(classes[of], minlength=len(counts)) + 1)
        return prior, np.where(seen, log, 0.0).astype(np.float32).T.copy()

    def _told(self, of: Array, prior: Array, of_word: Array) -> Array:
        """The likeliest class of some texts."""
        wanted = np.flatnonzero(of)
        told = np.empty(len(wanted), np.int64)
        step = min(_CHUNK, max(1, _SCORES // len(prior)))
        for start in range(0, len(wanted), step):
            rows = wanted[start : start + step]
            begin, end = np.searchsorted(self.rows, rows), np.searchsorted(self.rows, rows, side="right")
            pairs = np.arange(begin[0], end[-1])  # of wanted texts and of those between them
            mine = of[self.rows[pairs]]
            some = np.flatnonzero(end > begin)
            lengths = (end - begin)[some]
            scores = np.zeros((len(rows), len(prior)), np.float32)
            if len(some):
                of_pairs = of_word[self.items[pairs[mine]]]
                scores[some] = np.add.reduceat(of_pairs, np.cumsum(lengths) - lengths, axis=0)
            told[start : start + len(rows)] = (scores + prior).argmax(axis=1)
        return told


def _share(hits: Array, group: Array, chance: float) -> Estimate:
    """The share of hits; the interval takes the members of a group to rise and fall together."""
    n, share = len(hits), float(hits.mean())
    error = float(np.sqrt((np.bincount(group, weights=hits - share) ** 2).sum())) / n
    if error == 0:  # all right or all wrong: the bound of Clopper and Pearson (1934) over the groups
        bound = 0.025 ** (1 / (int(group.max()) + 1))
        return Estimate(share, bound if share else 0.0, 1.0 if share else 1 - bound, n, chance)
    return Estimate(share, max(share - 1.96 * error, 0.0), min(share + 1.96 * error, 1.0), n, chance)
