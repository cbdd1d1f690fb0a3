"""Accuracy of a trained Frozen or Flamingo on few-shot episodes, by the number of solved examples it is given.

    python benchmarks/trained/few_shot.py runs/flamingo --out shots
    python benchmarks/trained/few_shot.py runs/flamingo --data "scenes:?n=400&size=64&task=episodes&split=test"

For each kind of episode: the share of last questions answered rightly after 0, 1, ... examples, the same with all
pictures blanked (the blind control), and what guessing among the answers reaches. An answer is right where the reply
has the true word or number and none of the others. Intervals are 95 %, over episodes. `--out` keeps the numbers as
shots.json and draws the curves as shots.png.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import diptych
from diptych.evaluation.metrics.intervals import mean_interval
from diptych.processing.documents import few_shot
from diptych.types import Estimate, Rejected, Sample

Asked = list[tuple[list[Any], str]]


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def asked_with(model: Any, samples: list[Sample], shots: int, blank: bool) -> Asked:
    """Each sample's last question after so many examples, with the pictures that it shows."""
    found = []
    for sample in samples:
        prompt, pictures, _ = few_shot(sample.messages, shots)
        decoded = [model.processor.decode_image(sample.images[i].data) for i in pictures]
        found.append(([np.full_like(one, 128) if blank else one for one in decoded], prompt))
    return found


def hits(model: Any, samples: list[Sample], asked: Asked, batch: int = 32) -> NDArray[np.bool_]:
    """Which replies are right."""
    replies = []
    for start in range(0, len(asked), batch):
        some = asked[start : start + batch]
        replies += model.answer([pictures for pictures, _ in some], [prompt for _, prompt in some])
    right = []
    for sample, reply in zip(samples, replies, strict=True):
        (question,) = sample.questions
        answers = set(question.choices) or {"0", "1", "2"}
        said = set() if isinstance(reply, Rejected) else words_of(reply.text) & answers
        right.append(said == set(question.answers))
    return np.array(right)


def guessed(samples: list[Sample]) -> float:
    """What guessing among the choices reaches, or without choices the commonest answer."""
    chances = [1 / len(one.questions[0].choices) for one in samples if one.questions[0].choices]
    commonest = Counter(one.questions[0].answers[0] for one in samples).most_common(1)[0][1] / len(samples)
    return float(np.mean(chances)) if chances else commonest


def draw(curves: dict[str, Any], to: Path) -> None:
    """A panel for each kind of episode: with pictures, with blanked ones, and guessing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(curves), 3), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (kind, curve) in zip(figure.subplots(1, len(curves), squeeze=False).flat, curves.items()):
        for name, label, colour in (("seen", "with pictures", "#2458a6"), ("blind", "pictures blanked", "#9aa3b2")):
            value, low, high = (np.array([one[part] for one in curve[name]]) for part in ("value", "low", "high"))
            panel.plot(value, "o-", color=colour, label=label)
            panel.fill_between(range(len(value)), low, high, color=colour, alpha=0.2, linewidth=0)
        panel.axhline(curve["chance"], color="black", linewidth=0.8, linestyle=":", label="guessing")
        panel.set(title=f"{kind}, {curve['episodes']} episodes", xlabel="solved examples", ylim=(0, 1))
        panel.set_xticks(range(len(curve["seen"])))
        panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8)
    figure.savefig(to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", default="scenes:?n=400&size=64&task=episodes&split=test")
    parser.add_argument("--most", type=int, default=4, help="examples at most")
    parser.add_argument("--out", type=Path, help="folder for shots.json and shots.png")
    options = parser.parse_args()
    model, dataset = diptych.load(options.model), diptych.open_dataset(options.data)
    by_kind: dict[str, list[Sample]] = defaultdict(list)
    for sample in dataset.take(range(len(dataset))):
        if sample.questions and sample.messages:
            by_kind[sample.questions[0].kind].append(sample)
    curves: dict[str, Any] = {}
    for kind, samples in by_kind.items():
        curve: dict[str, Any] = {"episodes": len(samples), "chance": guessed(samples), "seen": [], "blind": []}
        print(f"{kind}: {len(samples)} episodes, chance {curve['chance']:.2f}")
        fewest = min(sum(message.role == "assistant" for message in one.messages) - 1 for one in samples)
        for shots in range(min(options.most, fewest) + 1):
            found: dict[str, Estimate] = {}
            for name in ("seen", "blind"):
                right = hits(model, samples, asked_with(model, samples, shots, blank=name == "blind"))
                found[name] = mean_interval(right, np.random.default_rng(0))
                curve[name].append(found[name]._asdict())
            seen, blind = (f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in found.values())
            print(f"  {shots} examples: {seen}, pictures blanked: {blind}", flush=True)
        curves[kind] = curve
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "shots.json").write_text(json.dumps(curves, indent=2) + "\n", encoding="utf-8")
        draw(curves, options.out / "shots.png")


if __name__ == "__main__":
    main()
