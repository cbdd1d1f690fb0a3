"""Pseudo-labels: a teacher captions, answers or classifies what nobody has, and what it is sure of becomes data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from diptych import data, models, tasks
from diptych.data.store import STREAMED, Dataset, DatasetWriter
from diptych.evaluation.answer import accuracy
from diptych.evaluation.metrics.intervals import share_interval
from diptych.types import Estimate, InputError, Rejected, Reply, Sample

What = Literal["answers", "captions", "classes"]
SURE = "label_confidence"
"""Among a sample's `scores`: the least confidence of its pseudo-labels."""


class Labelled(NamedTuple):
    """What came of it.

    Attributes:
        dataset: the new one.
        asked: questions, pictures without a caption, or without a class.
        kept: of them, those of which the teacher was sure enough.
        precision: the share of right ones among what was kept or would have been, wherever the truth is known; None for
            captions, and where it is nowhere.
        unsure: those that the teacher was not sure enough of, or gave nothing for.
        rejected: pictures that could not be read, and answers that failed, each once.
    """

    dataset: Dataset
    asked: int
    kept: int
    precision: Estimate | None
    unsure: int
    rejected: list[Rejected]


def label(
    model: Any,
    dataset: Any,
    to: str | Path,
    what: What = "answers",
    *,
    sure: float = 0.9,
    labels: Sequence[str] = (),
    replace: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """Write a copy of a dataset in which a teacher has answered, captioned or classified what nobody had.

    What is known stays as it is; where it can be compared the teacher is asked all the same, to measure how often it is
    right. Questions that have no answer (`answerable` is False) are not asked. What the teacher is not sure of stays
    unlabelled; nothing is left out.

    Args:
        model: the teacher or its address.
        dataset: a dataset or its address.
        to: the new dataset's folder.
        what: "answers" to questions, "captions" of samples without one, or "classes" of samples without a `label`.
        sure: least confidence of what is kept; a teacher that gives none is taken to be sure.
        labels: the classes; needed for them alone.
        replace: the teacher's labels replace known ones too, which only serve to measure it; where it is not sure, or
            cannot see the picture, nothing stays.

    Raises `InputError` for a teacher that cannot do it, classes without `labels`, and `sure` outside [0, 1].
    """
    if not 0 <= sure <= 1:
        raise InputError(f"sure: expected a probability in [0, 1], got {sure}")
    if (what == "classes") != bool(labels):
        raise InputError("labels: expected the names of the classes where classes are asked for, and only there")
    teacher = models.load(model) if isinstance(model, (str, Path)) else model
    source = data.open_dataset(dataset) if isinstance(dataset, (str, Path)) else dataset
    settings = {"batch_size": batch_size, "device": device}
    asked = kept = unsure = 0
    rejected: list[Rejected] = []
    right: list[tuple[int, float]] = []
    with DatasetWriter(Path(to), name=Path(to).name, source=source.name) as out:
        for start in range(0, len(source), STREAMED):
            part = source.select(range(start, min(start + STREAMED, len(source))))
            samples = part.take(range(len(part)))
            wanted = list(_open(samples, what, replace))
            if replace:
                for sample in samples:
                    sample.scores.pop(SURE, None)
            replies = _ask(teacher, part, samples, wanted, what, labels, settings, rejected)
            for (i, j, truth), reply in zip(wanted, replies):
                fresh = replace or not truth
                asked += fresh
                if reply is None or (reply.confidence is not None and reply.confidence < sure):
                    unsure += fresh
                    if replace:
                        _forget(samples[i], j, what)
                    continue
                if truth and what != "captions":
                    right.append((start + i, float(accuracy([reply.text], [truth])[0])))
                if fresh:
                    kept += 1
                    _put(samples[i], j, reply, what)
            for sample in samples:
                out.write(sample)
            if progress is not None:
                progress(start + len(part), len(source))
    precision = None
    if right:
        rows, hits = zip(*right)
        precision = share_interval(hits, np.random.default_rng(seed), rows)
    return Labelled(Dataset.open(Path(to)), asked, kept, precision, unsure, list(dict.fromkeys(rejected)))


def _open(samples: Sequence[Sample], what: What, replace: bool) -> Iterator[tuple[int, int, list[str]]]:
    """What the teacher is asked: (the sample, its question, what is known)."""
    for i, sample in enumerate(samples):
        if what == "answers":
            for j, one in enumerate(sample.questions):
                if one.answerable is not False:
                    yield i, j, one.answers
        elif what == "classes":
            yield i, 0, [sample.label] if sample.label else []
        elif replace or not sample.captions:
            yield i, 0, sample.captions


def _ask(
    teacher: Any,
    part: Dataset,
    samples: Sequence[Sample],
    wanted: Sequence[tuple[int, int, list[str]]],
    what: What,
    labels: Sequence[str],
    settings: dict[str, Any],
    rejected: list[Rejected],
) -> list[Reply | None]:
    """The teacher's reply to each; None where there is none."""
    replies: list[Reply | None] = [None] * len(wanted)
    if not wanted:
        return replies
    pictures = part.select([i for i, _, _ in wanted])
    if what == "classes":
        found = tasks.classify_readable_images(teacher, pictures, labels, **settings)
        for place, one in zip(found.kept, found.answers):
            replies[place] = Reply(one.label, one.probability)
        rejected += found.rejected
        return replies
    if what == "captions":
        told: Any = tasks.caption(teacher, pictures, **settings)
    else:
        questions = [samples[i].questions[j] for i, j, _ in wanted]
        choices = [one.choices for one in questions]
        told = tasks.answer(teacher, pictures, [one.question for one in questions], choices, **settings)
    for place, reply in zip(told.kept, told.replies):
        replies[place] = reply
    rejected += told.rejected
    return replies


def _put(sample: Sample, question: int, reply: Reply, what: What) -> None:
    if what == "answers":
        sample.questions[question].answers = [reply.text]
    elif what == "classes":
        sample.label = reply.text
    else:
        sample.captions = [reply.text]
    if reply.confidence is not None:
        sample.scores[SURE] = min(sample.scores.get(SURE, 1.0), reply.confidence)


def _forget(sample: Sample, question: int, what: What) -> None:
    if what == "answers":
        sample.questions[question].answers = []
    elif what == "classes":
        sample.label = None
    else:
        sample.captions = []
