"""How much a caption says of its own picture and of no other, and how far people agree about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.capabilities import WritesCaptions
from diptych.evaluation.health.choosing import MATCHES, Choice, can_match, choose, failures
from diptych.evaluation.health.finding import Finding, above, halfway, not_judged, percent, reasons
from diptych.evaluation.metrics.captions import score_captions
from diptych.evaluation.metrics.intervals import mean_interval
from diptych.tasks.caption import caption
from diptych.types import Sample

TEST = "ambiguity"
AMONG = 10  # pictures that a caption is to be told apart from, its own among them
LEAST = 20


def ambiguity(model: Any, samples: Sequence[Sample], rng: np.random.Generator, **settings: Any) -> list[Finding]:
    """Agreement among references; captions that find their own picture; captions that would do for any picture."""
    return [
        _agreement(samples, rng),
        _own_caption(model, samples, rng, settings),
        _generic(model, samples, rng, settings),
    ]


def among_others(samples: Sequence[Sample], among: int, rng: np.random.Generator) -> list[Choice]:
    """Each picture with its own fullest caption and those of `among - 1` other pictures."""
    fullest = {row: max(sample.captions, key=len) for row, sample in enumerate(samples) if sample.captions}
    order = rng.permutation(list(fullest)).tolist()
    choices = []
    for at, row in enumerate(order):
        others = [fullest[order[(at + k) % len(order)]] for k in range(1, min(among, len(order)))]
        others = [text for text in dict.fromkeys(others) if text not in samples[row].captions]
        if others:
            choices.append(Choice(row, (fullest[row], *others), row))
    return choices


def _agreement(samples: Sequence[Sample], rng: np.random.Generator) -> Finding:
    name = "agreement of references"
    several = [list(sample.captions) for sample in samples if len(sample.captions) > 1]
    if len(several) < LEAST:
        return not_judged(TEST, name, "samples with several captions")
    own = score_captions([c[0] for c in several], [c[1:] for c in several], metrics=("rouge_l",))["rouge_l"].each
    turned = several[1:] + several[:1]
    other = score_captions([c[0] for c in turned], [c[1:] for c in several], metrics=("rouge_l",))["rouge_l"].each
    score, control = mean_interval(own, rng), mean_interval(other, rng)
    return Finding(
        TEST,
        name,
        "measured",
        f"A caption shares {percent(score.value)} of its words in order (ROUGE-L) with the others of its picture, and"
        f" {percent(control.value)} with those of another: the higher the second, the less such scores say.",
        score,
        control,
        "captions of other pictures",
    )


def _own_caption(model: Any, samples: Sequence[Sample], rng: np.random.Generator, settings: dict[str, Any]) -> Finding:
    name = f"own caption among {AMONG}"
    if not can_match(model):
        return not_judged(TEST, name, MATCHES)
    choices = among_others(samples, AMONG, rng)
    if len(choices) < LEAST:
        return not_judged(TEST, name, f"at least {LEAST} samples with captions")
    chosen = choose(model, [sample.images[0] for sample in samples], choices, **settings)
    guessing = float(np.mean([1 / len(choice.texts) for choice in chosen.choices]))
    score = mean_interval(chosen.hits, rng, chance=guessing)
    verdict = above(score, halfway(guessing))
    said = {
        "good": f"Finds a picture's own fullest caption among {AMONG} in {percent(score.value)} of cases.",
        "bad": f"Finds a picture's own fullest caption among {AMONG} in {percent(score.value)} of cases only"
        f" (guessing: {percent(guessing)}): captions of other pictures would do as well.",
    }.get(verdict, f"Finds it in {percent(score.value)} of cases: about at the line between good and bad.")
    return Finding(
        TEST,
        name,
        verdict,
        said,
        score,
        looks=1,
        details={"line": halfway(guessing)},
        failures=failures(samples, chosen, name),
        left_out=chosen.left_out,
    )


def _generic(model: Any, samples: Sequence[Sample], rng: np.random.Generator, settings: dict[str, Any]) -> Finding:
    """A written caption is generic if the references of another picture fit it as well as those of its own."""
    name = "written captions find their picture"
    if not isinstance(model, WritesCaptions):
        return not_judged(TEST, name, "a model that writes captions")
    wanted = [row for row, sample in enumerate(samples) if sample.captions]
    if len(wanted) < LEAST:
        return not_judged(TEST, name, f"at least {LEAST} samples with captions")
    found = caption(model, [samples[row].images[0] for row in wanted], **settings)
    written = [reply.text for reply in found.replies]
    rows, left_out = [wanted[i] for i in found.kept], reasons(found.rejected)
    if len(rows) < LEAST:
        return replace(not_judged(TEST, name, f"captions of at least {LEAST} pictures"), left_out=left_out)
    hits = []
    order = rng.permutation(len(rows))
    for at, i in enumerate(order):
        some = [i, *(order[(at + k) % len(order)] for k in range(1, min(AMONG, len(order))))]
        scores = score_captions(
            [written[i]] * len(some), [samples[rows[j]].captions for j in some], metrics=("rouge_l",)
        )["rouge_l"].each
        hits.append(float((scores[0] >= scores.max()) / (scores == scores.max()).sum()))
    guessing = 1 / min(AMONG, len(rows))
    score = mean_interval(hits, rng, chance=guessing)
    same = 1 - len(set(written)) / len(written)
    verdict = above(score, halfway(guessing))
    said = {
        "good": f"{percent(score.value)} of its captions fit the references of their own picture best, among {AMONG}.",
        "bad": f"Generic: only {percent(score.value)} of its captions fit their own picture best among {AMONG},"
        f" and {percent(same)} are repeated word for word.",
    }.get(verdict, f"{percent(score.value)} of its captions fit their own picture best among {AMONG}.")
    details = {"line": halfway(guessing), "repeated": same}
    return Finding(TEST, name, verdict, said, score, looks=1, details=details, left_out=left_out)
