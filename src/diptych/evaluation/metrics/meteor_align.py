"""METEOR's alignment: which words of a caption stand for which words of a reference.

All matches of all stages are collected; those that touch no other are taken, and a beam search from left to right
through the reference decides about the rest (Denkowski & Lavie 2014, section 2.1). The search follows the released
program to the letter, because other choices among equally long alignments would give other scores:

* In the search a match weighs whole words, rounded down: 1 for an exact one, half a word (that is, nothing) for one
  other word, one for a paraphrase of two or three.
* The distance that a match spans is charged to the alignments that come after it at the same word, not to its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

from diptych.evaluation.metrics.meteor_data import LONGEST, Phrases
from diptych.evaluation.metrics.meteor_words import FUNCTION_WORDS

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)
BEAM = 40

# One number orders alignments: more words first, then fewer chunks, then less distance.
_WORD, _CHUNK = 1 << 40, 1 << 20


class Match(NamedTuple):
    """Words [start, end) of the reference stand for words [own_start, own_end) of the caption."""

    start: int
    end: int
    own_start: int
    own_end: int
    stage: int

    def gain(self) -> int:
        """Whole words of both sides that the match adds in the search."""
        lengths = self.end - self.start, self.own_end - self.own_start
        return sum(lengths) if self.stage == EXACT else sum(length // 2 for length in lengths)


class Lexicon(NamedTuple):
    """What the stages know of words: stem of a word, synsets of a word, paraphrases of a phrase."""

    stem: Callable[[str], str]
    synsets: Callable[[str], frozenset[str]]
    phrases: Phrases


class Sentence:
    """A text with what matching looks up in it."""

    def __init__(self, words: Sequence[str], lexicon: Lexicon) -> None:
        self.words = words
        self.function = [word in FUNCTION_WORDS for word in words]
        self.places: dict[str, list[int]] = {}
        self.stem_places: dict[str, list[int]] = {}
        self.stems = [lexicon.stem(word) for word in words]
        self.synsets = [lexicon.synsets(word) for word in words]
        for place, (word, stem) in enumerate(zip(words, self.stems)):
            self.places.setdefault(word, []).append(place)
            self.stem_places.setdefault(stem, []).append(place)
        self.phrase_places: dict[str, list[int]] = {}
        self.known_phrases: list[tuple[int, int, dict[str, list[int]]]] = []  # start, length, paraphrases
        if lexicon.phrases:
            for start in range(len(words)):
                for end in range(start + 1, min(start + LONGEST, len(words)) + 1):
                    phrase = " ".join(words[start:end])
                    self.phrase_places.setdefault(phrase, []).append(start)
                    if known := lexicon.phrases.get(phrase):
                        self.known_phrases.append((start, end - start, known))


def align(caption: Sentence, reference: Sentence) -> list[Match]:
    """The matches of the best alignment, from left to right in the reference."""
    matches = _matches(caption, reference)
    covered, own_covered = [0] * len(reference.words), [0] * len(caption.words)
    for match in (match for some in matches for match in some):
        for place in range(match.start, match.end):
            covered[place] += 1
        for place in range(match.own_start, match.own_end):
            own_covered[place] += 1
    alone = set()  # where a match starts that touches no other
    for match in (some[0] for some in matches if len(some) == 1):
        counts = covered[match.start : match.end] + own_covered[match.own_start : match.own_end]
        if max(counts) == 1:
            alone.add(match.start)
    return _search(matches, alone)


def _matches(caption: Sentence, reference: Sentence) -> list[list[Match]]:
    """All matches by the reference word they start at, stage by stage. The order decides between equal alignments."""
    found: list[list[Match]] = []
    words = caption.words
    for start, word in enumerate(reference.words):
        found.append([Match(start, start + 1, own, own + 1, EXACT) for own in caption.places.get(word, ())])
    if words == reference.words:
        return found
    for start, (word, stem, synsets) in enumerate(zip(reference.words, reference.stems, reference.synsets)):
        same_stem, related = caption.stem_places.get(stem, []), []
        if synsets:
            related = [own for own, others in enumerate(caption.synsets) if not synsets.isdisjoint(others)]
        for stage, places in ((STEM, same_stem), (SYNONYM, related)):
            found[start] += [Match(start, start + 1, own, own + 1, stage) for own in places if words[own] != word]
    for start, length, own, own_length in _paraphrased(reference, caption):
        found[start].append(Match(start, start + length, own, own + own_length, PARAPHRASE))
    for own, own_length, start, length in _paraphrased(caption, reference):
        found[start].append(Match(start, start + length, own, own + own_length, PARAPHRASE))
    return found


def _paraphrased(one: Sentence, other: Sentence) -> list[tuple[int, int, int, int]]:
    """Phrases of one whose paraphrase stands in the other: start and length here, start and length there."""
    hits = []
    for start, length, known in one.known_phrases:
        common = known.keys() & other.phrase_places.keys()
        if common:
            in_order = sorted((place, paraphrase) for paraphrase in common for place in known[paraphrase])
            for _, paraphrase in in_order:
                there = paraphrase.count(" ") + 1
                hits += [(start, length, begin, there) for begin in other.phrase_places[paraphrase]]
    return hits


class _Path(NamedTuple):
    """An alignment of the reference up to some word."""

    cost: int
    next: int  # the reference word after the last match or gap
    own_end: int  # the caption word after the last match, -1 after a gap
    used: int  # caption words in use, as bits
    taken: _Taken | None


class _Taken(NamedTuple):
    """The last match of a path, and those before it."""

    match: Match
    before: _Taken | None


def _search(matches: list[list[Match]], alone: set[int]) -> list[Match]:
    paths = [_Path(0, 0, -1, 0, None)]
    for here, some in enumerate(matches):
        if len(paths) > 1:
            paths = sorted(paths, key=itemgetter(0))[:BEAM]  # stable, as the order of equals decides
        options = [(match, _bits(match), match.gain() * _WORD, abs(here - match.own_start)) for match in some]
        forward: list[_Path] = []
        for path in paths:
            if here < path.next:
                forward.append(path)
                continue
            cost, _, own_end, used, taken = path
            if here in alone:
                cost += options[0][3]
            for match, bits, gain, distance in options:
                if not used & bits:
                    chunk = 0 if own_end in (-1, match.own_start) else _CHUNK
                    with_it = _Taken(match, taken)
                    forward.append(_Path(cost - gain + chunk, match.end, match.own_end, used | bits, with_it))
                    cost += distance
            if here not in alone:
                forward.append(_Path(cost if own_end == -1 else cost + _CHUNK, here + 1, -1, used, taken))
        paths = forward
    paths = sorted(paths, key=itemgetter(0))[:BEAM]
    last = min(paths, key=lambda path: path.cost if path.own_end == -1 else path.cost + _CHUNK).taken
    found = []
    while last is not None:
        found.append(last.match)
        last = last.before
    return found[::-1]


def _bits(match: Match) -> int:
    return (1 << match.own_end) - (1 << match.own_start)
