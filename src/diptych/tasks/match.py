"""How well candidate texts fit a picture, by whatever the model has: a pair score, two vectors, or words."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.capabilities import AnswersQuestions, DualEncoder, MatchesPairs
from diptych.data.store import Dataset
from diptych.machine import Precision
from diptych.tasks.embed import embed_readable_images, embed_texts
from diptych.tasks.reading import Pictures, Progress, Read, decoder
from diptych.tasks.reading import name_of as picture_name
from diptych.tasks.running import ask_each, lacks
from diptych.types import InputError, Rejected, Reply

ASK = 'Is this true of the picture: "{}"? Answer yes or no.'
YES_NO = ("yes", "no")
NO_NUMBER = "score is no number"
WHO = "a dual encoder (CLIP, LiT, ASIF, SigLIP, ...), a model with a pair score, or one that answers questions"


class Matched(NamedTuple):
    """`scores[i]` (float32, one for each candidate text, higher is better) is about picture `kept[i]`."""

    scores: list[np.ndarray]
    kept: list[int]
    rejected: list[Rejected]


def match(
    model: Any,
    images: Pictures,
    texts: Sequence[Sequence[str]],
    *,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Matched:
    """Scores of each picture's candidate texts; `texts[i]` belong to picture i, and may be none or many.

    The scores are what the model has, the first of these: of a model that scores pairs (`MatchesPairs`), its score; of
    a dual encoder, cosines in [-1, 1], where each picture is embedded once and each distinct text once; of a model
    that answers questions, the probability in [0, 1] that it gives "yes" when asked whether the text is true, and 1 or
    0 where it answers without saying how sure it is. Scores of different kinds cannot be compared with each other.

    Args:
        images: as `embed_images` takes them; the first picture of each sample of a dataset.
        batch_size: pictures, or pairs of picture and text, that the model sees at once.

    Pictures that cannot be read, or of which a score is NaN, are left out and named. Raises `InputError` for a model
    that has none of the three.
    """
    if isinstance(texts, str) or any(isinstance(some, str) for some in texts):
        raise InputError("texts: expected a list of candidate texts for each picture, got a single text")
    if len(texts) != len(images):
        raise InputError(f"texts: expected one list for each of {len(images)} pictures, got {len(texts)}")
    if isinstance(model, MatchesPairs) or (isinstance(model, AnswersQuestions) and not isinstance(model, DualEncoder)):
        told = ask_each(
            model,
            images,
            lambda read: _pair_scores(model, read, texts, batch_size),
            decoder(model),
            batch_size=batch_size,
            device=device,
            precision=precision,
            progress=progress,
        )
        return Matched(told.results, told.kept, told.rejected)
    if not isinstance(model, DualEncoder):
        raise lacks(model, "compare pictures with texts", WHO)
    words = sorted({text for some in texts for text in some})
    rows = embed_texts(model, words, batch_size=batch_size, device=device, precision=precision)
    where = dict(zip(words, rows))
    found = embed_readable_images(
        model, images, batch_size=batch_size, device=device, precision=precision, progress=progress
    )
    matched = Matched([], [], found.rejected)
    for i, vector in zip(found.kept, found.vectors):
        scores = _checked([float(vector @ where[text]) for text in texts[i]])
        if isinstance(scores, Rejected):
            name = images.ids[i] if isinstance(images, Dataset) else picture_name(images[i], i)
            matched.rejected.append(scores._replace(id=name))
        else:
            matched.scores.append(scores)
            matched.kept.append(i)
    return matched


def _pair_scores(
    model: Any, read: Read, texts: Sequence[Sequence[str]], batch_size: int
) -> list[np.ndarray | Rejected]:
    """The scores of a batch's pictures, pair by pair; a picture is rejected with the first pair that is."""
    pairs = [(i, text) for i, position in enumerate(read.positions) for text in texts[position]]
    scores: list[float | Rejected] = []
    for start in range(0, len(pairs), batch_size):
        some = pairs[start : start + batch_size]
        pictures, words = [read.pictures[i] for i, _ in some], [text for _, text in some]
        if isinstance(model, MatchesPairs):
            scores.extend(float(score) for score in model.match(pictures, words))
        else:
            replies = model.answer(
                [[one] for one in pictures], [ASK.format(text) for text in words], [YES_NO] * len(some)
            )
            scores.extend(map(_probability_of_yes, replies))
    if len(scores) != len(pairs):
        raise InputError(f"{type(model).__name__}: gave {len(scores)} scores for {len(pairs)} pairs")
    mine: list[list[float | Rejected]] = [[] for _ in read.positions]
    for (i, _), score in zip(pairs, scores):
        mine[i].append(score)
    return [_checked(some) for some in mine]


def _checked(scores: Sequence[float | Rejected]) -> np.ndarray | Rejected:
    """The scores of a picture, or what is wrong with one of them; NaN would count as neither better nor worse."""
    wrong = next((score for score in scores if isinstance(score, Rejected)), None)
    made = wrong or np.array(scores, np.float32)
    return Rejected("", NO_NUMBER) if isinstance(made, np.ndarray) and np.isnan(made).any() else made


def _probability_of_yes(reply: Reply | Rejected) -> float | Rejected:
    if isinstance(reply, Rejected):
        return reply
    yes = reply.text == YES_NO[0]
    if reply.confidence is None:
        return float(yes)
    return reply.confidence if yes else 1 - reply.confidence
