"""Caption tokens as COCO caption evaluation makes them: Penn Treebank tokens, lower case, without most punctuation.

The same as pycocoevalcap's `PTBTokenizer`, a Java program, on all captions of `tests/golden/tokenizer.json.gz`.

Deviation: a caption is one caption whatever line separators it holds (there it becomes several and shifts all that
follow). Rare: letters that Unicode got after 2010 are letters here and dropped there; soft hyphens in contractions; a
Greek final sigma before a hyphen; chains of acronyms; web addresses next to white space that is not a plain space. On
17,267 odd captions made from seeds it had never seen, 7 differed.
`tests/evaluation/metrics/test_caption_tokenizer.py` lists each kind.
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
_DROPPED = re.compile(r"[\"…\x85–—―\x96\x97‐‑֊٫٬]|-{1,4}|\.+|&(?:quot|apos|(?i:nbsp|md|mdash|ndash));")
_QUOTES = str.maketrans(
    dict.fromkeys("’›\x92", "'")
    | dict.fromkeys("‘‛‹\x91", "`")
    | dict.fromkeys("”»\x94", "''")
    | dict.fromkeys("“«\x93", "``")
)
_CURLY = re.compile("[nN]?(?:[’\x92]|&apos;)(?i:[sdmt]|ll|re|ve)|[’›\x92‘‛‹\x91”»\x94“«\x93„‚‟]+")
_PLAIN = re.compile("([A-Za-z]{2,})[,;:!?]?")
_SPLIT = frozenset(("cannot", "gonna", "wanna", "gotta", "lemme", "gimme"))
# Where the words around white space matter: mixed fractions, telephone numbers, tags, "no. 5", "at point x. The dog",
# and white space of other kinds. The first looks at few places and is quick; most captions stop there.
_OTHER_SPACE = "\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_PERHAPS = re.compile(rf"[\d.)<{_OTHER_SPACE}](?:(?<![\d.)])|\s+[\d(A-Z])")
_ACROSS = re.compile(rf"[\d.)]\s+[\d(]|(?<![A-Za-z])[A-Za-z]\.\s+[A-Z]|[<{_OTHER_SPACE}]")


def tokenize(texts: Sequence[str]) -> list[str]:
    """The tokens of each text, joined by one space."""
    return [
        tokens_of(text)
        if _PERHAPS.search(text) and _ACROSS.search(text)
        else " ".join(filter(None, map(tokens_of, text.split())))
        for text in texts
    ]


@lru_cache(maxsize=1 << 17)  # of words, mostly: a corpus repeats them
def tokens_of(text: str) -> str:
    """The tokens of a word or, where white space matters, of a text; the last ones asked about are remembered."""
    plain = _PLAIN.fullmatch(text)
    if plain and plain[1].lower() not in _SPLIT:
        return plain[1].lower()
    return " ".join(token for token in map(_token, split(text.replace("\xad", ""))) if token not in _PUNCTUATION)


def _token(piece: str) -> str:
    """How a token is written; "" for what is no token."""
    token = piece.lower()
    if token in _SIGNS:
        return _SIGNS[token]
    if _DROPPED.fullmatch(piece):
        return ""
    token = token.replace("&amp;", "&")
    if _CURLY.fullmatch(piece):
        token = token.replace("&apos;", "'").translate(_QUOTES)
    if len(token) > 1:
        token = token.replace("(", "-lrb-").replace(")", "-rrb-").replace(" ", "\xa0")
    return token
