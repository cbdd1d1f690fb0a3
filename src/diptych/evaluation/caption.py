"""Judge captions by what people wrote about the same pictures, and by whether they fit the picture itself.

The scores are those of COCO caption evaluation (Chen et al. 2015) with METEOR 1.5, and CLIPScore (Hessel et al. 2021)
where a dual encoder is given as judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.data.store import Dataset
from diptych.evaluation.judged import Case, Judged, Predictions, Values, number
from diptych.evaluation.metrics.bleu import bleu_counts, each_bleu
from diptych.evaluation.metrics.captions import score_captions
from diptych.evaluation.metrics.diversity import distinct_n
from diptych.evaluation.metrics.embeddings import caption_retrieves_image, clip_score, ref_clip_score
from diptych.evaluation.metrics.intervals import bootstrap_of_sums, mean_interval
from diptych.evaluation.metrics.meteor import find_meteor_data, meteor
from diptych.evaluation.metrics.tokenizer import tokenize
from diptych.tasks.caption import caption
from diptych.tasks.embed import embed_images, embed_texts
from diptych.types import DualEncoder, Estimate, InputError


def evaluate_caption(
    model: Any,
    dataset: Dataset,
    *,
    judge: Any = None,
    meteor_data: Path | None = None,
    batch_size: int = 64,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Judged:
    """Describe every picture and compare with its captions.

    Chance is what the model's own captions reach when they are dealt out to the pictures anew: a model that says the
    same of every picture is at chance, however well it writes.

    Args:
        judge: a dual encoder, for CLIPScore and for whether a caption finds its own picture among all of them.
        meteor_data: see `metrics.meteor.find_meteor_data`.

    Raises:
        InputError: the model writes no captions, or fewer than two samples have captions and a readable picture.
    """
    references = [[text for text in texts or () if text.strip()] for texts in dataset.column("captions")]
    rows = [row for row, texts in enumerate(references) if texts]
    found = caption(model, dataset.select(rows), batch_size=batch_size, device=device, progress=progress)
    if len(found.kept) < 2:
        raise InputError(f"{dataset.name}: expected two or more samples with captions and a readable picture")
    kept = [rows[i] for i in found.kept]
    written = [reply.text for reply in found.replies]
    judged = _Against(written, [references[row] for row in kept], np.random.default_rng(seed), meteor_data)
    estimates, each, notes = judged.scores()
    if judge is not None:
        more, more_each = _judged_by(judge, dataset.select(kept), written, judged, batch_size, device)
        estimates, each = estimates | more, each | more_each
    sample_ids = dataset.select(kept).ids
    return Judged(
        "caption",
        estimates,
        {name: Values.of(kept, [0] * len(kept), numbers) for name, numbers in each.items()},
        [
            Case(row, score, "", reply.text, " | ".join(references[row]), reply.confidence)
            for row, score, reply in zip(kept, each["caption/cider_d"].tolist(), found.replies)
        ],
        list(found.rejected),
        {"sample without a caption": len(references) - len(rows)},
        Predictions("captions_results.json", coco_results(sample_ids, written)),
        notes,
    )


def coco_results(ids: Sequence[str], captions: Sequence[str]) -> list[dict[str, Any]]:
    """Captions in the format of COCO's server: `image_id` is a number where the sample's id is one."""
    return [{"image_id": number(id), "caption": text} for id, text in zip(ids, captions)]


def score_against(
    written: Sequence[str], references: Sequence[Sequence[str]], *, meteor_data: Path | None = None, seed: int = 0
) -> tuple[dict[str, Estimate], dict[str, NDArray[np.float64]], list[str]]:
    """Judge captions that anybody wrote: (estimates, values of each caption, what the reader must know)."""
    return _Against(written, references, np.random.default_rng(seed), meteor_data).scores()


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

    def scores(self) -> tuple[dict[str, Estimate], dict[str, NDArray[np.float64]], list[str]]:
        """By the names "caption/bleu_4", ...; intervals are over pictures."""
        mixed = [self.tokens[i] for i in self.dealt]
        own = score_captions(self.tokens, self.references, tokenized=True)
        chance = score_captions(mixed, self.references, tokenized=True)
        estimates, each = {}, {}
        counts = bleu_counts(self.tokens, self.references)
        for n in range(1, 5):
            estimates[f"caption/bleu_{n}"] = bootstrap_of_sums(
                lambda sums, n=n: each_bleu(sums)[:, n - 1], counts, self.rng, chance=chance[f"bleu_{n}"].value
            )
        for name in ("rouge_l", "cider_d"):
            each[f"caption/{name}"] = own[name].each
            estimates[f"caption/{name}"] = mean_interval(own[name].each, self.rng, chance=chance[name].value)
        found = meteor(self.tokens, self.references, self.meteor_data, tokenized=True)
        by_chance = meteor(mixed, self.references, self.meteor_data, tokenized=True)
        around = mean_interval(found.each, self.rng)
        shift = found.value - around.value  # the corpus score is no mean; its interval has that of the mean's width
        estimates["caption/meteor"] = Estimate(
            found.value, around.low + shift, around.high + shift, around.n, by_chance.value
        )
        each["caption/meteor"] = found.each
        for n in (1, 2):
            share = distinct_n(self.tokens, n)
            estimates[f"caption/distinct_{n}"] = Estimate(share, share, share, len(self.tokens))
        lengths = np.array([len(text.split()) for text in self.tokens], np.float64)
        estimates["caption/length"] = mean_interval(lengths, self.rng)
        return estimates, each, [f"METEOR matched words by: {', '.join(found.stages)}"]


def _judged_by(
    judge: Any, dataset: Dataset, written: Sequence[str], judged: _Against, batch_size: int, device: str
) -> tuple[dict[str, Estimate], dict[str, NDArray[np.float64]]]:
    """CLIPScore, RefCLIPScore and the share of captions that find their own picture first."""
    if not isinstance(judge, DualEncoder):
        raise InputError("judge: expected a dual encoder, with a space for both pictures and texts")
    images = embed_images(judge, dataset, batch_size=batch_size, device=device)
    texts = embed_texts(judge, list(written), batch_size=batch_size, device=device)
    flat = [text for some in dataset.column("captions") for text in some if text.strip()]
    vectors = embed_texts(judge, flat, batch_size=batch_size, device=device)
    sizes = [sum(bool(text.strip()) for text in some) for some in dataset.column("captions")]
    references = np.split(vectors, np.cumsum(sizes)[:-1])
    mixed = texts[judged.dealt]
    finds = caption_retrieves_image(images, texts)
    each = {
        "caption/clip_score": clip_score(images, texts),
        "caption/ref_clip_score": ref_clip_score(images, texts, references),
        "caption/finds_own_picture": finds,
    }
    chance = {
        "caption/clip_score": float(clip_score(images, mixed).mean()),
        "caption/ref_clip_score": float(ref_clip_score(images, mixed, references).mean()),
        "caption/finds_own_picture": 1 / len(images),
    }
    return {name: mean_interval(values, judged.rng, chance=chance[name]) for name, values in each.items()}, each
