"""What pictures without labels are worth: `python benchmarks/trained/few_labels.py --out labels`.

Questions about a generated world, of which a tenth has answers. Four ways to train one family for the same number of
samples, with several seeds each:

- "10 %": on the answered tenth alone;
- "10 % + averaged self": on all of it, the average of its own weights answering the rest (`--training.teacher self`);
- "10 % + pseudo-labels": on all of it, the model of "10 %" with the same seed having answered the rest where it was
  sure (`diptych data label`);
- "100 %": on all answers.

Each run is written to OUT/runs and its numbers to OUT/cells; what is there is not done again. Then OUT/results.json and
OUT/results.png are written: accuracy on unseen scenes, the mean over seeds with its 95 % interval (Student's t), and
for pseudo-labels which share of the rest was kept and how much of that is right.

    python benchmarks/trained/few_labels.py --out labels --teach

compares instead, with the same seeds, a small model that learns from answers alone with one that also learns from a
large model's logits.
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import diptych
from diptych.data.store import Dataset, DatasetWriter
from diptych.recipes import recipe

FEW, SELF, PSEUDO, ALL = "10 %", "10 % + averaged self", "10 % + pseudo-labels", "100 %"
LARGE, SMALL, TAUGHT = "teacher", "a quarter of its size", "a quarter, taught"
SLIM = {"width": 80, "layers": 4}


def world(args: argparse.Namespace) -> tuple[Dataset, Dataset]:
    """(all questions with their answers, the same with the answers of one in ten samples), written once."""
    whole, part = args.out / "all", args.out / "tenth"
    if not (part / "dataset.json").exists():
        diptych.import_dataset(f"scenes:?n={args.scenes}&size={args.size}&objects={args.objects}", whole)
        samples = Dataset.open(whole)
        with DatasetWriter(part) as out:
            for i, sample in enumerate(samples.take(range(len(samples)))):
                for one in sample.questions:
                    one.answers = one.answers if i % 10 == 0 else []
                out.write(sample)
    return Dataset.open(whole), Dataset.open(part)


def run(args: argparse.Namespace, way: str, seed: int, data: Dataset, more: dict[str, dict[str, Any]]) -> Any:
    """Train one model; the trained one."""
    settings = {
        "model": more.get("model", {}),
        "training": {"samples": args.samples, "lr": args.lr, "seed": seed, "warmup": 0.02, "checkpoint_every": 0}
        | more.get("training", {}),
        "loader": {"batch_size": args.batch, "held_out": 0.0, "seed": seed, "texts": "questions", "turns": 4}
        | more.get("loader", {}),
    }
    return diptych.train(recipe(args.family, settings=settings), data, folder(args, way, seed), show="plain").model


def folder(args: argparse.Namespace, way: str, seed: int) -> Path:
    """Where a run is."""
    names = {FEW: "few", SELF: "self", PSEUDO: "pseudo", ALL: "all", LARGE: "large", SMALL: "small", TAUGHT: "taught"}
    return Path(args.out / "runs" / f"{names[way]}-{seed}")


def cell(args: argparse.Namespace, way: str, seed: int) -> dict[str, Any]:
    """Train and judge one model; its numbers."""
    whole, part = world(args)
    more: dict[str, dict[str, Any]] = {}
    found: dict[str, Any] = {}
    data = whole
    if way == FEW:
        data = whole.select(list(range(0, len(whole), 10)))
    elif way == SELF:
        data = part
        taught = {"teacher": "self", "ema": 0.99, "sure": args.sure, "temperature": 0.0}
        more = {"training": taught, "loader": {"unlabelled": True, "augment": True}}
    elif way == PSEUDO:
        rest = [i for i in range(len(whole)) if i % 10]
        labelled = args.out / f"labelled-{seed}"
        told = diptych.label(str(folder(args, FEW, seed)), whole.select(rest), labelled, sure=args.sure, replace=True)
        found = {"kept": told.kept / told.asked, "precision": told.precision and told.precision._asdict()}
        mixture = args.out / f"mixture-{seed}.toml"
        own = args.out / "own"
        if not (own / "dataset.json").exists():
            with DatasetWriter(own) as out:
                for sample in whole.take(range(0, len(whole), 10)):
                    out.write(sample)
        mixture.write_text("".join(f'[[parts]]\ndata = "{name}"\n' for name in (own.name, labelled.name)))
        data = diptych.open_dataset(f"mix:{mixture}")
    elif way in (SMALL, TAUGHT):
        more = {"model": SLIM}
        if way == TAUGHT:
            more["training"] = {"teacher": str(folder(args, LARGE, seed)), "temperature": 2.0, "teach_weight": 1.0}
    model = run(args, way, seed, data, more)
    test = diptych.open_dataset(f"scenes:?n={args.test}&size={args.size}&objects={args.objects}&split=test")
    estimates = diptych.evaluate(model, test, "answer", seed=seed).estimates
    size = sum(one.numel() for one in model.parameters())
    accuracy = {name: one._asdict() for name, one in estimates.items()}
    return {"way": way, "seed": seed, "parameters": size, "accuracy": accuracy, **found}


def summarise(cells: list[dict[str, Any]], ways: list[str]) -> list[dict[str, Any]]:
    """For each way the mean over seeds, with its interval, and each seed's."""
    of: dict[str, list[float]] = defaultdict(list)
    for one in cells:
        of[one["way"]].append(one["accuracy"]["answer/accuracy"]["value"])
    rows = []
    for way in ways:
        own = np.array(of[way])
        half = None
        if len(own) > 1:
            half = float(stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / math.sqrt(len(own)))
        rows.append({"way": way, "mean": float(own.mean()), "half": half, "seeds": own.tolist()})
    return rows


def draw(rows: list[dict[str, Any]], chance: float, to: Path) -> None:
    """The means with their intervals, each seed as a dot, and what guessing reaches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.7 + 0.55 * len(rows)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.errorbar(row["mean"], place, xerr=row["half"] or 0, fmt="o", color="#2458a6", capsize=4)
        axes.plot(row["seeds"], [place] * len(row["seeds"]), ".", color="#2458a6", alpha=0.4)
    axes.axvline(chance, color="0.6", linewidth=1, linestyle="--", label="commonest answers")
    axes.set_yticks(range(len(rows)), [row["way"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("questions about unseen scenes answered rightly")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside upper right")
    figure.savefig(to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--family", default="vilt")
    parser.add_argument("--teach", action="store_true", help="compare a taught small model with an untaught one")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scenes", type=int, default=20000)
    parser.add_argument("--objects", default="1-2")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--samples", type=int, default=40000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--sure", type=float, default=0.95)
    parser.add_argument("--test", type=int, default=500)
    args = parser.parse_args()
    ways = [LARGE, SMALL, TAUGHT] if args.teach else [FEW, SELF, PSEUDO, ALL]
    cells = []
    for seed in range(args.seeds):
        for way in ways:
            file = args.out / "cells" / f"{folder(args, way, seed).name}.json"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(cell(args, way, seed), indent=1) + "\n", encoding="utf-8")
            cells.append(json.loads(file.read_text(encoding="utf-8")))
            accuracy = cells[-1]["accuracy"]["answer/accuracy"]["value"]
            print(f"{way}, seed {seed}: {accuracy:.3f} ({cells[-1]['parameters']:,} parameters)", flush=True)
    rows = summarise(cells, ways)
    chance = float(np.mean([one["accuracy"]["answer/accuracy"]["chance"] for one in cells]))
    told = [one for one in cells if "kept" in one]
    results = {"rows": rows, "chance": chance, "pseudo_labels": [(one["kept"], one["precision"]) for one in told]}
    stem = "taught" if args.teach else "results"
    (args.out / f"{stem}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    draw(rows, chance, args.out / f"{stem}.png")
    for row in rows:
        half = "" if row["half"] is None else f" +- {row['half']:.3f}"
        print(f"{row['way']:24} {row['mean']:.3f}{half}")
    for one in told:
        print(f"seed {one['seed']}: {one['kept']:.1%} of the rest kept, {one['precision']['value']:.1%} of that right")


if __name__ == "__main__":
    main()
