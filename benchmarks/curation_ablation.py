"""What each step of curation is worth: LiT trained on raw pairs, on each step of a plan alone, and on the whole plan.

    python benchmarks/curation_ablation.py               # clipart, then generated scenes with noise and bias
    python benchmarks/curation_ablation.py --on scenes --steps 100

Every model is judged on the same held-out pairs and compared with the raw one on them, text by text (paired bootstrap).
Clipart: the curated pairs of the creators that `diptych demo` holds out. Scenes: trained with wrong captions and with
colours that go with the ground, judged on clean and unbiased scenes. It needs the pretrained image tower (a package
index, or a filled cache) and prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diptych import api, fitting, pocket
from diptych.cli.demo import HELD_OUT, SMALL_TEXT, SPLIT_SEED
from diptych.config import as_dict, parse
from diptych.data import Dataset, import_dataset, open_dataset
from diptych.data.curate import DEFAULT, Plan
from diptych.evaluation.metrics.intervals import paired_difference
from diptych.evaluation.retrieve import RetrievalResult, evaluate_retrieval
from diptych.recipes import recipe

NOISE, BIAS, SCENES, JUDGED = 0.4, 0.8, 4000, 500


def plans() -> dict[str, tuple[Any, ...]]:
    """Raw, each step of the default plan alone, and all of them."""
    alone: dict[str, tuple[Any, ...]] = {}
    for step in DEFAULT:
        kind = as_dict(step)
        name = kind["do"] + (f" per {kind['per']}" if "per" in kind else "")
        alone[name] = (step,)
    return {"raw": (), **alone, "all": DEFAULT}


def fit(part: Dataset, out: Path, steps: int, seed: int) -> Any:
    """LiT with a locked EfficientNet-Lite0 and a small text tower from scratch."""
    settings = recipe(
        "lit",
        preset="Lu",
        settings={
            "model": {"image": as_dict(pocket.CONFIG)["image"], "text": SMALL_TEXT},
            "training": {"steps": steps, "lr": 1e-3, "seed": seed},
            "loader": {"held_out": 0.0, "seed": seed},
        },
    )
    return fitting.train(settings, part, out).model


class Contest:
    """Trains on one set of pairs after the other; equal pairs are trained on once."""

    def __init__(self, judged: Dataset, work: Path, steps: int, seed: int) -> None:
        self.judged, self.work, self.steps, self.seed = judged, work, steps, seed
        self.results: dict[str, tuple[int, RetrievalResult]] = {}
        self._known: dict[str, RetrievalResult] = {}

    def enter(self, name: str, part: Dataset) -> None:
        """Train on `part` and judge the model; it stays in the folder `run-NAME`."""
        content = str((part.ids, part.column("captions")))
        if content not in self._known:
            model = fit(part, self.work / f"run-{name}", self.steps, self.seed)
            self._known[content] = evaluate_retrieval(model, self.judged)
        self.results[name] = len(part), self._known[content]


def table(results: Mapping[str, tuple[int, RetrievalResult]], title: str) -> None:
    """One row a plan: pairs, R@10 both ways with intervals, and the difference to raw with its own."""
    print(f"\n### {title}\n")
    print("| trained on | pairs | image to text R@10 | text to image R@10 | text to image, beside raw |")
    print("|---|---|---|---|---|")
    raw = results["raw"][1]
    for name, (pairs, result) in results.items():
        cells = []
        for way in ("i2t", "t2i"):
            found = result.estimates[f"retrieval/{way}_r@10"]
            cells.append(f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]")
        beside = ""
        if name != "raw":
            first, second = (r.side("t2i").hit(10) for r in (result, raw))
            rng = np.random.default_rng(0)
            change = paired_difference(first, second, rng, groups=result.image_of_text).estimate
            beside = f"{change.value:+.1%} [{change.low:+.1%}, {change.high:+.1%}]"
        print(f"| {name} | {pairs:,} | {' | '.join(cells)} | {beside} |", flush=True)
    chance = raw.estimates["retrieval/t2i_r@10"].chance or 0.0
    print(f"\n{len(raw.rows):,} pictures and {len(raw.captions):,} texts judged; chance {chance:.1%}.", flush=True)


def on_clipart(work: Path, steps: int, seed: int) -> None:
    """Each plan over the raw pairs; judged on the curated pairs of creators that no run saw."""
    raw = open_dataset("clipart")
    held_out = api.curate(raw, work / "clipart-all")[0].split(HELD_OUT, by="creator", seed=SPLIT_SEED)[1]
    contest = Contest(held_out, work, steps, seed)
    for name, chosen in plans().items():
        whole = api.curate(raw, work / f"clipart-{name}", Plan(chosen))[0] if chosen else raw
        contest.enter(name, whole.split(HELD_OUT, by="creator", seed=SPLIT_SEED)[0])
    table(contest.results, f"clipart, LiT, {steps} steps, seed {seed}")


def on_scenes(work: Path, steps: int, seed: int) -> None:
    """The plan that was made for clipart, over scenes with wrong captions and a bias; judged on clean scenes."""
    dials = f"noise={NOISE}&bias={BIAS}&bias_kind=color-background"
    for name, address in (
        ("noisy", f"scenes:?n={SCENES}&seed={seed}&{dials}"),
        ("clean", f"scenes:?n={SCENES}&seed={seed}"),
        ("judged", f"scenes:?n={JUDGED}&seed={seed + 1000}"),
    ):
        import_dataset(address, work / name)
    noisy, clean, judged = (open_dataset(work / name) for name in ("noisy", "clean", "judged"))
    contest = Contest(judged, work, steps, seed)
    for name, chosen in plans().items():
        contest.enter(name, api.curate(noisy, work / f"scenes-{name}", Plan(chosen))[0] if chosen else noisy)
    similar = [{"do": "similarity", "model": str(work / "run-raw" / "model"), "lowest": NOISE}]
    by_itself = parse(Plan, {"steps": similar})
    contest.enter("similarity, by the raw model itself", api.curate(noisy, work / "scenes-similar", by_itself)[0])
    contest.enter("no noise, no bias", clean)
    table(contest.results, f"scenes with {NOISE:.0%} wrong captions and bias {BIAS}, LiT, {steps} steps, seed {seed}")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", choices=("clipart", "scenes", "both"), default="both")
    parser.add_argument("--steps", type=int, default=280)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    for name, run in (("clipart", on_clipart), ("scenes", on_scenes)):
        if options.on in (name, "both"):
            with tempfile.TemporaryDirectory() as folder:
                run(Path(folder), options.steps, options.seed)
    print(f"\n{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
