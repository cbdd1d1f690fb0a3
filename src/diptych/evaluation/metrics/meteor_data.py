"""The synonyms and paraphrases of METEOR 1.5, read from its own files: nothing is run, and no Java is needed."""

from __future__ import annotations

import gzip
import importlib.util
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.types import InputError

JAR, PARAPHRASES = "meteor-1.5.jar", "paraphrase-en.gz"
LONGEST = 7  # words in a phrase of the table

# WordNet's rules of detachment: ending -> what takes its place, tried in this order.
_ENDINGS = (
    "s: ses:s xes:x zes:z ches:ch shes:sh men:man ies:y s: ies:y es:e es: ed:e ed: ing:e ing: er: est: er:e est:e"
)
_DETACH = [(ending, instead) for ending, instead in (rule.split(":") for rule in _ENDINGS.split())]
_SLOTS = 2**26  # of the filter below: 64 MB that the system hands out only where they are used
_ONES, _ODD = np.uint64(2**64 - 1), np.uint64(0x9E3779B97F4A7C15)
_BLOCK, _TEXTS = 2**22, 1000  # bytes of the table, and texts, that are looked at together

Ints = NDArray[np.int64]
Phrases = dict[str, dict[str, list[int]]]  # phrase -> paraphrase -> its places among the phrase's paraphrases


def find_meteor_data(folder: Path | None = None) -> MeteorData | None:
    """METEOR's files in the folder, by default those in the installed package `pycocoevalcap`; None where it is absent.

    The paraphrase table is looked for beside the jar and in `data`; without it the paraphrase stage is left out.

    Raises:
        InputError: a folder is given and has no `meteor-1.5.jar`.
    """
    if folder is None:
        found = importlib.util.find_spec("pycocoevalcap")  # does not import it
        places = found.submodule_search_locations if found else None
        jars = [jar for place in places or () if (jar := Path(place) / "meteor" / JAR).is_file()]
        if not jars:
            return None
        jar = jars[0]
    else:
        jar = Path(folder) / JAR
        if not jar.is_file():
            raise InputError(f"{folder}: expected METEOR's {JAR} in this folder")
    tables = [path for path in (jar.parent / PARAPHRASES, jar.parent / "data" / PARAPHRASES) if path.is_file()]
    return MeteorData(jar, tables[0] if tables else None)


@dataclass
class MeteorData:
    """Where METEOR's files lie, and what has been read of them.

    Attributes:
        jar: meteor-1.5.jar, read as a zip file.
        table: paraphrase-en.gz, or None.
    """

    jar: Path
    table: Path | None
    _synonyms: Synonyms | None = field(default=None, init=False, repr=False)
    _texts: set[str] = field(default_factory=set, init=False, repr=False)
    _phrases: Phrases = field(default_factory=dict, init=False, repr=False)

    def synonyms(self) -> Synonyms:
        """WordNet's synsets.

        Raises:
            InputError: the jar is damaged.
        """
        if self._synonyms is None:
            try:
                with zipfile.ZipFile(self.jar) as jar:
                    parts = [jar.read(f"synonym/english.{name}").decode() for name in ("synsets", "exceptions")]
            except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
                raise InputError(f"{self.jar}: expected METEOR 1.5 with WordNet's synsets inside ({error})") from None
            self._synonyms = Synonyms(*parts)
        return self._synonyms

    def paraphrases(self, texts: Collection[Sequence[str]]) -> Phrases:
        """The entries of the table whose both sides stand in the texts; a few more may come along.

        The table has 5 million entries; it is streamed (some seconds) and only what these texts need is kept, until
        texts come that it was not read for.

        Raises:
            InputError: the table is damaged.
        """
        joined = {" ".join(words) for words in texts}
        if self.table is not None and not joined <= self._texts:
            try:
                self._phrases = _read_table(self.table, joined)
            except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
                raise InputError(f"{self.table}: expected METEOR's paraphrase table, gzipped ({error})") from None
            self._texts = joined
        return self._phrases


class Synonyms:
    """Words that share a synset of WordNet, directly or by their base forms."""

    def __init__(self, synsets: str, exceptions: str) -> None:
        lines = synsets.split("\n")
        self._synsets = dict(zip(lines[::2], lines[1::2]))  # word -> numbers, read when asked for
        lines = exceptions.split("\n")
        self._bases: dict[str, list[str]] = {}
        for base, forms in zip(lines[::2], lines[1::2]):
            for form in forms.split():
                self._bases.setdefault(form, []).append(base)

    def of(self, word: str) -> frozenset[str]:
        """The numbers of the synsets of the word and of its base forms."""
        forms = [word, *self._bases.get(word, [self._base(word)])]
        return frozenset(number for form in forms for number in self._synsets.get(form, "").split())

    def _base(self, word: str) -> str:
        if word.endswith("ss") or len(word) <= 2:
            return word
        for ending, instead in _DETACH:
            if word.endswith(ending) and (base := word[: -len(ending)] + instead) in self._synsets:
                return base
        return ""


def _read_table(table: Path, texts: set[str]) -> Phrases:
    """Lines come in threes: a number, a phrase, its paraphrase.

    A phrase is looked at if its mark is that of a phrase in the texts: a table of 64 MB holds the marks of 20 million
    phrases, and the few entries that come along by chance match nothing.
    """
    seen = np.zeros(_SLOTS, np.bool_)
    spoken = list(texts)
    for first in range(0, len(spoken), _TEXTS):
        some = (phrase for text in spoken[first : first + _TEXTS] for phrase in _phrases(text.encode().split(b" ")))
        lines = b"".join(some)
        starts = _starts(lines)
        seen[_marks(lines, starts[:-1], starts[1:])] = True
    phrases: Phrases = {}
    place = 0
    with gzip.open(table) as unzipped:
        rest = b""
        while block := unzipped.read(_BLOCK):
            lines = rest + block
            starts = _starts(lines)
            whole = (len(starts) - 1) // 3 * 3
            rest = lines[starts[whole] :]
            entries = np.stack([starts[i : whole + 1 : 3][: whole // 3] for i in (1, 2, 3)])
            for side in (0, 1):
                entries = entries[:, seen[_marks(lines, entries[side], entries[side + 1])]]
            for start, between, end in entries.T.tolist():
                known = phrases.setdefault(lines[start : between - 1].decode(), {})
                known.setdefault(lines[between : end - 1].decode(), []).append(place)
                place += 1
    return phrases


def _phrases(words: Sequence[bytes]) -> Iterator[bytes]:
    """All phrases of a text, each with a line break."""
    for start in range(len(words)):
        for end in range(start + 1, min(start + LONGEST, len(words)) + 1):
            yield b" ".join(words[start:end]) + b"\n"


def _starts(lines: bytes) -> Ints:
    """Where each line starts; last, where what follows the last line break does."""
    return np.append(0, np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n")) + 1)


def _marks(lines: bytes, starts: Ints, ends: Ints) -> Ints:
    """A number below `_SLOTS` for each line, made of its length and its first, middle and last four bytes."""
    padded = lines + bytes(4)
    four = np.ndarray((len(padded) - 3,), "<u4", padded, strides=(1,))  # the four bytes from each place on
    lengths = ends - starts
    mark = lengths.astype(np.uint64)
    for place in (starts, starts + lengths // 2, np.maximum(ends - 4, starts)):
        inside = np.minimum(ends - place, 4).astype(np.uint64) * np.uint64(8)  # bits of this line among the 32
        mark = (mark ^ (four[place] & ~(_ONES << inside))) * _ODD
    return (mark >> np.uint64(64 - _SLOTS.bit_length() + 1)).astype(np.int64)
