"""What the caption tokenizer takes for one token: a list of patterns; where several match, the longest wins.

Written from experiments with the tokenizer of COCO caption evaluation (Stanford's PTBTokenizer 3.4.1 as pycocoevalcap
1.2 runs it), not from its source: its abbreviations and contractions were found by asking it about every word of up to
four letters and a large word list, its character classes by asking about every one, its grammar by random strings.
`tests/golden/tokenizer.py` makes the captions that it is held to.
"""

from __future__ import annotations

import re
from unicodedata import category

# What a character counts as, written as one character: `_Shapes` maps a text to a text of the same length.
LETTER, MARK, DIGIT, SYMBOL, DROPPED = "é", "ö", "٣", "§", "\x01"
_ALIKE = {  # kinds of their own, and the characters that count as them
    "–": "—―\x96\x97",
    "‘": "‛‹\x91",
    "’": "\x92",
    "›": "",
    "“": "”«»\x93\x94",
    "…": "\x85",
    "€": "£¢¤₠\x80½¼¾⅓⅔",
    "⁄": "",
    "²": "³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉",
    "„": "‚‟",
    "‐": "‑֊\u1885\u1886",
    "٫": "٬",
    " ": "\n",
    SYMBOL: "⁺⁻⁼⁽⁾₊₋₌₍₎",
}
_KINDS = {ord(one): kind for kind, others in _ALIKE.items() for one in kind + others}
# Symbols that are kept as tokens; others are dropped, as is everything beyond the basic plane: emoji, rare characters.
_SYMBOLS = """
    a1 a5-a9 ac ae-b1 b4 b6-b8 bf d7 f7 37e 387 589 5be 5c0 5c3 5c6 5f3-603 606-60c 614 61b 61e-61f 66a 66d 6d4 700-70d
    7f6-7f8 964-965 e3f e4f 1fbd 2016-2017 2020-2023 2030-2038 203b 203e-2042 20a4 2100-2101 2103-2106 2108-2109 2114
    2116-2118 211e-2123 2125 2127 2129 212e 213a-213b 2140-2144 214a-214d 214f 2155-215e 2190-2bff 3001-3002 3012 30fb
    ff01-ff0f ff1a-ff20 ff3b-ff40 ff5b-ff65 ffe0-ffe1 ffe5-ffe6"""
# Accents and vowel signs that belong to a word but not to a word with hyphens or one that starts with a digit.
_MARKS = """
    2c2-2c5 2d2-2df 2e5-2eb 2ed 2ef-36f 375 378-379 384-385 3f6 483-487 55a-55f 591-5bd 5bf 5c1-5c2 5c4-5c5 5c7 615-61a
    64b-65e 670 6d6-6e4 6e7-6ed 6fd-6fe 70f 711 730-74c 7a6-7b0 7eb-7f3 900-903 93c 93e-94e 951-955 962-963 981-983 9bc
    9be-9cd 9d7 9e2-9e3 a01-a03 a3c-a4f a81-a83 abc abe-acf b82 bbe-bcd c01-c03 c3e-c56 d3e-d48 e31 e34-e3a e47-e4e eb1
    eb4-ebc ec8-ecd"""


def _characters(ranges: str) -> set[int]:
    found: set[int] = set()
    for part in ranges.split():
        first, _, last = part.partition("-")
        found.update(range(int(first, 16), int(last or first, 16) + 1))
    return found


class _Shapes(dict[int, str]):
    """What characters count as, found when first met."""

    symbols, marks = _characters(_SYMBOLS), _characters(_MARKS)

    def __missing__(self, code: int) -> str:
        self[code] = shape = self._shape(code)
        return shape

    def _shape(self, code: int) -> str:
        character = chr(code)
        if code in _KINDS:
            return _KINDS[code]
        if 32 <= code < 127:
            return character
        if character.isspace():
            return "\xa0" if code == 0xA0 else "\u3000" if code > 0xA0 else "\t"
        if code > 0xFFFF:
            return DROPPED
        if code in self.marks:
            return MARK
        if code in self.symbols:
            return SYMBOL
        kind = category(character)
        return DIGIT if kind == "Nd" else LETTER if kind[0] == "L" else DROPPED


_SHAPES = _Shapes()

_ABBREVIATIONS = """
    adj adm adv al ala alex apr ariz assn asst atty aug ave bhd bldg blvd brig bros calif capt cf cie cmdr co col
    colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov govs
    hon inc ind insp intl invt jan jos jr jul jun kan kans ky lt ltd maj mar md messrs mfg mich minn mlle mme mo mon
    mont mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc ph plc ppte ppty pres prof pte ptes pty ptys pvt
    rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu tue tues univ va vs vt
    wed wis wisc wm wyo"""
_STATES = "ark az del ill la mass miss ore pa tex wash"  # abbreviations only with a capital
_STARTERS = """
    a about according additionally after an as at but earlier he her here however if in it last many more now once one
    other our she since so some such that the their then there these they this we what when while yet you"""
_BEFORE_NUMBERS = "art ca fig figs no nos op pp prop"
_FILES = """
    bat bmp c cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov pdf php pl png ppt ps py sql tar txt wav
    x xml zip"""


def _any(words: str, ignoring_case: bool = True) -> str:
    longest_first = sorted(words.split(), key=len, reverse=True)
    return f"(?{'i' if ignoring_case else ''}:{'|'.join(longest_first)})"


_A = "(?:['’]|&(?i:apos);)"  # an apostrophe
_INNER = "(?:['’`‘]|&(?i:apos);)"  # what passes for one within a word
_ENTITY = "&[aeiouAEIOU](?i:acute|grave|uml);"
_L = f"(?:[A-Za-z{LETTER}]|{_ENTITY})"
_W = f"[A-Za-z{LETTER}0-9{DIGIT}]"
_WORD = f"(?:[A-Za-z{LETTER}{MARK}]|{_ENTITY})(?:[A-Za-z{LETTER}{MARK}0-9{DIGIT}]|{_ENTITY})*"
_PREFIX = f"(?:[dDlLoO]{_INNER}(?={_W}{_W}))?"  # of d'Artagnan, l'amour, O'Brien
_HYPHENED = rf"{_PREFIX}{_W}+(?:[-‐_]{_PREFIX}{_W}+)*"
_CLITIC = rf"{_A}(?i:s|d|m|ll|re|ve)"
_NO_LETTER = f"(?:[^A-Za-z{LETTER}{MARK}]|$)"
_NO_DIGIT_OR_LETTER = "(?![A-Za-z0-9])"
_SLASHED = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
_GAP = "[- \xa0]"  # in telephone numbers
_AREA = rf"\([0-9]{{2,3}}\)[ \xa0]?|\+{{0,2}}(?:[0-9]{{2,4}}{_GAP})?[0-9]{{2,4}}{_GAP}"
_TAG_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_URL, _URL_END = r"[^ \t\"<>|()]", r"[^ \t\"<>|.!?(){},-]"  # other white space belongs to an address
_HOST = r"[^ \t\"`'<>|.!?(){}\[,"

# (what is the token, what must follow). Between matches of the same length, which include what follows, the first wins.
_RULES = [
    # contractions: the word before the clitic, and the clitic
    (f"{_HYPHENED}|{_WORD}", _CLITIC + _NO_LETTER),
    (_CLITIC, _NO_LETTER),
    ("[A-Za-z]*[A-MO-Za-mo-z]", rf"(?i:n{_A}t)"),
    (rf"(?i:n{_A}t)", ""),
    ("'[tT]", "(?i:is|was)"),
    ("(?i:can)", "(?i:not)" + _NO_DIGIT_OR_LETTER),
    ("(?i:gon|wan)", "(?i:na)" + _NO_DIGIT_OR_LETTER),
    ("(?i:got)", "(?i:ta)" + _NO_DIGIT_OR_LETTER),
    ("(?i:lem|gim)", "(?i:me)" + _NO_DIGIT_OR_LETTER),
    # words with apostrophes: B'day, hallowe'en, rock 'n' roll, y'all, '90s
    (rf"[A-HJ-XZn]{_INNER}{_L}{_L}+", ""),
    (rf"{_L}+[aeiouyAEIOUY]{_INNER}[aeiouA-Z]{_L}*", ""),
    (rf"{_A}(?i:n){_A}|’[nN]|{_A}(?i:n)(?=[ \t\xa0]|$)|{_A}(?i:em|till?|cause)", ""),
    (rf"{_A}[2-9]0[sS]|{_A}[0-9][0-9](?=[ \t\xa0]|$)", ""),
    (
        rf"[lLdDjJ]{_A}|(?i:(?:ol|dunkin|somethin){_A}|c{_A}mon|s{_A}mores|o{_A}o|cap{_A}n|ev{_A}ry|li{_A}l|nat{_A}l)",
        "",
    ),
    (rf"(?i:nor'easter|e'er|cont{_A}d\.)", ""),
    (rf"[yY]{_A}(?=[A-CE-KN-QTUW-Za-ce-kn-qtuw-z])", ""),
    ("'", "[A-Za-z]{2}"),  # a quotation starts
    (_CLITIC, ""),
    # words, with hyphens, slashes, dots: T-shirt, he/she, U.S.-based, well.Then, Yahoo!x
    (_WORD, ""),
    (_HYPHENED, ""),
    (rf"{_PREFIX}{_W}(?:{_W}|[.,])*(?:[-‐]{_PREFIX}{_W}+)+", ""),
    (rf"{_SLASHED}(?:\\?/{_SLASHED}){{1,2}}", ""),
    (rf"{_WORD}(?:[.!?]{_WORD})+", ""),
    ("[A-Za-z]", rf"\.\s+(?=[A-Z<])(?:{_any(_STARTERS)}\s|<[A-Za-z][^<>]*>)"),
    (r"(?:[A-Za-z0-9]+-[A-Za-z]\.)?[A-Za-z](?:\.[A-Za-z])*\.(?:-[A-Za-z]+)*|(?i:ph|ed)\.[dD]\.", ""),
    (rf"{_W}+(?:\.{_W}+)*\.{_any(_FILES, False)}", r"[\s.?!,]|$"),
    (rf"(?:{_HYPHENED}|{_WORD}(?:[.!?]{_WORD})+)\.", "[,;:]"),
    (rf"{_any(_ABBREVIATIONS)}\.|(?=[A-Z]){_any(_STATES)}\.", ""),
    (rf"{_any(_BEFORE_NUMBERS)}\.", rf"\s+[0-9{DIGIT}]"),
    (r"[A-Z]+(?:(?:&(?i:amp);|[&+])[A-Z]+)+|[cC]\+\+|[cCfF]#|[A-Z]+\$", ""),  # AT&T, C++, US$
    # numbers, fractions, dates, telephone numbers
    (rf"[-+]?(?:[0-9{DIGIT}]*(?:[.:,٫][0-9{DIGIT}]+)+|[0-9{DIGIT}]+)", ""),
    (r"(?:[0-9]{1,4}[- \xa0])?[0-9]{1,4}\\?[/⁄][0-9]{1,4}", ""),
    (r"[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}", ""),
    (rf"(?:{_AREA})[0-9]{{3,4}}{_GAP}?[0-9]{{3,5}}", ""),
    (r"\+{0,2}(?:[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}", ""),
    # of the web: tags, entities, addresses, names, topics
    (r"<[!?][A-Za-z-][^>\r\n]*>|</?" + _TAG_NAME + " *>", ""),
    (rf"<{_TAG_NAME}(?: +{_TAG_NAME}(?: *= *['\"][^\r\n'\"]*['\"])?)* */?>", ""),
    ("&(?i:amp|lt|gt|quot|apos|nbsp|MD|mdash|ndash|HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);", ""),
    (rf"(?i:https?)://{_URL}+{_URL_END}", ""),
    (
        rf"(?:(?i:www\.)(?:{_HOST}]+\.)+[a-zA-Z]{{2,4}}|(?:{_HOST}/@\-_$]+\.)+(?:com|net|org|edu))(?:/{_URL}+{_URL_END})?",
        "(?![A-Za-z0-9_])",
    ),
    (r"<?[a-zA-Z0-9][^ \t\xa0\"<>|()]*@(?:[^ \t\xa0\"<>|().]+\.)*[^ \t\xa0\"<>|().]+>?", ""),
    (rf"@[a-zA-Z_][a-zA-Z_0-9]*|#{_L}+", ""),
    # faces
    (r"[<>]?[:;=]['\-o*]?[()DdPpO{@|\[\]\\]", _NO_DIGIT_OR_LETTER),
    (r"\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)|[-^x=~<>']_[-^x=~<>']", ""),
    # runs of one sign, and single signs
    (r"''?|[’‘›“„]{1,2}|``?|[!?]+|-+|\.{3,5}|\*+|<<?|>>?|_+|#+|@+|²+|\\\*", ""),
    (r"\s+", ""),
    ("(?s:.)", ""),
]
_COMPILED = [re.compile(f"({token})(?:{follows})") for token, follows in _RULES]


def split(text: str) -> list[str]:
    """Cut a text into tokens, as they stand there; white space and what is no token are left out."""
    shape, place, found = text.translate(_SHAPES), 0, []
    while place < len(shape):
        longest, end = 0, place + 1
        for rule in _COMPILED:
            match = rule.match(shape, place)
            if match and match.end() - place > longest:
                longest, end = match.end() - place, match.end(1)
        if shape[place] != DROPPED and not shape[place:end].isspace():
            found.append(text[place:end])
        place = end
    return found
