"""Words out of what a web scrape offers beside a caption: file names, folder names, tags, titles."""

from __future__ import annotations

import re
from collections.abc import Iterable

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_CAMERA_NAME = re.compile(
    r"^(img|dsc[nf]?|dcim|pict?|photo|image|screenshot|scan|untitled|unnamed|download|file)?[\W\d_]*$", re.I
)
_HEX = re.compile(r"^(0x)?[0-9a-f]{6,}$", re.I)


def words(text: str) -> list[str]:
    """The lower-case words of a name or title: `"redCar_02-small"` -> `["red", "car", "small"]`. Digits are dropped."""
    return _NOT_LETTERS.sub(" ", _CAMEL.sub(" ", text)).lower().split()


def file_name_words(path: str, creator: str | None = None) -> list[str]:
    """The words of a file's name, without the creator's own name and without what a camera writes.

    Upload tools often cut names short and append the author's, so a word counts as the creator's when one is a prefix
    of the other (at least four letters). A name in which a camera or a scanner speaks (`IMG_0042`) gives no words.
    """
    stem = path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if _CAMERA_NAME.match(stem) or _HEX.match(stem):
        return []
    names = words(re.sub(r"[\[<(].*", "", creator or ""))
    kept = [word for word in words(stem) if len(word) > 1 and not any(_same_name(word, name) for name in names)]
    while kept and len(kept[-1]) <= 2:  # what is left of a cut-off word
        kept.pop()
    return kept


def _same_name(word: str, name: str) -> bool:
    if word == name:
        return len(word) > 2
    return min(len(word), len(name)) >= 4 and (word.startswith(name) or name.startswith(word))


def folder_words(path: str) -> list[str]:
    """The folders of a path as phrases, innermost first: `"animals/bugs/ant.png"` -> `["bugs", "animals"]`."""
    folders = path.replace("\\", "/").split("/")[:-1]
    return [phrase for folder in reversed(folders) if (phrase := " ".join(words(folder)))]


def is_hexadecimal(text: str) -> bool:
    """Whether a tag is a hash or a colour code, not a word."""
    return bool(_HEX.match(text)) and any(character.isdigit() for character in text)


def join_phrases(phrases: Iterable[str]) -> str:
    """Phrases joined by commas, leaving out each one whose words all stood before (plural or not)."""
    seen: set[str] = set()
    kept = []
    for phrase in phrases:
        stems = {word.rstrip("s") for word in phrase.lower().split()}
        if stems - seen:
            kept.append(phrase)
            seen |= stems
    return ", ".join(kept)
