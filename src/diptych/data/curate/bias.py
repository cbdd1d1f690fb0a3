"""What a dataset is full of, which attributes go together in it, and what its texts give away without the picture.

A model may learn any of these instead of looking. Each function works on plain arrays; `bias_report` feeds them from a
dataset.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diptych.data.curate.concepts import PUNCTUATION, ConceptMatcher, normalise
from diptych.data.curate.predicting import Prediction, predict
from diptych.data.schema import FLAT, SCHEMA
from diptych.data.store import Dataset
from diptych.types import InputError

_STOP = """a an and are as at be by for from has have he her his i in is it its of on or she that the their there they
this to was we were which with you"""
STOP_WORDS = frozenset(_STOP.split())
"""Words that name nothing; they are no concepts of a caption."""

ANSWER = "answer"
"""As `target`: the answer to each question, told from the question's text."""

_SURE = 0.05  # chance that even one pair of all that are tested is called an association and is none
_CHUNK = 1 << 14
_WORDS = "captions: "

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Distribution:
    """How often the concepts of one kind occur.

    Attributes:
        kind: "labels", "tags", "objects", "attributes", "captions".
        units: samples with at least one concept of this kind (objects, for "objects" and "attributes").
        counts: units of each concept, commonest first.
        gini: 0 if all are equally common, near 1 if one is nearly all.
        effective: exp(entropy): so many equally common concepts would be as diverse.
        once: concepts that occur only once.
    """

    kind: str
    units: int
    counts: dict[str, int]
    gini: float
    effective: float
    once: int


@dataclass(frozen=True)
class Association:
    """Two concepts that stand together more often, or less, than if they had nothing to do with each other.

    Attributes:
        first, second: "kind: name"; `second` is the commoner one.
        within: "object" or "sample".
        together: units with both; `expected` if they were independent.
        npmi: normalised pointwise mutual information (Bouma, 2009), -1 (never together) to 1 (never apart).
        share, low, high: part of the units with `first` that have `second`, with its 95 % Wilson interval.
        base: part of all units that have `second`.
        evidence: likelihood ratio G against independence; grows with the units and with how far they are from it.
    """

    first: str
    second: str
    within: str
    together: int
    expected: float
    npmi: float
    share: float
    low: float
    high: float
    base: float
    evidence: float


@dataclass(frozen=True)
class BiasReport:
    """What `bias_report` found. Lists are empty, and `prediction` is None, where there is nothing of the kind."""

    samples: int
    distributions: list[Distribution] = field(default_factory=list)
    together: list[Association] = field(default_factory=list)
    apart: list[Association] = field(default_factory=list)
    prediction: Prediction | None = None


def bias_report(
    dataset: Dataset, *, target: str = "label", entries: Sequence[str] = (), least: int = 10, seed: int = 0
) -> BiasReport:
    """Concepts, associations, and how well the text alone predicts `target`.

    Args:
        target: a flat text field, told from the captions; or "answer", told from the questions.
        entries: concepts to look for in captions (`concepts.ConceptMatcher`); by default each word but a few is one.
        least: a concept of fewer units, and a class of fewer samples, is too rare to say anything about.
        seed: decides how samples are divided for the prediction.

    Raises:
        InputError: no such field.
    """
    things, scenes = _in_objects(dataset), _in_samples(dataset, entries)
    pairs = associations(things, "object", least) + associations(scenes, "sample", least)
    pairs.sort(key=lambda pair: (-pair.evidence, pair.first, pair.second))
    texts, values, kinds = _asked(dataset, target)
    if not entries:  # words that go with words are mostly fixed phrases
        pairs = [pair for pair in pairs if not pair.first.startswith(_WORDS) or not pair.second.startswith(_WORDS)]
    return BiasReport(
        len(dataset),
        [distribution(bag) for bag in (*scenes, *things) if len(bag.items)],
        [pair for pair in pairs if pair.npmi > 0],
        # A thing is of one colour, a sample of one label: only a kind of thing that lacks an attribute says something.
        [
            pair
            for pair in pairs
            if pair.npmi < 0 and pair.within == "object" and _kind(pair.first) != _kind(pair.second)
        ],
        predict(texts, values, target, kinds=kinds, least=least, seed=seed),
    )


# ---------------------------------------------------------------- bags of concepts


@dataclass(frozen=True)
class Bag:
    """The concepts of one kind in each of some units: unit `units[i]` of `size` has the concept `names[items[i]]`."""

    kind: str
    size: int
    names: list[str]
    units: Array
    items: Array


def bag_of(kind: str, lists: Any) -> Bag:
    """The bag of a column of lists of texts (Arrow, or plain), a unit each; repeats within a unit count once."""
    column = lists if isinstance(lists, pa.ListArray) else pa.array(lists, pa.list_(pa.string()))
    flat, parents = pc.list_flatten(column), pc.list_parent_indices(column).to_numpy()
    good = np.asarray(pc.fill_null(pc.not_equal(flat, ""), False))
    encoded = flat.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    items = pc.fill_null(encoded.indices, 0).to_numpy()
    pairs = np.unique(parents[good].astype(np.int64) * max(len(names), 1) + items[good])
    units, items = np.divmod(pairs, max(len(names), 1))
    return Bag(kind, len(column), names, units, items)


def distribution(bag: Bag) -> Distribution:
    """How often the concepts of a bag occur."""
    counts = np.bincount(bag.items, minlength=len(bag.names))
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    ordered = counts[order].astype(np.float64)
    shares = ordered / ordered.sum()
    below = np.arange(len(ordered)) * shares  # Gini by ranks, the commonest first
    return Distribution(
        bag.kind,
        len(np.unique(bag.units)),
        {bag.names[i]: int(counts[i]) for i in order.tolist()},
        gini=float(1 - (1 + 2 * below.sum()) / len(ordered)),
        effective=float(np.exp(-(shares * np.log(shares)).sum())),
        once=int((ordered == 1).sum()),
    )


def associations(bags: Sequence[Bag], within: str, least: int = 10, most: int = 400) -> list[Association]:
    """Pairs of concepts that are associated beyond doubt, in bags over the same units.

    Tested by the likelihood ratio (Dunning, 1993) among the `most` commonest concepts of at least `least` units; the
    level is 0.05 for all pairs together (Bonferroni). Units are taken to be independent. Pairs whose names say the same
    (plural or not, part of each other) are left out.
    """
    size = max((bag.size for bag in bags), default=0)
    chosen: list[tuple[int, Bag, int]] = []
    for bag in bags:
        counts = np.bincount(bag.items, minlength=len(bag.names))
        chosen += [(int(counts[i]), bag, i) for i in np.flatnonzero(counts >= least).tolist()]
    chosen = sorted(chosen, key=lambda entry: -entry[0])[:most]
    if len(chosen) < 2:
        return []
    both = _together([(bag, item) for _, bag, item in chosen], bags, size)
    count = np.array([number for number, _, _ in chosen], np.float64)
    expected = np.outer(count, count) / size
    ratio = _likelihood_ratio(both, count, size)
    tests = len(chosen) * (len(chosen) - 1) / 2
    sure = NormalDist().inv_cdf(1 - _SURE / tests / 2) ** 2
    found = []
    for i, j in np.argwhere(np.triu(ratio > sure, 1)).tolist():  # i is the commoner
        (_, one, a), (_, other, b) = chosen[j], chosen[i]
        if _same(one.names[a], other.names[b]):
            continue
        n, chance = float(both[i, j]), float(expected[i, j])
        share, low, high = wilson(n, float(count[j]))
        association = Association(
            f"{one.kind}: {one.names[a]}",
            f"{other.kind}: {other.names[b]}",
            within,
            int(n),
            chance,
            math.log(n / chance) / -math.log(n / size) if 0 < n < size else -1.0,
            share,
            low,
            high,
            float(count[i] / size),
            float(ratio[i, j]),
        )
        found.append(association)
    return found


def wilson(hits: float, n: float, z: float = 1.96) -> tuple[float, float, float]:
    """A share of n with the ends of its interval (Wilson, 1927)."""
    share, extra = hits / n, z * z / n
    centre, half = share + extra / 2, z * math.sqrt(share * (1 - share) / n + extra / (4 * n))
    return share, max((centre - half) / (1 + extra), 0.0), min((centre + half) / (1 + extra), 1.0)


def _together(chosen: list[tuple[Bag, int]], bags: Sequence[Bag], size: int) -> Array:
    """In how many units each pair of the chosen concepts stands together: K x K, the counts on the diagonal."""
    columns = {id(bag): np.full(len(bag.names), -1) for bag in bags}
    for column, (bag, item) in enumerate(chosen):
        columns[id(bag)][item] = column
    total = np.zeros((len(chosen), len(chosen)))
    for start in range(0, size, _CHUNK):
        present = np.zeros((min(_CHUNK, size - start), len(chosen)), np.float32)
        for bag in bags:
            here = slice(*np.searchsorted(bag.units, (start, start + _CHUNK)))
            place = columns[id(bag)][bag.items[here]]
            present[bag.units[here][place >= 0] - start, place[place >= 0]] = 1
        total += present.T @ present
    return total


def _likelihood_ratio(both: Array, count: Array, size: int) -> Array:
    """G of the 2 x 2 table of each pair, chi-squared with one degree of freedom where they are independent."""
    one, other = count[:, None], count[None]
    cells = (
        (both, one * other),
        (one - both, one * (size - other)),
        (other - both, (size - one) * other),
        (size - one - other + both, (size - one) * (size - other)),
    )
    ratio = np.zeros_like(both)
    for seen, product in cells:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio += np.where(seen > 0, 2 * seen * np.log(seen * size / product), 0.0)
    return ratio


def _kind(name: str) -> str:
    return name.partition(": ")[0]


def _same(one: str, other: str) -> bool:
    """Whether the words of one are those of the other, or some of them, plural or not."""
    first, second = ({word.rstrip("s") for word in text.lower().split()} for text in (one, other))
    return first <= second or second <= first


# ---------------------------------------------------------------- out of a dataset


def _in_objects(dataset: Dataset) -> list[Bag]:
    """Names and attributes, an object a unit."""
    found = pc.list_flatten(_column(dataset, "objects"))
    if not len(found):
        return []
    names = [[name] if name else [] for name in pc.struct_field(found, "name").to_pylist()]
    return [bag_of("objects", names), bag_of("attributes", pc.struct_field(found, "attributes"))]


def _in_samples(dataset: Dataset, entries: Sequence[str]) -> list[Bag]:
    """Labels, tags and the concepts of captions, a sample a unit."""
    labels = [[label] if label else [] for label in dataset.column("label")]
    captions = _column(dataset, "captions")
    return [
        bag_of("labels", labels),
        bag_of("tags", _column(dataset, "tags")),
        bag_of("captions", _concepts(captions, entries)),
    ]


def _concepts(captions: Any, entries: Sequence[str]) -> list[list[str]]:
    """The concepts that the captions of each sample name."""
    flat, parents = pc.list_flatten(captions), pc.list_parent_indices(captions).to_numpy()
    found: list[list[str]] = [[] for _ in range(len(captions))]
    if entries:
        offsets, ids = ConceptMatcher(entries).match(flat)
        for parent, entry in zip(np.repeat(parents, np.diff(offsets)).tolist(), ids.tolist()):
            found[parent].append(entries[entry])
        return found
    for parent, text in zip(parents.tolist(), normalise(flat).to_pylist()):
        words = (text or "").split(" ")
        found[parent] += [
            w for w in words if len(w) > 1 and w not in STOP_WORDS and w not in PUNCTUATION and not w.isnumeric()
        ]
    return found


def _asked(dataset: Dataset, target: str) -> tuple[list[str], list[str], list[str]]:
    """Texts to predict from, what to predict, and kinds of question; where text or value is missing, nothing."""
    if target == ANSWER:
        rows = list(_questions(dataset))
    else:
        if target in SCHEMA.names and target not in FLAT:
            raise InputError(
                f"target: expected a field of one text, such as label or creator, or {ANSWER}; got {target}"
            )
        columns = zip(dataset.column("captions"), dataset.column(target))
        rows = [(" . ".join(texts or ()), value, "") for texts, value in columns]
    rows = [row for row in rows if row[0] and isinstance(row[1], str) and row[1]]
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _questions(dataset: Dataset) -> Iterator[tuple[str, str, str]]:
    """Each question with the answer that most annotators gave (the first of equals), and its kind."""
    for asked in dataset.column("questions"):
        for question in asked or ():
            answers = question["answers"] or [""]
            yield question["question"], max(answers, key=answers.count), question["kind"] or ""


def _column(dataset: Dataset, name: str) -> Any:
    """One column as a single Arrow array."""
    column = dataset.table(fields=(name,)).column(name)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
