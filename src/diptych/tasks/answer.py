"""Answers to questions about pictures: in the model's own words, or one of some choices."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.capabilities import AnswersQuestions, DualEncoder, MatchesPairs
from diptych.data.store import STREAMED, Dataset
from diptych.machine import Precision
from diptych.tasks.classify import similarity_scale
from diptych.tasks.match import match
from diptych.tasks.reading import Pictures, Progress, Read, decoder
from diptych.tasks.running import ask_each, lacks, name_of
from diptych.types import InputError, Rejected, Reply

SENTENCE = "Question: {} Answer: {}."
"""What a question and one of its choices are for a model that can only compare pictures with texts."""

WHO = (
    "a family that answers (simvlm, frozen, flamingo, visualgpt), "
    "an image-text-to-text model (a folder or 'hf:ORG/NAME') or a chat endpoint ('http://HOST/v1?model=NAME')"
)


class Answered(NamedTuple):
    """`replies[i]` is the answer to question `kept[i]`; questions without an answer are in `rejected`."""

    replies: list[Reply]
    kept: list[int]
    rejected: list[Rejected]


def answer(
    model: Any,
    images: Pictures,
    questions: Sequence[str],
    choices: Sequence[Sequence[str]] | Sequence[str] | None = None,
    *,
    batch_size: int = 16,
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Answered:
    """The answer to each question, `questions[i]` being about the picture or pictures `images[i]`.

    A model that can only compare pictures with texts takes the choice c whose sentence "Question: q Answer: c." fits
    best. Its confidence is the softmax over the choices of its scores (for a dual encoder times its learnt logit
    scale, see `similarity_scale`): which choice it prefers and by how much, not a calibrated probability.

    Args:
        images: one entry for each question: a picture as `embed_images` takes it or a list of several. Of a dataset,
            all pictures of each sample. One picture with many questions is decoded once if these follow each other.
        choices: what each question is to be answered with, or one list of texts for all of them; empty for a question
            that is answered freely.

    Questions whose picture cannot be read, and those that the model gave no answer to, are left out and named. Raises
    `InputError` for a model that cannot do it: without choices, or about several pictures, one that only compares.
    """
    if isinstance(questions, str) or len(questions) != len(images):
        got = "a single text" if isinstance(questions, str) else f"{len(questions)}"
        raise InputError(f"questions: expected one for each of {len(images)} pictures, got {got}")
    options = _options(choices, len(questions))
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "device": device,
        "precision": precision,
        "progress": progress,
    }
    if isinstance(model, AnswersQuestions):

        def ask(read: Read) -> Sequence[Reply | Rejected]:
            some = None if options is None else [options[i] for i in read.positions]
            return model.answer(read.pictures, [questions[i] for i in read.positions], some)

        return Answered(*ask_each(model, images, ask, decoder(model), several=True, **settings))
    if not isinstance(model, (DualEncoder, MatchesPairs)):
        raise lacks(model, "answer questions", WHO)
    if options is None or not all(options):
        raise lacks(model, "answer questions without choices", WHO)
    return _by_matching(model, images, questions, options, settings)


def _options(choices: Sequence[Sequence[str]] | Sequence[str] | None, count: int) -> list[list[str]] | None:
    """The choices of each question; None where no question has any."""
    if choices is None:
        return None
    if isinstance(choices, str):
        raise InputError(f"choices: expected a list of texts, got the text {choices[:40]!r}")
    if choices and all(isinstance(choice, str) for choice in choices):
        options = [[str(choice) for choice in choices]] * count
    else:
        options = [list(some) for some in choices if not isinstance(some, str)]
    if len(options) != count:
        raise InputError(f"choices: expected one list for each of {count} questions, got {len(options)}")
    for some in options:
        if not all(isinstance(choice, str) and choice.strip() for choice in some) or len(set(some)) != len(some):
            raise InputError(f"choices: expected texts that differ, got {some!r}")
    return options if any(options) else None


def _by_matching(
    model: Any, images: Pictures, questions: Sequence[str], options: list[list[str]], settings: dict[str, Any]
) -> Answered:
    if any(count > 1 for count in _counts(images)):
        raise InputError(f"model {name_of(model)}: compares one picture with texts; {WHO} can be asked about several")
    if not isinstance(images, Dataset):
        images = [entry[0] if isinstance(entry, (list, tuple)) and entry else entry for entry in images]
    sentences = [[SENTENCE.format(q, choice) for choice in some] for q, some in zip(questions, options)]
    found = match(model, images, sentences, **settings)
    scale = 1.0 if isinstance(model, MatchesPairs) else similarity_scale(model)
    replies = []
    for i, scores in zip(found.kept, found.scores):
        weights = np.exp(scale * (scores.astype(np.float64) - scores.max()))
        best = int(scores.argmax())
        replies.append(Reply(options[i][best], float(weights[best] / weights.sum())))
    return Answered(replies, found.kept, found.rejected)


def _counts(images: Pictures) -> Iterator[int]:
    """How many pictures each entry has."""
    if isinstance(images, Dataset):
        for start in range(0, len(images), STREAMED):
            some = range(start, min(start + STREAMED, len(images)))
            yield from (len(sample.images) for sample in images.take(some, fields=("images",)))
    else:
        yield from (len(entry) if isinstance(entry, (list, tuple)) else 1 for entry in images)
