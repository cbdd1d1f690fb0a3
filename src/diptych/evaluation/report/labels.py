"""How numbers are named and written for people: "retrieval/i2t_r@1" is "Picture to text, R@1", 0.52 is "52.0 %"."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from diptych.types import Estimate


@dataclass(frozen=True)
class Metric:
    """A metric's name for people and how it is read.

    A share in [0, 1]; an error, which is a share that is better when lower; a rank, also lower; or a plain number.
    """

    label: str
    kind: Literal["share", "error", "rank", "number"] = "share"

    @property
    def lower_is_better(self) -> bool:
        """Whether it is."""
        return self.kind in ("rank", "error")

    def write(self, value: float) -> str:
        """One value with its unit."""
        if self.kind in ("share", "error"):
            return f"{100 * value:.1f} %" if abs(value) >= 0.001 or abs(value) < 1e-6 else f"{100 * value:.2g} %"
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"

    def write_short(self, value: float) -> str:
        """The end of a scale."""
        return f"{100 * value:.0f} %" if self.kind in ("share", "error") and value else f"{value:,.0f}"

    def interval(self, estimate: Estimate) -> str:
        """Both ends of the interval, a share's unit left to the value before it; "not known" if they are NaN."""
        if math.isnan(estimate.low):
            return "not known"
        return " – ".join(self.write(end).removesuffix(" %") for end in (estimate.low, estimate.high))

    def axis(self, estimates: list[Estimate]) -> float:
        """The right end of a scale from 0 (or rank 1) that holds all estimates and their chance levels."""
        top = max(end for e in estimates for end in (e.value, e.high, e.chance or 0.0) if not math.isnan(end))
        if self.kind in ("share", "error"):
            return next((end for end in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8) if top <= end), 1.0)
        return max(top, 2.0 if self.kind == "rank" else 1e-9)

    def position(self, value: float, end: float) -> float:
        """Where a value lies on that scale, in per cent of its length; ranks are on a logarithmic scale."""
        at = math.log(max(value, 1.0)) / math.log(end) if self.kind == "rank" else value / end
        return round(100 * min(max(at, 0.0), 1.0), 2)

    def beats_chance(self, estimate: Estimate) -> bool | None:
        """Whether the whole interval is better than chance; None where chance or the interval is not known."""
        if estimate.chance is None or math.isnan(estimate.low):
            return None
        return estimate.high < estimate.chance if self.lower_is_better else estimate.low > estimate.chance


_KNOWN = {
    "retrieval/t2i_r@1": Metric("Text to picture, R@1"),
    "retrieval/t2i_r@5": Metric("Text to picture, R@5"),
    "retrieval/t2i_r@10": Metric("Text to picture, R@10"),
    "retrieval/t2i_median_rank": Metric("Text to picture, median rank", "rank"),
    "retrieval/i2t_r@1": Metric("Picture to text, R@1"),
    "retrieval/i2t_r@5": Metric("Picture to text, R@5"),
    "retrieval/i2t_r@10": Metric("Picture to text, R@10"),
    "retrieval/i2t_median_rank": Metric("Picture to text, median rank", "rank"),
    **{
        f"retrieval/{way}_r@{k}_by_pairs": Metric(f"{label}, R@{k}, shortlist by pairs")
        for way, label in (("t2i", "Text to picture"), ("i2t", "Picture to text"))
        for k in (1, 5, 10)
    },
    "bias/text_tells": Metric("Text alone tells it"),
    "bias/new_text_tells": Metric("A text not seen before tells it"),
    "zero_shot/top1": Metric("Zero-shot, top-1"),
    "zero_shot/top5": Metric("Zero-shot, top-5"),
    "zero_shot/mean_per_class": Metric("Zero-shot, mean over classes"),
    **{f"caption/bleu_{n}": Metric(f"BLEU-{n}") for n in range(1, 5)},
    "caption/rouge_l": Metric("ROUGE-L"),
    "caption/cider_d": Metric("CIDEr-D", "number"),
    "caption/meteor": Metric("METEOR"),
    "caption/clip_score": Metric("CLIPScore", "number"),
    "caption/ref_clip_score": Metric("RefCLIPScore", "number"),
    "caption/finds_own_picture": Metric("Caption finds its own picture first"),
    "caption/distinct_1": Metric("Distinct words, of all words"),
    "caption/distinct_2": Metric("Distinct pairs of words, of all"),
    "caption/claims_right": Metric("Claims of the caption that are true"),
    "caption/objects_right": Metric("Things of the scene described rightly"),
    "caption/tuple_f1": Metric("Things, attributes, relations (tuple F1)"),
    "caption/length": Metric("Words a caption", "number"),
    "answer/accuracy": Metric("Answers, accuracy"),
    "answer/ece": Metric("Confidence is off by (ECE)", "error"),
    "answer/confidence_auroc": Metric("Confidence tells right from wrong (AUROC)"),
    "fill/right": Metric("Hidden words guessed"),
    "probe/image": Metric("Linear probe, pictures"),
    "probe/text": Metric("Linear probe, texts"),
    "match/accuracy": Metric("True caption preferred"),
    "match/text_score": Metric("Text score (Winoground)"),
    "match/image_score": Metric("Image score (Winoground)"),
    "match/group_score": Metric("Group score (Winoground)"),
    "detect/ap": Metric("AP"),
    "detect/ap50": Metric("AP at IoU 0.5"),
    "detect/ap75": Metric("AP at IoU 0.75"),
    **{f"detect/ap_{size}": Metric(f"AP, {size} things") for size in ("small", "medium", "large")},
    **{f"detect/ar_{n}": Metric(f"Average recall, {n} a picture") for n in (1, 10, 100)},
    **{f"detect/ar_{size}": Metric(f"Average recall, {size} things") for size in ("small", "medium", "large")},
    "detect/recall@20": Metric("Things that one of 20 boxes meets"),
    "detect/referring@0.5": Metric("Expression finds its thing"),
    "segment/miou": Metric("mIoU"),
    "segment/referring_iou": Metric("Expressions, mean IoU"),
    "segment/referring@0.5": Metric("Expressions, IoU of 0.5 or more"),
    "draw/things_f1": Metric("Right things drawn (F1)"),
    "draw/clip_score": Metric("CLIPScore", "number"),
    "draw/finds_own_caption": Metric("Caption finds its drawing first"),
}
_PART = re.compile(r"(.+)\[(.+)\]")


def metric(name: str) -> Metric:
    """How to write the metric `name`; one that is not known here is a plain number under its own name.

    "answer/accuracy[count]" is written as "answer/accuracy" is, and named for the part.
    """
    part = _PART.fullmatch(name)
    if part and part[1] in _KNOWN:
        whole = _KNOWN[part[1]]
        return Metric(f"{whole.label}: {part[2]}", whole.kind)
    return _KNOWN.get(name, Metric(name, "number"))
