"""The synonyms and paraphrases of METEOR 1.5, read from its own files: nothing is run, and no Java is needed."""

from __future__ import annotations

import gzip
import importlib.util
import io
import zipfile
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.types import InputError

JAR, PARAPHRASES = "meteor-1.5.jar", "paraphrase-en.gz"
LONGEST = 7  # words in a phrase of the table

# WordNet's rules of detachment: ending -> what takes its place, tried in this order.
_ENDINGS = (
    "s: ses:s xes:x zes:z ches:ch shes:sh men:man ies:y s: ies:y es:e es: ed:e ed: ing:e ing: er: est: er:e est:e"
)
_DETACH = [(ending, instead) for ending, instead in (rule.split(":") for rule in _ENDINGS.split())]
_SLOTS = 2**26  # of the filter below: 64 MB that the system hands out only where they are used

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

    A phrase counts as standing in the texts if its hash does, so that 20 million phrases of texts need 64 MB and no
    more; the few entries that come along by chance match nothing.
    """
    seen = bytearray(_SLOTS)
    last = _SLOTS - 1
    for text in texts:
        words = text.encode().split(b" ")
        for start in range(len(words)):
            for end in range(start + 1, min(start + LONGEST, len(words)) + 1):
                seen[hash(b" ".join(words[start:end]) + b"\n") & last] = 1
    phrases: Phrases = {}
    place = 0
    with gzip.open(table) as unzipped, io.BufferedReader(unzipped, 2**20) as lines:
        for _, phrase, paraphrase in zip(lines, lines, lines):
            if seen[hash(phrase) & last] and seen[hash(paraphrase) & last]:
                known = phrases.setdefault(phrase[:-1].decode(), {})
                known.setdefault(paraphrase[:-1].decode(), []).append(place)
                place += 1
    return phrases
