"""VQA accuracy as the official script of the VQA repository computes it, and plain exact match.

The rules and tables are those of `vqaEval.py` (github.com/GT-Vision-Lab/VQA), its quirks included: a number
that differs from the script's cannot be set beside published ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.types import InputError

Floats = NDArray[np.float64]

_NUMBERS = "zero one two three four five six seven eight nine ten"
NUMBER_WORDS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS.split())}
ARTICLES = frozenset({"a", "an", "the"})
# Without apostrophe -> with it. "somebody'd" is the other way round in the script, so it is here. Its capital entries
# (Im, Ive, ...) never match, because words are lower case by then; they are left out.
_PAIRS = """
aint ain't  arent aren't  cant can't  couldve could've  couldnt couldn't  couldn'tve couldn't've  couldnt've couldn't've
didnt didn't  doesnt doesn't  dont don't  hadnt hadn't  hadnt've hadn't've  hadn'tve hadn't've  hasnt hasn't
havent haven't  hed he'd  hed've he'd've  he'dve he'd've  hes he's  howd how'd  howll how'll  hows how's  isnt isn't
itd it'd  itd've it'd've  it'dve it'd've  itll it'll  maam ma'am  mightnt mightn't  mightnt've mightn't've
mightn'tve mightn't've  mightve might've  mustnt mustn't  mustve must've  neednt needn't  notve not've  oclock o'clock
oughtnt oughtn't  ow's'at 'ow's'at  'ows'at 'ow's'at  'ow'sat 'ow's'at  shant shan't  shed've she'd've  she'dve she'd've
shouldve should've  shouldnt shouldn't  shouldnt've shouldn't've  shouldn'tve shouldn't've  somebody'd somebodyd
somebodyd've somebody'd've  somebody'dve somebody'd've  somebodyll somebody'll  somebodys somebody's  someoned someone'd
someoned've someone'd've  someone'dve someone'd've  someonell someone'll  someones someone's  somethingd something'd
somethingd've something'd've  something'dve something'd've  somethingll something'll  thats that's  thered there'd
thered've there'd've  there'dve there'd've  therere there're  theres there's  theyd they'd  theyd've they'd've
they'dve they'd've  theyll they'll  theyre they're  theyve they've  twas 'twas  wasnt wasn't  wed've we'd've
we'dve we'd've  weve we've  werent weren't  whatll what'll  whatre what're  whats what's  whatve what've  whens when's
whered where'd  wheres where's  whereve where've  whod who'd  whod've who'd've  who'dve who'd've  wholl who'll
whos who's  whove who've  whyll why'll  whyre why're  whys why's  wont won't  wouldve would've  wouldnt wouldn't
wouldnt've wouldn't've  wouldn'tve wouldn't've  yall y'all  yall'll y'all'll  y'allll y'all'll  yall'd've y'all'd've
y'alld've y'all'd've  y'all'dve y'all'd've  youd you'd  youd've you'd've  you'dve you'd've  youll you'll  youre you're
youve you've
"""
CONTRACTIONS = dict(zip(_PAIRS.split()[::2], _PAIRS.split()[1::2]))
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'

_COMMA_IN_NUMBER = re.compile(r"[0-9],[0-9]")
_PERIOD = re.compile(r"\.(?![0-9])")
_PERIODS_REMOVED = 32  # the script passes re.UNICODE (32) where `sub` expects how many to replace


def normalize_answer(text: str) -> str:
    """The answer as VQA compares it: no punctuation, lower case, digits for number words, no articles, apostrophes.

    Punctuation that touches a space, and all of it when a comma stands between digits, is removed; other punctuation
    becomes a space. A period goes unless a digit follows.
    """
    text = _one_line(text)
    without = text
    number_with_comma = _COMMA_IN_NUMBER.search(text) is not None
    for sign in PUNCTUATION:
        if sign in text:
            removed = number_with_comma or sign + " " in text or " " + sign in text
            without = without.replace(sign, "" if removed else " ")
    without = _PERIOD.sub("", without, count=_PERIODS_REMOVED)
    words = (NUMBER_WORDS.get(word, word) for word in without.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def vqa_accuracy(answers: Sequence[str], truths: Sequence[Sequence[str]]) -> Floats:
    """VQA accuracy of each question (Antol et al. 2015): min(1, equal answers of the other annotators / 3), averaged
    over leaving out each annotator.

    Answers are normalised only where the annotators differ, as in the official script: where all wrote the same string,
    the answer must be that string, case and punctuation included.

    Args:
        answers: N answers.
        truths: N lists of the annotators' answers, ten each in VQA. With fewer than four nobody reaches 1, and with one
            every answer gets 0: use `exact_match` there.

    Returns:
        N numbers in [0, 1].

    Raises:
        InputError: the lengths differ or a question has no truths.
    """
    line, normal = _Remembered(_one_line), _Remembered(normalize_answer)

    def equal(answer: str, given: Sequence[str]) -> int:
        answer, lines = line[answer], [line[truth] for truth in given]
        if len(set(lines)) > 1:
            answer, lines = normal[answer], [normal[truth] for truth in lines]
        return lines.count(answer)

    matches, annotators = _count(answers, truths, equal)
    if_match_left_out, if_other_left_out = np.minimum(1, (matches - 1) / 3), np.minimum(1, matches / 3)
    return np.asarray(
        (matches * if_match_left_out + (annotators - matches) * if_other_left_out) / annotators, dtype=np.float64
    )


def soft_score(answers: Sequence[str], truths: Sequence[Sequence[str]]) -> Floats:
    """min(1, equal annotators / 3) of each question, without leaving one out, answers always normalised; N in [0, 1].

    The target of models that are trained on all ten answers. Raises InputError as `vqa_accuracy`.
    """
    matches, _ = _count(answers, truths, _equal_normalised())
    return np.minimum(1.0, matches / 3)


def exact_match(answers: Sequence[str], truths: Sequence[Sequence[str]]) -> Floats:
    """1 where the normalised answer is one of the normalised truths, else 0; N numbers.

    For questions with one truth or several equally right ones. Raises InputError as `vqa_accuracy`.
    """
    matches, _ = _count(answers, truths, _equal_normalised())
    return (matches > 0).astype(np.float64)


def mean_by_type(values: Sequence[float] | Floats, types: Sequence[str]) -> dict[str, float]:
    """The mean of the values of each question type or answer type, types in alphabetical order.

    Raises:
        InputError: not as many types as values.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(types) != len(numbers):
        raise InputError(f"types: expected {len(numbers)}, one of each question, got {len(types)}")
    names, which = np.unique(np.asarray(types, dtype=object).astype(str), return_inverse=True)
    means = np.bincount(which, weights=numbers, minlength=len(names)) / np.bincount(which, minlength=len(names))
    return dict(zip(names.tolist(), means.tolist()))


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


class _Remembered(dict[str, str]):
    """A function of strings that are met again and again: 2 million answers of VQA are 100,000 different ones."""

    def __init__(self, function: Callable[[str], str]) -> None:
        self.function = function

    def __missing__(self, text: str) -> str:
        self[text] = result = self.function(text)
        return result


def _equal_normalised() -> Callable[[str, Sequence[str]], int]:
    normal = _Remembered(normalize_answer)
    return lambda answer, given: [normal[truth] for truth in given].count(normal[answer])


def _count(
    answers: Sequence[str], truths: Sequence[Sequence[str]], equal: Callable[[str, Sequence[str]], int]
) -> tuple[Floats, Floats]:
    """Of each question: how many annotators gave the answer, and how many annotators there are."""
    if len(answers) != len(truths):
        raise InputError(f"truths: expected {len(answers)} lists, one of each answer, got {len(truths)}")
    annotators = _numbers(len(given) for given in truths)
    if not annotators.all():
        raise InputError(f"truths: expected one or more of each question, got none at position {annotators.argmin()}")
    return _numbers(equal(answer, given) for answer, given in zip(answers, truths)), annotators


def _numbers(counts: Iterable[int]) -> Floats:
    return np.fromiter(counts, dtype=np.float64)
