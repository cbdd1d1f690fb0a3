"""Caption tokens as COCO caption evaluation makes them: Penn Treebank tokens, lower case, without most punctuation.

The same as pycocoevalcap's `PTBTokenizer`, a Java program, on all captions of `tests/golden/tokenizer.json.gz`.

Deviation: what is known to differ, all of it rare. A caption is one caption whatever line separators it holds (there it
becomes several and shifts all that follow). Letters that Unicode got after 2010 are letters here and dropped there.
Soft hyphens are dropped before anything else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from diptych.evaluation.metrics.ptb_rules import split

# The fixed list of pycocoevalcap. It has "-LRB-", too, but is asked about lower case: brackets stay.
_PUNCTUATION = frozenset(("", "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
_SIGNS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS |= {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_SIGNS |= {"£": "#", "€": "$", "¤": "$", "₠": "$", "\x80": "$", "¢": "cents"}
_SIGNS |= {"&amp;": "&", "&lt;": "<", "&gt;": ">"}
_DROPPED = re.compile(r"[\"“”«»…\x85\x93\x94–—―\x96\x97‐‑֊٫٬]|-{1,4}|\.+|&(?:quot|apos|nbsp|md|mdash|ndash);")
_QUOTES = str.maketrans("’›\x92‘‛‹\x91", "'''````")
_CURLY = re.compile("n?(?:[’\x92]|&apos;)(?:[sdmt]|ll|re|ve)|[’›\x92‘‛‹\x91]+")
_PLAIN = re.compile("([A-Za-z]{2,})[,;:!?]?")
_SPLIT = frozenset(("cannot", "gonna", "wanna", "gotta", "lemme", "gimme"))
# Where a token may hold white space: mixed fractions, telephone numbers, tags; and "no. 5".
_ACROSS = re.compile(r"[0-9.)]\s+[0-9(]|<")


def tokenize(texts: Sequence[str]) -> list[str]:
    """The tokens of each text, joined by one space."""
    return [
        _tokens(text) if _ACROSS.search(text) else " ".join(filter(None, map(_tokens, text.split()))) for text in texts
    ]


@lru_cache(maxsize=1 << 17)  # of words, mostly: a corpus repeats them
def _tokens(text: str) -> str:
    plain = _PLAIN.fullmatch(text)
    if plain and plain[1].lower() not in _SPLIT:
        return plain[1].lower()
    return " ".join(token for token in map(_token, split(text.replace("\xad", ""))) if token not in _PUNCTUATION)


def _token(piece: str) -> str:
    """How a token is written; "" for what is no token."""
    token = piece.lower()
    if token in _SIGNS:
        return _SIGNS[token]
    if _DROPPED.fullmatch(token):
        return ""
    token = token.replace("&amp;", "&")
    if _CURLY.fullmatch(token):
        token = token.replace("&apos;", "'").translate(_QUOTES)
    if len(token) > 1:
        token = token.replace("(", "-lrb-").replace(")", "-rrb-").replace(" ", "\xa0")
    return token
