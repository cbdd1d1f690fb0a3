"""What METEOR 1.5 takes for words: its `-norm` step on English, and its list of function words."""

from __future__ import annotations

import re

# The words of METEOR 1.5's function/english.words: the most frequent tokens of English news text, which weigh less than
# content words. A fact that the score depends on.
_FUNCTION_WORDS = """
the , . to of and a in that for " is on 's it with was as said at he by be from have has are his but an this not i will
’ they ) -rrb- ( -lrb- who their had we which were been more or s its would about new one after you : also up when there
than $ all out her people she year two - can if last first “ over other ” into some what so -- no time years could ? 't
— '
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

# Abbreviations that keep their period whatever follows, and those that keep it before a number: the lower-case entries
# of its list, because captions are lower case here.
_KEEPS_PERIOD = frozenset({"v", "vs", "rev"})
_KEEPS_PERIOD_BEFORE_NUMBER = frozenset({"pp"})

# Latin, Cyrillic and phonetic letters; signs of any other kind stand alone.
_LETTER = "A-Za-z\u0160\u017d\u0161\u017e\u0178\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e"
_LETTER += "\u0400-\u0527\ua640-\ua66e\ua67e-\ua697\u1d00-\u1d7f"
_RULES = [
    (re.compile(pattern, re.ASCII), replacement)
    for pattern, replacement in (
        (rf"([^0-9{_LETTER}\s.'`,\-\u2018\u2019])", r" \1 "),
        (r"(\.{2,})", r" \1 "),
        (r"([^0-9]),([^0-9])", r"\1 , \2"),  # a comma stays only between digits
        (r"([0-9]),([^0-9])", r"\1 , \2"),
        (r"([^0-9]),([0-9])", r"\1 , \2"),
        (r"[`\u2018\u2019]", "'"),
        (r"[\u201c\u201d]|''", ' " '),
        (r"\u2013", "-"),
        (r"--", "-"),
        (rf"([0-9{_LETTER}.])-([0-9{_LETTER}])", r"\1 \2"),
        (rf"([^{_LETTER}])'([^{_LETTER}])", r"\1 ' \2"),
        (rf"([^{_LETTER}0-9])'([{_LETTER}])", r"\1 ' \2"),
        (rf"([{_LETTER}])'([^{_LETTER}])", r"\1 ' \2"),
        (rf"([{_LETTER}])'([{_LETTER}])", r"\1 '\2"),
        (r"([0-9])'(s)", r"\1 '\2"),
    )
]
_PLAIN = re.compile(r"[a-z0-9 ]*")
_SPACES = re.compile("[ \t\n\r\f\u00a0\u2000-\u200a\u202f\u205f\u3000]+")
_HAS_LETTER = re.compile(f"[{_LETTER}]")


def words_of(caption: str) -> list[str]:
    """The words that METEOR compares, lower case; punctuation signs are words of their own."""
    caption = caption.lower()
    if _PLAIN.fullmatch(caption):
        return caption.split()
    caption = f" {caption} "
    for pattern, replacement in _RULES:
        caption = pattern.sub(replacement, caption)
    pieces = re.split("[ \t\n\r\f]+", caption.strip(" \t\n\r\f"))
    parted = [_part_period(piece, following) for piece, following in zip(pieces, [*pieces[1:], ""])]
    return _SPACES.sub(" ", " ".join(parted)).split()


def _part_period(word: str, following: str) -> str:
    """A period at the end of a word becomes a word, unless it seems to belong to an abbreviation."""
    before = word[:-1]
    if not word.endswith(".") or not word.strip("."):
        return word
    if "." in before and _HAS_LETTER.search(before):
        return word.replace(".", "")  # u.s. is us
    keeps = before in _KEEPS_PERIOD or "a" <= following[:1] <= "z"
    if keeps or (before in _KEEPS_PERIOD_BEFORE_NUMBER and "0" <= following[:1] <= "9"):
        return word
    return before + " ."
