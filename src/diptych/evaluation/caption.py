"""Judge captions by what people wrote about the same pictures, and by whether they fit the picture itself.

The scores are those of COCO caption evaluation (Chen et al. 2015) with METEOR 1.5, and CLIPScore (Hessel et al. 2021)
where a dual encoder is given as judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych.capabilities import DualEncoder
from diptych.data.scenes.sample import from_json
from diptych.data.store import Dataset
from diptych.evaluation.caption_claims import Part, judge_claims
from diptych.evaluation.judged import (
    Case,
    Judged,
    Predictions,
    Sums,
    Values,
    largest,
    none_left,
    number,
    without_interval,
)
from diptych.evaluation.metrics.bleu import bleu_counts, corpus_bleu, each_bleu
from diptych.evaluation.metrics.captions import score_captions
from diptych.evaluation.metrics.diversity import distinct_n, lengths
from diptych.evaluation.metrics.embeddings import caption_retrieves_image, clip_score, ref_clip_score
from diptych.evaluation.metrics.intervals import bootstrap_of_sums, mean_interval, share
from diptych.evaluation.metrics.meteor import corpus_meteor, find_meteor_data, meteor
from diptych.evaluation.metrics.ngrams import ORDER
from diptych.evaluation.metrics.tokenizer import tokenize
from diptych.types import Estimate, InputError

Floats = NDArray[np.float64]
Counts = dict[str, tuple[Floats, Callable[[Floats], Floats]]]


def evaluate_caption(
    model: Any,
    dataset: Dataset,
    *,
    judge: Any = None,
    meteor_data: Path | None = None,
    batch_size: int = 16,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """Describe every picture and compare with its captions.

    Chance is what the model's own captions reach when they are dealt out to the pictures anew: a model that says the
    same of every picture is at chance, however well it writes. On `scenes` captions are checked against the scene too:
    see `diptych.evaluation.caption_claims`.

    Args:
        judge: a dual encoder, for CLIPScore and for whether a caption finds its own picture among all of them.
        meteor_data: see `metrics.meteor.find_meteor_data`.

    Raises:
        InputError: the model writes no captions, or fewer than two samples have captions and a readable picture.
    """
    from diptych.tasks.caption import caption  # loads torch, which judging what others said does not need

    references = [[text for text in texts or () if text.strip()] for texts in dataset.column("captions")]
    rows = [row for row, texts in enumerate(references) if texts]
    if len(rows) < 2:
        raise InputError(f"{dataset.name}: captions: expected two or more samples that have one, got {len(rows)}")
    found = caption(model, dataset.select(rows), batch_size=batch_size, device=device, progress=progress)
    if len(found.kept) < 2:
        raise none_left(dataset.name, "samples" if not found.kept else "samples but one", len(rows), found.rejected)
    kept = [rows[i] for i in found.kept]
    pictures = dataset.select(kept)
    written = [reply.text for reply in found.replies]
    judged = _Against(written, [references[row] for row in kept], np.random.default_rng(seed), meteor_data)
    estimates, each, counts, notes = judged.scores()
    parts = [] if judge is None else [_judged_by(judge, pictures, written, judged, batch_size, device)]
    texts = [sample.texts for sample in pictures.take(range(len(pictures)), fields={"texts"})]
    if all("scene" in some for some in texts):
        claims, note = judge_claims(written, [from_json(some["scene"]) for some in texts], judged.dealt)
        parts.append(claims)
        notes.append(note)
    for part in parts:
        for name, (numbers, chance) in part.items():
            each[name] = numbers
            estimates[name] = mean_interval(numbers, judged.rng, chance=chance, largest=largest(name))
    return Judged(
        "caption",
        estimates,
        {name: Values.of(kept, [0] * len(kept), numbers) for name, numbers in each.items()},
        [
            Case(row, score, "", reply.text, "\n".join(references[row]), reply.confidence)
            for row, score, reply in zip(kept, each["caption/cider_d"].tolist(), found.replies)
        ],
        list(found.rejected),
        {"sample without a caption": len(references) - len(rows)},
        Predictions("captions_results.json", coco_results(pictures.ids, written)),
        notes,
        sums={name: Sums(np.array(kept), *one) for name, one in counts.items()},
    )


def coco_results(ids: Sequence[str], captions: Sequence[str]) -> list[dict[str, Any]]:
    """Captions in the format of COCO's server: `image_id` is a number where the sample's id is one."""
    return [{"image_id": number(id), "caption": text} for id, text in zip(ids, captions)]


def score_against(
    written: Sequence[str], references: Sequence[Sequence[str]], *, meteor_data: Path | None = None, seed: int = 0
) -> Scored:
    """Judge captions that anybody wrote."""
    return _Against(written, references, np.random.default_rng(seed), meteor_data).scores()


class Scored(NamedTuple):
    """What captions reach against their references.

    Attributes:
        estimates: by the names "caption/bleu_4", ...; intervals are over pictures.
        each: of those estimates that are means the number of each caption, N.
        counts: of those that are computed from sums what each caption adds, N x F, and the number of R x F sums.
        notes: what the reader must know.
    """

    estimates: dict[str, Estimate]
    each: dict[str, Floats]
    counts: Counts
    notes: list[str]


class _Against:
    """Captions, their references, and the same captions dealt out anew."""

    def __init__(
        self,
        written: Sequence[str],
        references: Sequence[Sequence[str]],
        rng: np.random.Generator,
        meteor_data: Path | None,
    ) -> None:
        self.rng = rng
        self.tokens = tokenize(written)
        flat = tokenize([text for texts in references for text in texts])
        ends = np.cumsum([len(texts) for texts in references])
        self.references = [flat[end - len(texts) : end] for end, texts in zip(ends.tolist(), references)]
        # a random cycle: nobody keeps the own picture
        cycle = rng.permutation(len(written))
        self.dealt = np.empty(len(written), np.int64)
        self.dealt[cycle] = np.roll(cycle, 1)
        self.meteor_data = find_meteor_data(meteor_data)

    def scores(self) -> Scored:
        mixed = [self.tokens[i] for i in self.dealt]
        estimates, each = {}, {}
        counts: Counts = {}
        chance = corpus_bleu(bleu_counts(mixed, self.references))
        own_counts = bleu_counts(self.tokens, self.references)
        for n in range(ORDER):
            name = f"caption/bleu_{n + 1}"
            counts[name] = own_counts, partial(_bleu, n)
            estimates[name] = share(bootstrap_of_sums(partial(_bleu, n), own_counts, self.rng, chance=float(chance[n])))
        own, by_chance = (
            score_captions(tokens, self.references, metrics=("rouge_l", "cider_d"), tokenized=True)
            for tokens in (self.tokens, mixed)
        )
        for name, score in own.items():
            each[f"caption/{name}"] = score.each
            estimates[f"caption/{name}"] = mean_interval(
                score.each, self.rng, chance=by_chance[name].value, largest=largest(name)
            )
        found = meteor(self.tokens, self.references, self.meteor_data, tokenized=True)
        by_chance_meteor = meteor(mixed, self.references, self.meteor_data, tokenized=True).value
        counts["caption/meteor"] = found.counts.astype(np.float64), _meteors
        estimates["caption/meteor"] = share(
            bootstrap_of_sums(_meteors, found.counts, self.rng, chance=by_chance_meteor)
        )
        for n in (1, 2):  # of these captions, not an estimate for others: more captions, fewer new words
            estimates[f"caption/distinct_{n}"] = without_interval(distinct_n(self.tokens, n), len(self.tokens))
        estimates["caption/length"] = mean_interval(lengths(self.tokens), self.rng, largest=None)
        return Scored(estimates, each, counts, [f"METEOR matched words by: {', '.join(found.stages)}"])


def _bleu(n: int, counts: Floats) -> Floats:
    scores: Floats = each_bleu(counts)[:, n]
    return scores


def _meteors(counts: Floats) -> Floats:
    return np.array([corpus_meteor(row[None]) for row in counts])


def _judged_by(
    judge: Any, dataset: Dataset, written: Sequence[str], judged: _Against, batch_size: int, device: str
) -> Part:
    """CLIPScore, RefCLIPScore and the share of captions that find their own picture first."""
    from diptych.tasks.embed import embed_images, embed_texts

    if not isinstance(judge, DualEncoder):
        raise InputError("judge: expected a dual encoder, with a space for both pictures and texts")
    images = embed_images(judge, dataset, batch_size=batch_size, device=device)
    texts = embed_texts(judge, list(written), batch_size=batch_size, device=device)
    owned = [[text for text in some if text.strip()] for some in dataset.column("captions")]
    vectors = embed_texts(judge, [text for some in owned for text in some], batch_size=batch_size, device=device)
    references = np.split(vectors, np.cumsum([len(some) for some in owned])[:-1])
    mixed = texts[judged.dealt]
    return {
        "caption/clip_score": (clip_score(images, texts), float(clip_score(images, mixed).mean())),
        "caption/ref_clip_score": (
            ref_clip_score(images, texts, references),
            float(ref_clip_score(images, mixed, references).mean()),
        ),
        "caption/finds_own_picture": (caption_retrieves_image(images, texts), 1 / len(images)),
    }
